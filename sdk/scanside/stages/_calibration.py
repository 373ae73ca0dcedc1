"""Calibration lines of a k-space, and results that are kept as long as the lines stay the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import CalibrationError
from scanside.items import KSpace
from scanside.outline import Outline
from scanside.recon.grappa import calibration_region, describe_lines
from scanside.stages._finite import check_finite
from scanside.stages._lattice import describe_sampled

__all__ = [
    "CalibrationCache",
    "calibration_block",
    "calibration_found",
    "calibration_region_of",
    "foreseen_calibration",
    "has_middle",
    "sampled_readout",
]

T = TypeVar("T")


def calibration_region_of(
    item: KSpace, purpose: str, *, at_center: bool = True
) -> tuple[KSpace, tuple[slice, slice]]:
    """The k-space that holds the calibration lines, and where in it they form a block without gaps.

    Args:
        item: its `reference` is used where there is one, else its own fully sampled part.
        purpose: what needs them, for the text of an error.
        at_center: the block must hold the centre of k-space, and is cut to what lies on both sides of it:
            a block that reaches further on one side, as partial Fourier leaves it, has its middle elsewhere.

    Returns:
        the k-space, and its ranges of (k2, k1).

    Raises:
        CalibrationError: there is no block of at least two adjacent lines, or of one where there is only one.
        NonFiniteError: they hold NaN or infinity.
    """
    source = item.reference or item
    sampled = source.mask.reshape(-1, *source.mask.shape[-2:]).all(dim=0).cpu()
    region, problem = _region(sampled, item.mask.shape[-1], _center(source) if at_center else None)
    if problem is None:
        check_finite(source.data[..., region[0], region[1], :], source)
        return source, region
    raise CalibrationError(_lacking(purpose, f"{problem}{calibration_found(item)}"))


def foreseen_calibration(outline: Outline, purpose: str, *, at_center: bool = True) -> tuple[int, int] | None:
    """The size (k2, k1) of the block that `calibration_region_of` will find; None where that cannot be told.

    Raises:
        CalibrationError: it will find none.
    """
    if outline.lines is None or (outline.calibration is None and outline.calibrated_elsewhere):
        return None
    n2, n1 = outline.lines.shape[1:]
    center = (n2 // 2, n1 // 2) if at_center else None

    def block(sampled: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], str | None]:
        (k2, k1), problem = _region(torch.from_numpy(sampled), n1, center)
        return (k2.stop - k2.start, k1.stop - k1.start), problem

    if outline.calibration is not None:
        found = [block(outline.calibration)]
    else:
        found = [block(sampled) for sampled in outline.lines]
        is_film = max(outline.values.get("repetition", 1), outline.values.get("phase", 1)) > 1
        if is_film and (outline.window is not None or any(problem for _, problem in found)):
            together: npt.NDArray[np.bool_] = np.any(outline.lines, axis=0)
            found = [block(together)]  # frames calibrate together
    for _, problem in found:
        if problem is not None:
            sampled = describe_sampled(outline.lines[0])
            raise CalibrationError(_lacking(purpose, f"{problem}; sampled are {sampled}"))
    return min(size for size, _ in found)


def _region(
    sampled: torch.Tensor, n1: int, center: tuple[int, int] | None
) -> tuple[tuple[slice, slice], str | None]:
    """Where calibration lines form a block, and what is wrong with it.

    Args:
        sampled: ``(k2, k1)``.
        n1: rows of the image's k-space along k1.
        center: (k2, k1), that the block must hold and lie about; None for any block.
    """
    region = calibration_region(sampled)
    if not bool(sampled.any()):
        return region, "no line was sampled in all of the frames that belong together"
    if region[1].stop - region[1].start < min(n1, 2):
        return region, "there are none: no two adjacent lines were sampled"
    if center is None:
        return region, None
    if not all(rows.start <= c < rows.stop for rows, c in zip(region, center, strict=True)):
        return region, (
            f"the largest block of adjacent lines, k1 rows {region[1].start}..{region[1].stop - 1}, is not at the "
            "centre of k-space"
        )
    k2, k1 = (_around(c, rows) for c, rows in zip(center, region, strict=True))
    return (k2, k1), None


def _lacking(purpose: str, what: str) -> str:
    remedy = "Acquire (more) ACS lines, or check that their flags survived the conversion"
    return f"{purpose} needs calibration (ACS) lines, but {what}. {remedy}"


def calibration_block(item: KSpace, purpose: str, *, at_center: bool = True) -> torch.Tensor:
    """The calibration lines ``(*other, coil, k2, k1, k0)``, fully sampled; arguments as `calibration_region_of`.

    Raises:
        CalibrationError: there is no block of at least two adjacent lines.
    """
    source, region = calibration_region_of(item, purpose, at_center=at_center)
    return source.data[..., region[0], region[1], sampled_readout(source, at_center=at_center)]


def has_middle(item: KSpace) -> bool:
    """Whether the lines of a k-space have a block without gaps at its centre."""
    sampled = item.mask.reshape(-1, *item.mask.shape[-2:]).all(dim=0)
    n2, n1 = sampled.shape
    k2, k1 = calibration_region(sampled)
    around = k2.start <= n2 // 2 < k2.stop and k1.start <= n1 // 2 < k1.stop
    return bool(around and k1.stop - k1.start >= min(n1, 2))


def sampled_readout(source: KSpace, *, at_center: bool) -> slice:
    """Which samples of calibration lines were acquired; with `at_center`, those on both sides of the echo."""
    if source.ranges is None:
        return slice(0, source.data.shape[-1])
    k0 = source.ranges[0]
    sampled = slice(k0.first, k0.last + 1)
    return _around(k0.center, sampled) if at_center else sampled


def calibration_found(item: KSpace) -> str:
    """Which lines a k-space has for calibration, as the end of a sentence on what is wrong with them."""
    if item.reference is None:
        sampled = item.mask.reshape(-1, *item.mask.shape[-2:]).any(dim=0).cpu().numpy()
        found = f"; none are flagged as calibration, and sampled are {describe_sampled(sampled)}"
    else:
        headers = item.reference.headers[item.reference.headers["version"] > 0]
        steps = ("kspace_encode_step_1", "kspace_encode_step_2")[: 1 if item.data.shape[-3] == 1 else 2]
        lines = (f"{name} {describe_lines(np.unique(headers['idx'][name]).tolist())}" for name in steps)
        found = f"; calibration lines are {' and '.join(lines)}"
    if elsewhere := item.meta.get("ScansideCalibration"):
        found += f"; {'; '.join(elsewhere)}"
    if item.encoding.calibration_mode == "interleaved":
        found += (
            ". The header says calibrationMode interleaved: the lines of several frames calibrate together, but no "
            "others came, or all of them together have gaps as well"
        )
    if item.incomplete is not None:
        found += f". This k-space is not complete ({item.incomplete}): acquire it again"
    return found


def _around(center: int, rows: slice) -> slice:
    """The part of a range that reaches as far below a centre as above it, up to one row."""
    reach = min(center - rows.start, rows.stop - 1 - center)
    return slice(max(rows.start, center - reach - 1), min(rows.stop, center + reach + 1))


def _center(source: KSpace) -> tuple[int, int]:
    """Index of the centre of k-space along (k2, k1)."""
    if source.ranges is not None:
        return source.ranges[2].center, source.ranges[1].center
    return source.mask.shape[-2] // 2, source.mask.shape[-1] // 2


class CalibrationCache(Generic[T]):
    """Remembers what was computed from calibration lines, one result per slice.

    It serves as long as these lines are the same: in repetitions that share separate ones, and where the result was
    computed before the image's other lines had come.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[KSpace, T]] = {}

    def get(self, item: KSpace, compute: Callable[[], T]) -> T:
        """The result for an item: the kept one if its calibration lines are the same, else a new one."""
        reference = item.reference
        if reference is None:
            return compute()
        serves = (item.counters.get(name, 0) for name in ("slice", "contrast", "set"))
        key = (item.encoding.index, *serves)
        kept = self._kept.get(key)
        if kept is not None and _same_samples(kept[0], reference):
            return kept[1]
        result = compute()
        self._kept[key] = (reference, result)
        return result


def _same_samples(a: KSpace, b: KSpace) -> bool:
    """Whether calibration lines are the same; comparing them takes next to no time."""
    return a is b or (a.ranges == b.ranges and a.mask.equal(b.mask) and torch.equal(a.data, b.data))
