"""Whether lines of a k-space were lost.

A line that the header promises and that never came is explained, or it was lost:

* The header's acceleration explains lines off its lattice, and irregular sampling of about as many lines.
* Partial Fourier and reduced resolution explain the ends of a band that holds the centre of k-space.
* Random undersampling shows by a centre that is fully sampled, by more than chance, while lines are missing outside.
* A regular lattice explains itself, whatever the header says.
* Lines that a mask of the user left out are explained (`scanside.losses.undersampling`).

What is explained against the word of the header, and what scan counters would have to tell and cannot, is a doubt:
no image is marked for it, and the operator is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from scanside.losses.counters import Span
from scanside.losses.regular import Lines, ends, filled, lattice_of_rows, missing_lines
from scanside.losses.undersampling import left_out_of
from scanside.mrd.header import Encoding, MrdHeader

__all__ = ["Doubt", "Evidence", "Plan", "Verdict", "judge", "judge_averages", "told"]

_LISTED = 12  # so many lost lines are told by their counters
_KEPT = 256  # verdicts: most scans have few patterns
_BY_CHANCE = 0.01  # of lines lost at random: that they leave so large a centre whole
_ROUNDED = 0.5  # by which a header's whole number may differ from the acceleration

Kind = Literal["ends", "lattice", "mask", "few", "counters", "jump", "calibration", "averages", "flags"]


@dataclass(frozen=True)
class Plan:
    """What the header promises of the lines of one k-space, on its grid.

    Attributes:
        shape: (n2, n1) of the grid; its centre is at (n2 // 2, n1 // 2).
        offsets: along (k1, k2): grid index = counter + offset.
        acceleration: along (k1, k2).
        announced: first and last grid index along (k1, k2) by the header's limits; None where it has none.
        left_out: grid indices along k1 that a mask of the user left out.
        calibration: how many calibration lines along (k1, k2) the header announces; 0 where it says nothing.
    """

    shape: tuple[int, int]
    offsets: tuple[int, int]
    acceleration: tuple[int, int] = (1, 1)
    announced: tuple[Span | None, Span | None] = (None, None)
    left_out: tuple[int, ...] = ()
    calibration: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls,
        header: MrdHeader,
        encoding: Encoding,
        offsets: tuple[int, int] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> Plan:
        """The plan of an encoding space.

        Args:
            header: of the scan.
            encoding: one of its encoding spaces.
            offsets: where they are not those of the header's limits.
            shape: where it is not that of the encoded matrix.
        """
        n2, n1 = shape or encoding.encoded.matrix[:0:-1]
        limits = [encoding.limit(f"kspace_encode_step_{k}") for k in (1, 2)]
        sizes = (n1, n2)
        if offsets is None:
            offsets = (sizes[0] // 2 - limits[0].center, sizes[1] // 2 - limits[1].center)
        spans = [
            (max(limit.minimum + offset, 0), min(limit.maximum + offset, n - 1))
            if f"kspace_encode_step_{k}" in encoding.limits
            else None
            for k, limit, offset, n in zip((1, 2), limits, offsets, sizes, strict=True)
        ]
        return cls(
            shape=(n2, n1),
            offsets=offsets,
            acceleration=encoding.acceleration,
            announced=(spans[0], spans[1]),
            left_out=tuple(i for value in left_out_of(header) if 0 <= (i := value + offsets[0]) < n1),
            calibration=(_embedded(header, 1), _embedded(header, 2)),
        )

    @property
    def promised(self) -> Lines:
        """``(n2, n1)``: all that limits cover; all of the grid where there are none."""
        lines = np.zeros(self.shape, bool)
        k1, k2 = (span or (0, n - 1) for span, n in zip(self.announced, self.shape[::-1], strict=True))
        lines[k2[0] : k2[1] + 1, k1[0] : k1[1] + 1] = True
        return lines


def _embedded(header: MrdHeader, k: int) -> int:
    """How many calibration lines converters of Siemens data announce."""
    value = header.user_parameters.get(f"EmbeddedRefLinesE{k}", 0)
    return int(value) if isinstance(value, int | float) else 0


@dataclass(frozen=True)
class Evidence:
    """What else a stream tells about the lines of one k-space.

    Attributes:
        useless: why scan counters tell nothing, as the end of a sentence; None where they do.
        jumps: scan counters before and after each jump among the lines, a few of them.
        low_came: there is no reason to think that the lines with the lowest counters did not come.
        high_came: likewise those with the highest counters.
        unbegun: the last readout is flagged as such, and no readout of the scan is flagged as a first one.
    """

    useless: str | None = None
    jumps: tuple[Span, ...] = ()
    low_came: bool = True
    high_came: bool = True
    unbegun: bool = False


@dataclass(frozen=True)
class Doubt:
    """What cannot be decided: lines may have been lost, and no image is marked.

    Attributes:
        kind: one of each kind is told for a scan.
        text: what was found, how it is taken, and what to do if that is wrong.
    """

    kind: Kind
    text: str


@dataclass(frozen=True)
class Verdict:
    """About one k-space.

    Attributes:
        lost: what was lost, in words; empty where nothing is known to be.
        doubts: what cannot be decided; empty where something is known to be lost.
        irregular: the lines form no lattice.
    """

    lost: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    irregular: bool = False


def judge(sampled: Lines, plan: Plan, evidence: Evidence, calibrating: Lines | None = None) -> Verdict:
    """Whether lines of a k-space were lost.

    Args:
        sampled: ``(k2, k1)``, lines that came, at least one.
        plan: what the header promises.
        evidence: what else the stream tells.
        calibrating: ``(k2, k1)``, lines that are flagged as calibration.
    """
    flagged = None if calibrating is None or not calibrating.any() else np.packbits(calibrating).tobytes()
    return _judged(np.packbits(sampled).tobytes(), flagged, plan, evidence)


@lru_cache(maxsize=_KEPT)
def _judged(sampled: bytes, calibrating: bytes | None, plan: Plan, evidence: Evidence) -> Verdict:
    lines = _unpacked(sampled, plan.shape)
    lines[:, list(plan.left_out)] |= (
        lines.any(axis=1, keepdims=True) if max(plan.acceleration) == 1 else False
    )
    if not (plan.promised & ~lines).any():
        return Verdict()
    return _Case(
        lines, plan, evidence, None if calibrating is None else _unpacked(calibrating, plan.shape)
    ).verdict()


def _unpacked(packed: bytes, shape: tuple[int, int]) -> Lines:
    n = shape[0] * shape[1]
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=n).astype(bool).reshape(shape)


def judge_averages(
    counts: npt.NDArray[np.int32],
    n_averages: int,
    plan: Plan,
    evidence: Evidence,
    calibrating: Lines | None = None,
) -> Verdict:
    """Whether lines came in fewer averages than others.

    Args:
        counts: ``(k2, k1)``, how often each line came.
        n_averages: how often the header announces them.
        plan: what the header promises.
        evidence: what else the stream tells.
        calibrating: ``(k2, k1)``, lines that are for calibration only: these need not come in every average.
    """
    most = min(int(counts.max()), n_averages)
    of_image = counts > 0 if calibrating is None else (counts > 0) & ~calibrating
    fewer = of_image & (counts < most)
    if not fewer.any():
        return Verdict()
    between = filled(counts >= most) & fewer
    if between.any() or not (evidence.low_came and evidence.high_came):
        return Verdict(lost=(f"{told(fewer, plan)} came in fewer averages than other lines",))
    text = (
        f"{told(fewer, plan)} came in fewer averages than the lines about the centre, which is taken for planned: if "
        "it was not, lines were lost; acquire again"
    )
    return Verdict(doubts=(Doubt("averages", text),))


def told(lines: Lines, plan: Plan) -> str:
    """Lines by their counters."""
    k2, k1 = np.nonzero(lines)
    offset1, offset2 = plan.offsets
    values = [str(value) for value in (k1 - offset1)[:_LISTED]]
    if lines.shape[0] > 1:
        values = [f"{a}/{b}" for a, b in zip(values, (k2 - offset2)[:_LISTED], strict=True)]
    more = f" and {len(k1) - _LISTED} more" if len(k1) > _LISTED else ""
    steps = "kspace_encode_step_1" + ("/2" if lines.shape[0] > 1 else "")
    return f"{steps} {', '.join(values)}{more}"


class _Case:
    """One k-space before the judge, of which a promised line is missing."""

    def __init__(self, sampled: Lines, plan: Plan, evidence: Evidence, calibrating: Lines | None) -> None:
        self._sampled = sampled
        self._plan = plan
        self._evidence = evidence
        self._calibrating = calibrating
        self._acceleration = plan.acceleration
        self._lost = np.zeros_like(sampled)
        self._doubts: list[Doubt] = []

    def verdict(self) -> Verdict:
        missing = missing_lines(self._sampled, self._plan.acceleration, jumped=bool(self._evidence.jumps))
        irregular = missing is None
        if missing is not None:
            self._lost |= missing
        elif self._plan.acceleration == (1, 1):
            irregular = self._unannounced()
        elif self._masked:
            pass
        else:
            self._few()
        self._of_calibration(irregular)
        self._ends(regular=not irregular)
        self._lost[:, list(self._plan.left_out)] = False
        lost = [f"{told(self._lost, self._plan)} did not come"] if self._lost.any() else []
        if irregular:
            jumps = () if self._masked else self._evidence.jumps
            lost += [f"the scan counter jumps from {before} to {after}" for before, after in jumps[:4]]
            if not lost:
                self._uncounted()
        elif not lost and not self._masked:
            self._calibration_ends()
        return Verdict(tuple(lost), () if lost else tuple(self._doubts), irregular)

    @property
    def _masked(self) -> bool:
        return bool(self._plan.left_out)

    def _unannounced(self) -> bool:
        """Lines are missing that no acceleration explains; whether they are sampled irregularly on purpose."""
        gaps = filled(self._sampled) & ~self._sampled
        spacing = lattice_of_rows(self._sampled)
        if spacing != (1, 1):
            missing = missing_lines(self._sampled, spacing)
            if missing is not None:
                self._acceleration = spacing
                self._lost |= missing
                self._doubt(
                    "lattice",
                    f"the header announces no acceleration, and the lines show R = {spacing[0]} x {spacing[1]} (k1 x "
                    "k2), which is taken. If it was not planned, lines were lost: acquire again. If it was, correct "
                    "the accelerationFactor of the header; pipeline 'grappa' fills the lines between",
                )
                return False
        block = _centre(self._sampled | self._calibration_gaps())
        share = self._sampled.sum() / self._box().sum()
        if block and share**block < _BY_CHANCE:
            self._doubt(
                "mask",
                f"the header announces no acceleration, and {told(gaps, self._plan)} did not come: a fully sampled "
                f"centre of {block} lines shows undersampling at random, which is taken for planned. If it was not, "
                "lines were lost: correct the accelerationFactor of the header, or acquire again",
            )
            return True
        self._lost |= gaps if gaps.any() else self._plan.promised & ~self._sampled
        return False

    def _box(self) -> Lines:
        """Where lines were to be sampled: in a volume, of which corners may be left out, between others."""
        box = self._plan.promised
        return filled(self._sampled) if 1 not in box.shape else box

    def _few(self) -> None:
        """Irregular sampling explains as many missing lines as the header's acceleration says."""
        n, n_promised = int(self._sampled.sum()), int(self._plan.promised.sum())
        largest = math.prod(r + _ROUNDED if r > 1 else 1.0 for r in self._acceleration)
        r1, r2 = self._acceleration
        # Partial Fourier along both axes, within an ellipse, leaves more than a quarter of a volume.
        n_box = max(int(self._box().sum()), n_promised // 4)
        if n < n_box / largest / 2:
            self._lost |= self._plan.promised & ~self._sampled & self._lattice_about_centre()
        elif n < n_box / largest - 1:
            self._doubt(
                "few",
                f"{n} lines came, irregularly, where acceleration {r1} x {r2} (k1 x k2) promises "
                f"{round(n_box / r1 / r2)}: if the header's accelerationFactor is right, lines were lost; correct it "
                "or acquire again",
            )

    def _lattice_about_centre(self) -> Lines:
        lattice = np.zeros_like(self._sampled)
        (n2, n1), (r1, r2) = lattice.shape, self._acceleration
        lattice[n2 // 2 % r2 :: r2, n1 // 2 % r1 :: r1] = True
        return lattice

    def _calibration_gaps(self) -> Lines:
        """What is missing among the lines that are flagged as calibration, as long as these are a block."""
        if self._calibrating is None:
            return np.zeros_like(self._sampled)
        block = filled(self._calibrating)
        missing: Lines = block & ~self._sampled
        return missing if 4 * missing.sum() <= block.sum() else np.zeros_like(missing)

    def _of_calibration(self, irregular: bool) -> None:
        self._lost |= self._calibration_gaps()
        if self._calibrating is None or not irregular:
            return  # a lattice of which all lines are flagged (calibration interleaved in time) has no block
        missing = filled(self._calibrating) & ~self._sampled & ~self._lost
        missing[:, list(self._plan.left_out)] = False
        if missing.any():
            self._doubt(
                "calibration",
                f"of the lines that are flagged as calibration and those between, {told(missing, self._plan)} did "
                "not come: if they were to be a block, lines were lost; acquire again",
            )

    def _calibration_ends(self) -> None:
        """Nobody knows where a calibration block was to begin and to end, unless the header tells its lines."""
        if self._calibrating is None or not self._off_lattice().any():
            return
        for axis, announced in enumerate(self._plan.calibration):
            at = np.flatnonzero(self._calibrating.any(axis=axis))
            of_image = np.flatnonzero(self._sampled.any(axis=axis))
            # Partial Fourier cuts blocks, too.
            is_inside = of_image[0] < at[0] and at[-1] < of_image[-1]
            if announced and is_inside and len(at) < announced:
                self._doubt(
                    "calibration",
                    f"{len(at)} calibration lines came along k{axis + 1}, and the header announces {announced} "
                    f"(EmbeddedRefLinesE{axis + 1}): if it is right, lines were lost",
                )
        if not any(self._plan.calibration) and self._evidence.jumps:
            before, after = self._evidence.jumps[0]
            self._doubt(
                "jump",
                f"the scan counter jumps from {before} to {after}, and no line is known to be missing: these were "
                "readouts of another kind, or lines at the ends of the calibration block were lost",
            )

    def _off_lattice(self) -> Lines:
        (n2, n1), (r1, r2) = self._sampled.shape, self._acceleration
        return self._sampled & ~self._lattice_about_centre() if r1 * r2 > 1 else np.zeros((n2, n1), bool)

    def _ends(self, regular: bool) -> None:
        evidence = self._evidence
        lost, left_out = ends(
            self._sampled,
            self._acceleration,
            self._plan.announced,
            low_came=evidence.low_came,
            high_came=evidence.high_came,
            regular=regular,
        )
        self._lost |= lost
        left_out[:, list(self._plan.left_out)] = False
        if left_out.any():
            self._doubt(
                "ends",
                f"{told(left_out, self._plan)}, which the header's limits announce, did not come: this is taken for "
                "partial Fourier or reduced resolution. If the protocol has neither, lines were lost: acquire again; "
                "if it has, correct the encodingLimits of the header",
            )
        for axis, name in ((0, "kspace_encode_step_1"), (1, "kspace_encode_step_2")):
            at = np.flatnonzero(self._sampled.any(axis=axis)).tolist()
            n = self._sampled.shape[1 - axis]
            few = max(self._acceleration[axis], math.ceil(n / 16))
            if self._plan.announced[axis] is None and n > 1 and (at[0] > few or at[-1] < n - 1 - few):
                offset = self._plan.offsets[axis]
                self._doubt(
                    "ends",
                    f"{name} runs from {at[0] - offset} to {at[-1] - offset} of a matrix of {n}, and the header has "
                    "no limits of it: whether lines were lost at its ends cannot be told; write the encodingLimits "
                    "into the header",
                )

    def _uncounted(self) -> None:
        """Nobody can tell, but for scan counters and flags."""
        if self._evidence.unbegun and not self._masked:
            self._doubt(
                "flags",
                "its last readout is flagged as such, and none is flagged as the first one of a slice or repetition: "
                "lines that are sampled irregularly may have been lost at the beginning; have the converter keep the "
                "scanner's flags",
            )
        if self._evidence.useless is not None and not self._masked:
            self._doubt(
                "counters",
                f"the scan counters {self._evidence.useless}: of lines that are sampled irregularly, lost ones go "
                "unnoticed; have the converter keep the scanner's counters",
            )

    def _doubt(self, kind: Kind, text: str) -> None:
        self._doubts.append(Doubt(kind, text))


def _centre(sampled: Lines) -> int:
    """Lines of the largest box about the centre that is fully sampled; 0 where even two are not."""
    n2, n1 = sampled.shape
    largest = 0
    for reach in range(1, max(n1, n2) // 2 + 1):
        rows = slice(max(n2 // 2 - reach, 0), n2 // 2 + reach) if n2 > 1 else slice(None)
        columns = slice(max(n1 // 2 - reach, 0), n1 // 2 + reach) if n1 > 1 else slice(None)
        box = sampled[rows, columns]
        if not box.all():
            break
        largest = box.size
    return largest
