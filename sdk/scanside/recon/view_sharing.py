"""View sharing: lines that a frame of a film lacks, from the frames nearest in time.

Markl, Hennig: *Phase contrast MRI with improved temporal resolution by view sharing: k-space related velocity
mapping properties*, Magn Reson Imaging 19:669-676 (2001); the idea is that of "keyhole" imaging, van Vaals et al.,
J Magn Reson Imaging 3:671-675 (1993).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scanside.errors import ShapeError

__all__ = ["share_views"]


def share_views(
    kspace: torch.Tensor,
    mask: torch.Tensor,
    reach: int | None = None,
    wanted: Sequence[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill the lines that frames lack.

    A line comes from the nearest frame that has it; where one before and one after are equally near, it is their
    mean. What was acquired stays as it is.

    Args:
        kspace: ``(time, coil, k2, k1, k0)``.
        mask: ``(time, k2, k1)`` bool, which lines were acquired.
        reach: how many frames away lines may come from; None for any.
        wanted: which frames to fill; None for all.

    Returns:
        The wanted frames, and ``(time, k2, k1)`` int64: from how many frames away each line came; −1 where no frame
        within reach has it, and the line stays zero.

    Raises:
        ShapeError: k-space and mask do not fit.
    """
    if kspace.ndim != 5 or mask.shape != (len(kspace), *kspace.shape[2:4]):
        raise ShapeError(
            "view sharing needs k-space (time, coil, k2, k1, k0) and a mask (time, k2, k1), got "
            f"{tuple(kspace.shape)} and {tuple(mask.shape)}"
        )
    n = len(mask)
    far = 2 * n  # further away than any frame
    number = torch.arange(n, device=mask.device)[:, None, None]
    # The last frame up to each one that has the line, and the first from each one on.
    before = torch.where(mask, number, -far).cummax(0).values
    after = torch.where(mask, number, far + n).flip(0).cummin(0).values.flip(0)
    if wanted is not None:
        which = torch.as_tensor(list(wanted), device=mask.device)
        number, before, after = number[which], before[which], after[which]
    to_before, to_after = number - before, after - number
    distance = torch.minimum(to_before, to_after)
    lacking = distance >= (far if reach is None else min(reach + 1, far))
    share = torch.where(to_before == to_after, 0.5, (to_before < to_after).to(kspace.real.dtype))
    share = torch.where(lacking, 0, share)
    rest = torch.where(lacking, 0, 1 - share)
    lines = kspace.movedim(1, -2)  # (time, k2, k1, coil, k0)
    k2 = torch.arange(mask.shape[1], device=mask.device)[:, None]
    k1 = torch.arange(mask.shape[2], device=mask.device)
    # Frames before the first and after the last one have no share.
    filled = share[..., None, None] * lines[before.clamp(0, n - 1), k2, k1]
    filled += rest[..., None, None] * lines[after.clamp(0, n - 1), k2, k1]
    return filled.movedim(-2, 1).contiguous(), torch.where(lacking, -1, distance)
