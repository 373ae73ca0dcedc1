"""Calibration lines of a k-space, and results that are kept as long as the lines stay the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from scanside.errors import CalibrationError
from scanside.items import KSpace
from scanside.recon.grappa import calibration_region

__all__ = ["CalibrationCache", "calibration_block", "calibration_region_of"]

T = TypeVar("T")


def calibration_region_of(item: KSpace) -> tuple[KSpace, tuple[slice, slice]]:
    """The k-space that holds the calibration lines, and where in it they form a block without gaps.

    Args:
        item: its `reference` is used where there is one, else its own fully sampled middle.

    Returns:
        the k-space, and its ranges of (k2, k1).

    Raises:
        CalibrationError: no line was sampled.
    """
    source = item.reference or item
    sampled = source.mask.reshape(-1, *source.mask.shape[-2:]).all(dim=0)
    if not bool(sampled.any()):
        raise CalibrationError("no calibration line was sampled in all of the frames that belong together")
    return source, calibration_region(sampled.cpu())


def calibration_block(item: KSpace, purpose: str) -> torch.Tensor:
    """The calibration lines ``(*other, coil, k2, k1, k0)``, fully sampled.

    Raises:
        CalibrationError: there is no block of at least two adjacent lines.
    """
    source, region = calibration_region_of(item)
    n_lines = region[1].stop - region[1].start
    if n_lines < 2:
        lines = item.mask.reshape(-1, item.mask.shape[-1]).any(dim=0).nonzero().flatten().tolist()
        shown = ", ".join(map(str, lines[:12])) + (" …" if len(lines) > 12 else "")
        raise CalibrationError(
            f"{purpose} needs calibration (ACS) lines, but no two adjacent lines were sampled and none are "
            f"flagged as calibration; sampled rows of {item.mask.shape[-1]}: {shown}. Acquire ACS lines, "
            "or check that their flags survived the conversion"
        )
    return source.data[..., region[0], region[1], :]


class CalibrationCache(Generic[T]):
    """Remembers what was computed from separate calibration lines, one result per slice.

    Calibration lines that came with the image itself are new every time, so nothing is kept of them.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[KSpace, T]] = {}

    def get(self, item: KSpace, compute: Callable[[], T]) -> T:
        """The result for an item: the kept one if its calibration lines are the same object, else a new one."""
        reference = item.reference
        if reference is None:
            return compute()
        serves = (item.counters.get(name, 0) for name in ("slice", "contrast", "set"))
        key = (item.encoding.index, *serves)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is reference:
            return kept[1]
        result = compute()
        self._kept[key] = (reference, result)
        return result
