"""Which phase-encoding lines of a k-space were sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.losses.regular import lattice_of_rows

__all__ = ["AxisBand", "SamplingPattern", "describe_band"]

Lines = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AxisBand:
    """The part of a k-space axis that a protocol covers, as indices of a grid of ``n`` with its centre at n // 2.

    Attributes:
        first: lowest index.
        last: highest index.
        n: length of the grid.
    """

    first: int
    last: int
    n: int

    @property
    def size(self) -> int:
        """Number of grid points from end to end."""
        return self.last - self.first + 1

    @property
    def kind(self) -> str:
        """``full``, ``reduced`` (centred, but shorter than the grid: lower resolution) or ``partial`` (short on
        one side of the centre: partial Fourier, or an asymmetric echo).

        A sixteenth of the grid means nothing, as in `scanside.recon.partial_fourier.classify`.
        """
        below, above = self.n // 2 - self.first, self.last - self.n // 2
        allowed = math.ceil(self.n / 16)
        if abs(below - above) > allowed:
            return "partial"
        return "full" if self.first <= allowed and self.last >= self.n - 1 - allowed else "reduced"


def describe_band(band: AxisBand, what: str, reduced: str, partial: str) -> str:
    """One sentence about a band: its extent, and what follows from its being centred or not.

    Args:
        band: the band.
        what: plural of what is counted, say ``lines``.
        reduced: what a centred, shorter band means.
        partial: what a band that is short on one side means.
    """
    below, above = band.n // 2 - band.first, band.last - band.n // 2
    extent = f"{band.size} of {band.n} {what}"
    if band.kind == "full":
        return f"{extent}: the whole matrix" if band.size == band.n else f"{extent}: nearly the whole matrix"
    reach = f"{below} below and {above} above the centre"
    if band.kind == "reduced":
        return f"{extent}, {reach}: {reduced} ({100 * band.size / band.n:.0f} %), not {partial}"
    share = band.size / (2 * max(below, above + 1))
    return f"{extent}, {reach}: {partial}, {8 * share:.1f}/8 of the symmetric band"


@dataclass(frozen=True, slots=True, eq=False)
class SamplingPattern:
    """Sampled lines on the grid of the encoded matrix, each at counter − center + N // 2.

    Attributes:
        imaging: ``(k2, k1)``, lines of the image in the first k-space of the scan.
        calibration: ``(k2, k1)``, lines flagged as calibration, whether they belong to the image or not.
        within: ``(k2, k1)``, what the header's limits cover.
        n_kspaces: how many k-spaces there are (slices, contrasts, phases, repetitions, sets).
        n_patterns: how many different sets of lines they have.
        fewest: lines of the k-space with the fewest.
        most: lines of the k-space with the most.
        bands: what the protocol covers along (k1, k2).
        frames: ``(frame, k1)``, lines of the phases and repetitions of the first slice, contrast and set, in order
            of time, where they differ; None in 3-D and where they are all the same.
    """

    imaging: Lines
    calibration: Lines
    within: Lines
    n_kspaces: int
    n_patterns: int
    fewest: int
    most: int
    bands: tuple[AxisBand, AxisBand]
    frames: Lines | None = None

    @property
    def n_lines(self) -> int:
        """Lines of the image in the first k-space."""
        return int(self.imaging.sum())

    @property
    def acceleration(self) -> float:
        """How many lines the header's limits cover for each one that was sampled."""
        return float(self.within.sum() / max(self.n_lines, 1))

    @property
    def spacing(self) -> tuple[int, int]:
        """Distance of neighbouring lines outside the calibration region, along (k1, k2).

        0 where it varies, or where rows of a plane differ in which of their lines were sampled.
        """
        outer: Lines = self.imaging & ~self.calibration
        along = []
        for axis in (0, 1):
            lines: Lines = np.any(outer, axis=axis)
            calibration: Lines = np.any(self.calibration, axis=axis)
            step = _spacing(lines, calibration)
            rows = (outer, self.calibration) if axis == 0 else (outer.T, self.calibration.T)
            along.append(step if all(_agrees(*row, step) for row in zip(*rows, strict=True)) else 0)
        return along[0], along[1]

    def is_shifted(self, acceleration: tuple[int, int]) -> bool:
        """Whether lines form a lattice of this acceleration that is shifted along k2 (CAIPIRINHA)."""
        r1, r2 = acceleration
        along_k1, along_k2 = lattice_of_rows(self.imaging)
        return along_k2 == r2 and along_k1 > r1 and r1 * r2 % along_k1 == 0

    @property
    def takes_turns(self) -> bool:
        """Whether frames have other lines each, and all of them together have no gap."""
        if self.frames is None:
            return False
        together = np.flatnonzero(self.frames.any(axis=0))
        return len(together) > 1 and int(together[-1] - together[0]) + 1 == len(together)

    @property
    def calibration_range(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """First and last grid index of the calibration lines along k1 and along k2; None without any."""
        if not self.calibration.any():
            return None
        k1, k2 = (np.flatnonzero(self.calibration.any(axis=axis)) for axis in (0, 1))
        return (int(k1[0]), int(k1[-1])), (int(k2[0]), int(k2[-1]))

    def describe(self) -> str:
        """The pattern in a sentence."""
        if self.n_kspaces == 0:
            return f"{int(self.calibration.sum())} lines for calibration, and none of an image"
        text = f"{self.n_lines} of {int(self.within.sum())} lines (R = {self.acceleration:.2f} in total)"
        if max(self.spacing) > 1:
            along = " and ".join(
                f"{step} along {axis}"
                for step, axis in zip(self.spacing, ("k1", "k2"), strict=True)
                if step > 1
            )
            text += f", spaced by {along} outside the calibration lines"
        if self.n_kspaces == 1:
            return text
        if self.n_patterns == 1:
            return f"{text}, the same in all {self.n_kspaces} k-spaces"
        return (
            f"{text} in the first of {self.n_kspaces} k-spaces; there are {self.n_patterns} different patterns "
            f"with {self.fewest} to {self.most} lines"
        )

    def text(self, width: int = 64) -> list[str]:
        """The pattern as lines of text.

        One phase encoding: k1 runs from left to right and wraps at ``width``, each row with its first index and
        a ``▼`` above the centre. Two phase encodings: k1 to the right, k2 downwards; patterns wider than ``width``
        or higher than 64 show every n-th block as sampled if any of its lines is.

        ``█`` line of the image, ``▓`` line of the image for calibration too, ``▒`` calibration only, ``·`` not
        sampled, blank: outside the header's limits.
        """
        symbols = np.full(self.imaging.shape, " ")
        symbols[self.within] = "·"
        symbols[self.calibration] = "▒"
        symbols[self.imaging] = "█"
        symbols[self.imaging & self.calibration] = "▓"
        n2, n1 = len(symbols), len(symbols[0])
        if n2 == 1:
            return _wrapped("".join(symbols[0]), width, n1 // 2)
        step1, step2 = -(-n1 // width), -(-n2 // 64)
        rows = []
        for k2 in range(0, n2, step2):
            blocks = (symbols[k2 : k2 + step2, k1 : k1 + step1] for k1 in range(0, n1, step1))
            row = "".join(max(block.ravel(), key=" ·▒█▓".index) for block in blocks)
            rows.append(f"{k2:4d} {row}")
        rows.insert(0, " " * (5 + n1 // 2 // step1) + "▼")
        if max(step1, step2) > 1:
            rows.append(f"     one character: {step1} × {step2} lines (k1 × k2)")
        return rows

    def frames_text(self, width: int = 96, at_most: int = 24) -> list[str]:
        """The lines of the frames as lines of text, a frame each, two lines of k-space to a character.

        ``▌`` the first of them, ``▐`` the second, ``█`` both, ``·`` neither. Wider patterns show the `width`
        characters about the centre, longer series the first `at_most` frames. Empty where `frames` is None.
        """
        if self.frames is None:
            return []
        n1 = self.frames.shape[1]
        start = 2 * max((n1 // 2 - width) // 2, 0)
        shown = self.frames[:at_most, start : start + 2 * width]
        if shown.shape[1] % 2:
            shown = np.pad(shown, ((0, 0), (0, 1)))
        cells = shown[:, ::2] + 2 * shown[:, 1::2]
        rows = [f"{frame:4d} {''.join('·▌▐█'[cell] for cell in row)}" for frame, row in enumerate(cells)]
        rows.insert(0, " " * (5 + (n1 // 2 - start) // 2) + "▼")
        if len(self.frames) > at_most:
            rows.append(f"     and {len(self.frames) - at_most} more frames")
        return rows


def _wrapped(line: str, width: int, centre: int) -> list[str]:
    rows = []
    for start in range(0, len(line), width):
        if start <= centre < start + width:
            rows.append(" " * (5 + centre - start) + "▼")
        rows.append(f"{start:4d} {line[start : start + width]}")
    return rows


def _agrees(lines: Lines, calibration: Lines, step: int) -> bool:
    """Whether the lines of one row of a plane are as far apart as those of all rows together."""
    places = np.flatnonzero(lines)
    without = np.diff(np.cumsum(calibration)[places]) == 0
    return bool((np.diff(places)[without] == step).all())


def _spacing(lines: Lines, calibration: Lines) -> int:
    """The one distance between lines that have no calibration line between them; 0 where there are several."""
    places = np.flatnonzero(lines)
    n_calibration = np.cumsum(calibration)
    distances = np.diff(places)[np.diff(n_calibration[places]) == 0]
    if not len(distances):
        return 1
    return int(distances[0]) if (distances == distances[0]).all() and len(distances) > 1 else 0
