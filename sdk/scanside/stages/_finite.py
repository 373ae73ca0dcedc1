"""Samples that are no numbers, found where that costs little: in small calibration blocks, and in images.

NaN or infinity in one sample spreads over the whole image, so an image tells whether anything was wrong. Only then
are the lines searched, which takes as long as it takes to read the whole k-space.
"""

from __future__ import annotations

import torch

from scanside.errors import NonFiniteError
from scanside.items import KSpace

__all__ = ["check_finite", "is_finite"]


def is_finite(values: torch.Tensor) -> bool:
    """Whether values of any shape hold neither NaN nor infinity."""
    # A sum is finite only if all that it is made of is; one that overflows is looked into.
    total = (torch.view_as_real(values) if values.is_complex() else values).sum()
    return bool(torch.isfinite(total)) or bool(torch.isfinite(values).all())


def check_finite(result: torch.Tensor, *sources: KSpace | None) -> None:
    """Raise if a result holds NaN or infinity, naming the readout that brought it.

    Args:
        result: what was computed, of any shape.
        sources: the k-space that it was computed from, and its calibration lines; acquired lines are as they came.

    Raises:
        NonFiniteError: with the scan counter of the first such readout, where one of the sources holds it.
    """
    if is_finite(result):
        return
    for source in sources:
        if source is not None:
            _check_lines(source)
    raise NonFiniteError(
        "NaN or infinite values came out of finite data: look at the calibration lines and settings"
    )


def _check_lines(item: KSpace) -> None:
    bad = (item.mask & ~torch.isfinite(item.data).all(-1).all(-3)).cpu().numpy()
    if bad.any():
        header = item.headers[bad][0]
        raise NonFiniteError(
            f"the readout with scan counter {int(header['scan_counter'])} (kspace_encode_step_1 = "
            f"{int(header['idx']['kspace_encode_step_1'])}) holds NaN or infinite samples, as do "
            f"{int(bad.sum()) - 1} further lines of its image: check the receiver or the converter"
        )
