"""The level of the noise in k-space, from where there is hardly any signal."""

from __future__ import annotations

import math

import torch

from scanside.errors import ShapeError

__all__ = ["level_of", "noise_level"]

_SHARE_OF_LINES = 0.5
_SHARE_OF_READOUT = 1 / 16


def noise_level(kspace: torch.Tensor, sampled: torch.Tensor, readout: slice | None = None) -> torch.Tensor:
    """Standard deviation of the noise's real part, estimated from the ends of the outer readouts.

    The median of exponentially distributed powers tells their mean even where some hold signal; and the outer corners
    of k-space hold little. In data that were prewhitened with a known bandwidth it is 1; in all others it is what
    says how far to trust them.

    Args:
        kspace: ``(coil, k1, k0)`` complex, orthonormal scaling.
        sampled: ``(k1,)`` bool, which lines were acquired.
        readout: which samples of a line were acquired; by default all.

    Returns:
        Scalar on the device of the k-space: the root mean square over the coils.

    Raises:
        ShapeError: no line was acquired, or the shapes do not fit.
    """
    if kspace.ndim != 3 or sampled.shape != kspace.shape[1:2] or not bool(sampled.any()):
        raise ShapeError(
            "the noise level is estimated from k-space (coil, k1, k0) with at least one acquired line (k1,), "
            f"got {tuple(kspace.shape)} and {tuple(sampled.shape)} with {int(sampled.sum())} lines"
        )
    lines = sampled.nonzero()[:, 0]
    outward = (lines - sampled.shape[0] // 2).abs().argsort(descending=True)
    lines = lines[outward[: math.ceil(_SHARE_OF_LINES * len(lines))]]
    acquired = kspace[..., slice(None) if readout is None else readout]
    n = max(1, round(_SHARE_OF_READOUT * acquired.shape[-1]))
    return level_of(torch.cat((acquired[:, lines, :n], acquired[:, lines, -n:]), dim=-1).flatten(1))


def level_of(samples: torch.Tensor) -> torch.Tensor:
    """The same of samples ``(coil, n)`` that hold hardly any signal."""
    power = samples.abs().square().median(1).values / math.log(2)
    return (power.mean() / 2).sqrt()
