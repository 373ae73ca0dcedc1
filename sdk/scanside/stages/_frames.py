"""Frames of one film taken together, to calibrate over all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scanside.errors import CalibrationError
from scanside.items import AxisRange, KSpace
from scanside.mrd.dtypes import Headers
from scanside.stages._calibration import calibration_region_of

__all__ = ["joined_ranges", "reference_of"]


def reference_of(frames: Sequence[KSpace]) -> KSpace | None:
    """The fully sampled middle of the frames' average as calibration lines; None where there is none."""
    average = _average(frames)
    try:
        _, (k2, k1) = calibration_region_of(average, "a window of frames")
    except CalibrationError:
        return None
    n2, n1 = average.mask.shape
    k0 = AxisRange(0, average.data.shape[-1] - 1, average.data.shape[-1] // 2)
    return average.replace(
        data=average.data[:, k2, k1],
        mask=average.mask[k2, k1],
        headers=average.headers[k2, k1],
        ranges=(
            k0 if average.ranges is None else average.ranges[0],
            AxisRange(0, k1.stop - k1.start - 1, n1 // 2 - k1.start),
            AxisRange(0, k2.stop - k2.start - 1, n2 // 2 - k2.start),
        ),
    )


def joined_ranges(frames: Sequence[KSpace]) -> tuple[AxisRange, AxisRange, AxisRange] | None:
    """Ranges that hold those of all frames."""
    ranges = [frame.ranges for frame in frames if frame.ranges is not None]
    if not ranges:
        return None
    k0, k1, k2 = (
        AxisRange(min(r.first for r in axis), max(r.last for r in axis), axis[0].center)
        for axis in zip(*ranges, strict=True)
    )
    return k0, k1, k2


def _average(frames: Sequence[KSpace]) -> KSpace:
    """Every line averaged over the frames that have it; its header is that of the first of them."""
    masks = torch.stack([frame.mask for frame in frames])
    total = torch.zeros_like(frames[0].data)
    headers: Headers = frames[0].headers.copy()
    for frame in frames:
        total += frame.data
        new = (headers["version"] == 0) & (frame.headers["version"] > 0)
        headers[new] = frame.headers[new]
    count = masks.sum(0)
    return frames[0].replace(
        data=total / count.clamp(min=1)[:, :, None],
        mask=count > 0,
        headers=headers,
        ranges=joined_ranges(frames),
        reference=None,
        coil_maps=None,
        second_maps=None,
    )
