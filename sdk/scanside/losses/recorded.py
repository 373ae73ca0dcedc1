"""What was lost of a recording, of which all readouts are known at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.calibration import lines_of_images
from scanside.losses.counters import ScanCounters
from scanside.losses.judge import Plan
from scanside.losses.kspace import FIRST, LAST, Found, Marks, losses_of
from scanside.mrd.dtypes import Headers
from scanside.mrd.header import Encoding, MrdHeader

__all__ = ["SEPARATING", "recorded_losses"]

SEPARATING = ("slice", "contrast", "phase", "repetition", "set")
"""Counters of which each combination of values has a k-space of its own."""


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
    k1, k2 = (lines["idx"][f"kspace_encode_step_{k}"].astype(np.intp) + plan.offsets[k - 1] for k in (1, 2))
    n2, n1 = plan.shape
    on_grid = (k1 >= 0) & (k1 < n1) & (k2 >= 0) & (k2 < n2)
    keys = np.stack([lines["idx"][name] for name in SEPARATING], axis=1)
    names, belongs = np.unique(keys, axis=0, return_inverse=True)
    belongs = belongs.reshape(-1)
    order = np.argsort(belongs, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(belongs[order])) + 1)
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
        counts = np.zeros(plan.shape, np.int32)
        np.add.at(counts, (k2[part], k1[part]), 1)
        of_lines = np.zeros(plan.shape, lines.dtype)
        of_lines[k2[part], k1[part]] = lines[part]
        found = losses_of(counts, of_lines, plan, counters, marks, n_averages=encoding.limit("average").n)
        if found.lost or found.doubts:
            name = ", ".join(
                f"{name} {value}" for name, value in zip(SEPARATING, names[number].tolist(), strict=True)
            )
            yield name, found
