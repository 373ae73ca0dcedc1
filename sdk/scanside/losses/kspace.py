"""What was lost of one k-space, or of frames that are kept together, from the headers of its lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.losses.counters import ScanCounters, Span
from scanside.losses.judge import Doubt, Evidence, Plan, judge, judge_averages, told
from scanside.losses.regular import Lines, filled
from scanside.mrd.dtypes import Headers
from scanside.mrd.flags import CALIBRATING, AcquisitionFlag, flagged

__all__ = ["FIRST", "LAST", "Found", "Marks", "losses_of", "lost_of_block", "sorted_losses"]

FIRST = int(AcquisitionFlag.FIRST_IN_SLICE | AcquisitionFlag.FIRST_IN_REPETITION)
LAST = int(
    AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_REPETITION | AcquisitionFlag.LAST_IN_MEASUREMENT
)
"""Flags of the readouts that begin and end a k-space."""

_JUMPS = 4  # so many are told


@dataclass(frozen=True)
class Marks:
    """What flags tell about the beginning and the end of a k-space.

    Attributes:
        first_came: nothing tells that the first readout did not come.
        last_came: likewise the last one.
        expect_last: it did not, although this scan flags such readouts.
        unbegun: the last one came, and no k-space of this scan has one that is flagged as the first.
    """

    first_came: bool = True
    last_came: bool = True
    expect_last: bool = False
    unbegun: bool = False

    @classmethod
    def of(
        cls, flags: int, *, ended: bool, begun_elsewhere: bool, ended_elsewhere: bool, is_latest: bool
    ) -> Marks:
        """What they tell about one of a scan's k-spaces.

        Args:
            flags: of all readouts of this k-space, joined.
            ended: the readout came that ends it.
            begun_elsewhere: others have a readout that is flagged as the first.
            ended_elsewhere: others have one that is flagged as the last.
            is_latest: no other k-space was acquired after it.
        """
        began = bool(flags & FIRST)
        # Some producers never flag a last line: then its absence says nothing. Those that flag a first one do, unless
        # others came after this one and none was flagged.
        flags_last = ended_elsewhere or ended or ((began or begun_elsewhere) and is_latest)
        return cls(
            first_came=began or not begun_elsewhere,
            # A k-space after which another one was acquired has come to its end.
            last_came=ended or (not flags_last and not is_latest),
            expect_last=flags_last and not ended,
            unbegun=ended and not began and not begun_elsewhere,
        )


@dataclass(frozen=True)
class Found:
    """What was found out about a k-space.

    Attributes:
        lost: what was lost, in words; empty where nothing is known to be.
        doubts: what cannot be decided; empty where something is known to be lost.
    """

    lost: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def losses_of(
    counts: npt.NDArray[np.int32],
    headers: Headers,
    plan: Plan,
    counters: ScanCounters,
    marks: Marks,
    *,
    n_averages: int = 1,
    name_of: Callable[[tuple[int, ...]], str] = lambda _: "",
) -> Found:
    """What is missing of a k-space, and what nobody can tell.

    Args:
        counts: ``(*other, k2, k1)``, how often each line came.
        headers: ``(*other, k2, k1)`` of these lines.
        plan: what the header promises of each frame.
        counters: the scan counters of the whole stream.
        marks: what flags tell.
        n_averages: how often lines were to come.
        name_of: the name of a frame by its index, as the beginning of a sentence.
    """
    if 0 < counts.min() == counts.max():
        return Found()
    stamps = headers["scan_counter"][counts > 0]
    jumps = counters.gaps(int(stamps.min()), int(stamps.max()), last_came=marks.last_came)[:_JUMPS]
    return _losses(counts, headers, plan, counters.useless, tuple(jumps), marks, n_averages, name_of)


def _losses(
    counts: npt.NDArray[np.int32],
    headers: Headers,
    plan: Plan,
    useless: str | None,
    jumps: tuple[Span, ...],
    marks: Marks,
    n_averages: int = 1,
    name_of: Callable[[tuple[int, ...]], str] = lambda _: "",
) -> Found:
    """As `losses_of`, of which nothing is whole, with what scan counters tell."""
    came = counts > 0
    stamps = headers["scan_counter"][came]
    low_came, high_came = marks.first_came, marks.last_came
    if int(stamps[0]) > int(stamps[-1]):  # acquired from the highest line to the lowest
        low_came, high_came = high_came, low_came
    evidence = Evidence(useless, jumps, low_came, high_came, marks.unbegun)
    calibrating = came & flagged(headers["flags"], *CALIBRATING)
    only_calibrating = calibrating & ~flagged(headers["flags"], CALIBRATING[1])
    lost: list[str] = []
    doubts: list[Doubt] = []
    irregular = False
    for frame in np.ndindex(*counts.shape[:-2]):
        if not came[frame].any():
            lost.append(f"{name_of(frame)}no line came")
            continue
        verdict = judge(came[frame], plan, evidence, calibrating[frame])
        averages = judge_averages(counts[frame], n_averages, plan, evidence, only_calibrating[frame])
        irregular |= verdict.irregular
        lost += [name_of(frame) + text for text in (*verdict.lost, *averages.lost)]
        doubts += [*verdict.doubts, *averages.doubts]
    if not lost and not plan.left_out and counts[came].min() < counts.max():
        lost += [f"the scan counter jumps from {before} to {after}" for before, after in jumps]
    open_end = any(
        length > 1 and announced is None
        for length, announced in zip(plan.shape[::-1], plan.announced, strict=True)
    )
    if not lost and marks.expect_last and (irregular or open_end):
        lost.append("the line that is flagged as the last did not come")
    if not lost and irregular and not marks.first_came:
        lost.append("the line that is flagged as the first did not come")
    return Found(tuple(lost), () if lost else tuple(doubts))


def sorted_losses(counts: npt.NDArray[np.int32], headers: Headers, plan: Plan) -> Found:
    """What is missing of lines that somebody else has sorted into k-spaces, each ``(k2, k1)`` one.

    Of the order in which readouts came only their scan counters are left. Between them lie those of other messages:
    a jump is no evidence.

    Args:
        counts: ``(*other, k2, k1)``, 1 where a line came.
        headers: ``(*other, k2, k1)`` of these lines.
        plan: what the header promises of each k-space.
    """
    came = counts > 0
    stamps = np.sort(headers["scan_counter"][came])
    useless = None
    if (np.diff(stamps.astype(np.int64)) != 1).any():
        useless = (
            "are all 0" if not stamps.any() else "do not follow one another in what Gadgetron has sorted"
        )
    kspaces = [frame for frame in np.ndindex(*counts.shape[:-2]) if came[frame].any()]
    flags = [int(np.bitwise_or.reduce(headers["flags"][frame][came[frame]])) for frame in kspaces]
    latest = [int(headers["scan_counter"][frame][came[frame]].max()) for frame in kspaces]
    n_begun, n_ended = (sum(bool(flag & ends) for flag in flags) for ends in (FIRST, LAST))
    n_absent = counts[..., 0, 0].size - len(kspaces)
    lost = [f"no line came of {n_absent} of {counts[..., 0, 0].size} k-spaces"] if n_absent else []
    doubts: list[Doubt] = []
    for frame, flag, stamp in zip(kspaces, flags, latest, strict=True):
        marks = Marks.of(
            flag,
            ended=bool(flag & LAST),
            begun_elsewhere=n_begun > bool(flag & FIRST),
            ended_elsewhere=n_ended > bool(flag & LAST),
            is_latest=stamp == max(latest),
        )
        found = _losses(counts[frame], headers[frame], plan, useless, (), marks)
        lost += found.lost
        doubts += found.doubts
    return Found(tuple(dict.fromkeys(lost)), tuple(dict.fromkeys(doubts)))


def lost_of_block(counts: npt.NDArray[np.int32], offsets: tuple[int, int]) -> tuple[str, ...]:
    """What is missing of separate calibration lines, which are a block, wherever it begins and ends.

    Args:
        counts: ``(*other, k2, k1)``, how often each line came.
        offsets: along (k1, k2): grid index = counter + offset.
    """
    plan = Plan(counts.shape[-2:], offsets)
    frames = counts.reshape(-1, *counts.shape[-2:]) > 0
    texts = (_lost_of_one_block(frame, plan) for frame in frames if frame.any())
    return tuple(dict.fromkeys(text for lost in texts for text in lost))


def _lost_of_one_block(came: Lines, plan: Plan) -> tuple[str, ...]:
    verdict = judge(came, plan, Evidence())
    missing = filled(came) & ~came
    # Random sampling would explain gaps in an image. A block of calibration lines is never sampled so.
    if missing.any() and any(doubt.kind in ("mask", "few") for doubt in verdict.doubts):
        return (f"{told(missing, plan)} did not come",)
    return verdict.lost
