"""What was lost of a recording, of which all readouts are known at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.calibration import lines_of_images
from scanside.losses.counters import ScanCounters
from scanside.losses.judge import Plan
from scanside.losses.kspace import FIRST, LAST, Found, Marks, losses_of, lost_of_block
from scanside.mrd.dtypes import IMAGE_COUNTERS, Headers
from scanside.mrd.flags import CALIBRATING, flagged
from scanside.mrd.header import Encoding, MrdHeader

__all__ = ["recorded_calibration", "recorded_losses"]

_CALIBRATED = ("slice", "contrast", "phase", "set")
"""Counters of separate calibration lines, which serve all repetitions."""


def recorded_losses(
    lines: Headers, header: MrdHeader, encoding: Encoding, scan_counters: npt.NDArray[np.unsignedinteger]
) -> Iterator[tuple[str, Found]]:
    """What was lost of each k-space of an encoding space, with its name; whole ones are left out.

    Args:
        lines: ``(n,)`` headers of its imaging and calibration readouts, in the order in which they came.
        header: of the scan.
        encoding: the encoding space.
        scan_counters: of all readouts of the scan.
    """
    if not len(lines):
        return
    of_images = lines_of_images(lines, int(np.bitwise_or.reduce(lines["flags"])), encoding)
    if of_images is not None:
        lines = lines[of_images]
    if not len(lines):
        return
    counters = ScanCounters()
    counters.follow(scan_counters)
    plan = Plan.of(header, encoding)
    k1, k2, on_grid = _places(lines, plan)
    names, parts = _parted(lines, IMAGE_COUNTERS)
    flags = [int(np.bitwise_or.reduce(lines["flags"][part])) for part in parts]
    n_begun, n_ended = (sum(bool(flag & ends) for flag in flags) for ends in (FIRST, LAST))
    for number, part in enumerate(parts):
        marks = Marks.of(
            flags[number],
            ended=bool(flags[number] & LAST),
            begun_elsewhere=n_begun > bool(flags[number] & FIRST),
            ended_elsewhere=n_ended > bool(flags[number] & LAST),
            is_latest=int(part[-1]) == len(lines) - 1,
        )
        part = part[on_grid[part]]
        if not len(part):
            continue
        counts = _counted(k1[part], k2[part], plan)
        of_lines = np.zeros(plan.shape, lines.dtype)
        of_lines[k2[part], k1[part]] = lines[part]
        found = losses_of(counts, of_lines, plan, counters, marks, n_averages=encoding.limit("average").n)
        if found.lost or found.doubts:
            yield names[number], found


def recorded_calibration(
    lines: Headers, header: MrdHeader, encoding: Encoding
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What was lost of separate calibration lines: the name of each damaged measurement of them, and what.

    Args:
        lines: ``(n,)`` headers of imaging and calibration readouts of an encoding space.
        header: of the scan.
        encoding: the encoding space.
    """
    if encoding.calibration_mode == "embedded":
        return
    lines = lines[flagged(lines["flags"], *CALIBRATING)]
    if lines_of_images(lines, int(np.bitwise_or.reduce(lines["flags"])), encoding) is None:
        return
    plan = Plan.of(header, encoding)
    k1, k2, on_grid = _places(lines, plan)
    for name, part in zip(*_parted(lines, _CALIBRATED), strict=True):
        part = part[on_grid[part]]
        if len(part) and (lost := lost_of_block(_counted(k1[part], k2[part], plan), plan.offsets)):
            yield name, lost


def _places(
    lines: Headers, plan: Plan
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Grid indices along k1 and k2, and which of them lie on the grid."""
    k1, k2 = (lines["idx"][f"kspace_encode_step_{k}"].astype(np.intp) + plan.offsets[k - 1] for k in (1, 2))
    n2, n1 = plan.shape
    return k1, k2, (k1 >= 0) & (k1 < n1) & (k2 >= 0) & (k2 < n2)


def _parted(lines: Headers, separating: tuple[str, ...]) -> tuple[list[str], list[npt.NDArray[np.intp]]]:
    """Names of the combinations of counters that occur, and the indices of the lines of each, in order."""
    keys = np.stack([lines["idx"][name] for name in separating], axis=1)
    values, belongs = np.unique(keys, axis=0, return_inverse=True)
    belongs = belongs.reshape(-1)
    order = np.argsort(belongs, kind="stable")
    names = [
        ", ".join(f"{name} {value}" for name, value in zip(separating, row, strict=True))
        for row in values.tolist()
    ]
    return names, np.split(order, np.flatnonzero(np.diff(belongs[order])) + 1)


def _counted(k1: npt.NDArray[np.intp], k2: npt.NDArray[np.intp], plan: Plan) -> npt.NDArray[np.int32]:
    """``(k2, k1)``, how often each line came."""
    counts = np.zeros(plan.shape, np.int32)
    np.add.at(counts, (k2, k1), 1)
    return counts
