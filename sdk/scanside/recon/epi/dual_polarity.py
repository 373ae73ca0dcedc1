"""One consistent k-space of echoes of both directions, by kernels from references that were read both ways.

Hoge, Polimeni: *Dual-polarity GRAPPA for simultaneous reconstruction and ghost correction of echo planar imaging
data*, Magn Reson Med 2016;76:32. There the kernels fill the missing lines too; here they make what forward echoes
would have measured of the lines that were acquired, and any reconstruction for such lines follows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from scanside.errors import CalibrationError, ShapeError

__all__ = ["DualPolarity"]

Lines = npt.NDArray[np.complex64]

Pattern = tuple[tuple[int, bool], ...]
"""What a kernel reads: distances of lines along k1, and whether each was read backwards."""

_WIDTH = 5  # samples of a kernel along k0
_REACH = 1  # lines of a kernel to either side along k1, in steps of those that were acquired
_LOADING = 5e-4  # of the mean eigenvalue, as for GRAPPA
_FEWEST = 2  # lines on which a kernel has to fit


class DualPolarity:
    """Kernels for the lines of one slice.

    Where the phase between both directions changes along phase encoding too, no factor along the readout makes them
    agree: each line is made of its neighbours of both directions and all coils, as GRAPPA makes missing ones.

    Args:
        forwards: calibration lines ``(coil, k0)`` by their place along k1, read forwards.
        backwards: the same, read backwards and turned round. Both with the same correction by navigators as the
            lines that will follow.

    Raises:
        CalibrationError: too few adjacent lines came in both directions.
    """

    def __init__(self, forwards: Mapping[int, Lines], backwards: Mapping[int, Lines]) -> None:
        block = _longest_run(sorted(forwards.keys() & backwards.keys()))
        if len(block) < 2 * _REACH + _FEWEST:
            raise CalibrationError(
                f"of {len(forwards)} forward and {len(backwards)} reversed calibration lines, {len(block)} adjacent "
                f"ones came in both directions; dual-polarity GRAPPA needs {2 * _REACH + _FEWEST} or more: acquire "
                "the reference twice, the second time with the readout gradient reversed"
            )
        self._references = tuple(np.stack([way[k1] for k1 in block]) for way in (forwards, backwards))
        self._kernels: dict[Pattern, npt.NDArray[np.complex64]] = {}

    def corrected(self, lines: Lines, k1: npt.ArrayLike, backwards: npt.ArrayLike) -> Lines:
        """What forward echoes would have measured.

        A line without a neighbour to one side, at the end of what was acquired, has a kernel that does without.

        Args:
            lines: ``(n, coil, k0)`` of one image, reversed ones turned round.
            k1: ``(n,)`` their places.
            backwards: ``(n,)`` which of them were reversed.

        Raises:
            ShapeError: lines do not fit the references, or one place came more than once.
            CalibrationError: references are too few for lines that lie so far apart, or give no kernel.
        """
        places, ways = np.asarray(k1, np.int64), np.asarray(backwards, bool)
        if lines.shape[1:] != self._references[0].shape[1:] or len({len(lines), len(places), len(ways)}) > 1:
            raise ShapeError(
                f"lines (n, coil, k0) {lines.shape} with {len(places)} places and {len(ways)} directions do not fit "
                f"references of (coil, k0) {self._references[0].shape[1:]}"
            )
        number = {place: i for i, place in enumerate(places.tolist())}
        if len(number) < len(places):
            raise ShapeError(
                f"{len(places)} lines lie in {len(number)} places along k1: expected one in each"
            )
        step = int(np.diff(np.sort(places)).min()) if len(places) > 1 else 1
        offsets = [step * n for n in range(-_REACH, _REACH + 1)]
        made = np.empty_like(lines)
        for i, place in enumerate(places.tolist()):
            sources = {offset: number[place + offset] for offset in offsets if place + offset in number}
            pattern = tuple((offset, bool(ways[j])) for offset, j in sources.items())
            made[i] = self._kernel(pattern) @ _windows(lines[list(sources.values())])
        return made

    def _kernel(self, pattern: Pattern) -> npt.NDArray[np.complex64]:
        """Weights ``(coil, source)`` of what a pattern reads."""
        if pattern not in self._kernels:
            self._kernels[pattern] = self._calibrated(pattern)
        return self._kernels[pattern]

    def _calibrated(self, pattern: Pattern) -> npt.NDArray[np.complex64]:
        n = len(self._references[0])
        first, last = -min(offset for offset, _ in pattern), n - max(offset for offset, _ in pattern)
        if last - first < _FEWEST:
            raise CalibrationError(
                f"{n} adjacent calibration lines in both directions are too few for lines that lie "
                f"{max(abs(offset) for offset, _ in pattern)} apart: dual-polarity GRAPPA needs "
                f"{n + _FEWEST - (last - first)} or more"
            )
        size = len(pattern) * self._references[0].shape[1] * _WIDTH
        normal = np.zeros((size, size), np.complex64)
        product = np.zeros((self._references[0].shape[1], size), np.complex64)
        for line in range(first, last):
            read = np.stack([self._references[backwards][line + offset] for offset, backwards in pattern])
            windows = _windows(read)
            adjoint = windows.conj().T
            normal += windows @ adjoint
            product += self._references[0][line] @ adjoint
        normal += _LOADING * np.trace(normal).real / size * np.eye(size, dtype=np.complex64)
        try:
            return np.asarray(np.linalg.solve(normal.T, product.T).T, dtype=np.complex64)
        except np.linalg.LinAlgError as error:
            raise CalibrationError(
                "calibration lines of both directions give no kernel: they are zero"
            ) from error


def _windows(lines: Lines) -> Lines:
    """What a kernel reads for every sample: ``(line and coil and shift, k0)`` of lines ``(line, coil, k0)``."""
    n0 = lines.shape[-1]
    padded = np.pad(lines, ((0, 0), (0, 0), (_WIDTH // 2, _WIDTH // 2)))
    shifted = np.lib.stride_tricks.sliding_window_view(padded, n0, axis=-1)
    return np.ascontiguousarray(shifted).reshape(-1, n0)


def _longest_run(places: list[int]) -> list[int]:
    """The longest part of increasing places without a gap."""
    runs: list[list[int]] = [[]]
    for place in places:
        if runs[-1] and place != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(place)
    return max(runs, key=len)
