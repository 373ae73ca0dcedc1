"""The direction in which readouts run: echo-planar readouts, and where the echo of a reversed one lies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.finding import Finding
from scanside.mrd.dtypes import IMAGE_COUNTERS
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["ReadoutDirections"]

_REVERSE, _PHASECORR = AcquisitionFlag.REVERSE, AcquisitionFlag.PHASECORR_DATA
_FORWARDS, _BACKWARDS = 1, 2
_REMEMBERED = 1024  # images whose directions are known at a time: their lines come close to each other


class ReadoutDirections:
    """Tells echo-planar readouts by their directions, and reads ``center_sample`` of reversed readouts.

    The standard means the index of the sample as it is stored. Some producers mean that after turning the readout
    round, or write the same number for both directions. Where both directions of a scan have been seen and agree
    only if read in that way, it is read so, and told. Echoes that are sampled symmetrically in time have their echo
    between the two middle samples in either direction: there is nothing to tell of echo-planar readouts then.

    Args:
        encoding: the encoding space of the readouts.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.changed = False
        self._is_epi = encoding.trajectory == "epi"
        self._n_lines = 0
        self._n_reversed = 0
        self._seen_of: dict[tuple[int, ...], int] = {}
        self._in_one_image = False
        self._of_correction = 0
        self._forward: dict[int, int] = {}
        self._example: tuple[int, int, int] | None = None
        self._n_before = 0  # reversed readouts that came before any other

    def read(self, block: Readouts, flags: int) -> Readouts:
        """The block with the echo of reversed readouts as the standard means it.

        Args:
            block: imaging, calibration and phase correction readouts.
            flags: all flags that occur among them.
        """
        if flags & int(_PHASECORR):
            self._take_correction(block)
        n_samples = block.samples.shape[2]
        if not flags & int(_REVERSE):
            if n_samples not in self._forward:
                self._forward[n_samples] = int(block.headers["center_sample"][0])
            return block
        reversed_ = flagged(block.headers["flags"], _REVERSE)
        center = block.headers["center_sample"].astype(np.int64)
        mirrored = self._mirrored(reversed_, center, n_samples)
        if not mirrored.any():
            return block
        if self._example is None:
            self.changed = True
            self._example = n_samples, int(center[mirrored][0]), n_samples - 1 - int(center[mirrored][0])
        headers = block.headers.copy()
        headers["center_sample"][mirrored] = (n_samples - 1 - center)[mirrored]
        return Readouts(headers, block.samples, block.trajectory)

    def _mirrored(
        self, reversed_: npt.NDArray[np.bool_], center: npt.NDArray[np.int64], n_samples: int
    ) -> npt.NDArray[np.bool_]:
        """Readouts whose echo agrees with that of forward ones only if it is counted after turning."""
        first = 0
        if n_samples not in self._forward:
            forward = np.flatnonzero(~reversed_)
            if not len(forward):
                self._n_before += len(reversed_)
                return np.zeros(len(reversed_), np.bool_)
            first = int(forward[0])
            self._n_before += first
            self._forward[n_samples] = int(center[first])
        known = self._forward[n_samples]
        if self._is_epi and abs(n_samples - 1 - 2 * known) <= 1:
            return np.zeros(len(reversed_), np.bool_)
        mirrored: npt.NDArray[np.bool_] = reversed_ & (center == known) & (n_samples - 1 - center != known)
        mirrored[:first] = False
        return mirrored

    def _take_correction(self, block: Readouts) -> None:
        flags = block.headers["flags"]
        of_correction = flags[flagged(flags, _PHASECORR)]
        reversed_ = flagged(of_correction, _REVERSE)
        before = self._of_correction
        self._of_correction |= _BACKWARDS * bool(reversed_.any()) | _FORWARDS * bool((~reversed_).any())
        self.changed |= before != self._of_correction

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block."""
        self.changed |= self._is_epi and not self._n_lines
        self._n_lines += len(lines)
        if not flags & int(_REVERSE) and not self._n_reversed:
            return
        reversed_ = flagged(lines.headers["flags"], _REVERSE)
        self._n_reversed += int(reversed_.sum())
        if self._in_one_image:
            return
        idx = lines.headers["idx"]
        rows = np.stack([*(idx[name] for name in IMAGE_COUNTERS), reversed_], axis=1)
        for *image, backwards in np.unique(rows, axis=0).tolist():
            key = tuple(image)
            seen = self._seen_of.pop(key, 0) | (_BACKWARDS if backwards else _FORWARDS)
            self._seen_of[key] = seen
            if seen == _FORWARDS | _BACKWARDS:
                self._in_one_image = self.changed = True
        while len(self._seen_of) > _REMEMBERED:
            self._seen_of.pop(next(iter(self._seen_of)))

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name."""
        signs = []
        if self._is_epi and self._n_lines:
            signs.append("the header's trajectory is epi")
        if self._in_one_image:
            signs.append(
                "lines of one image run in both directions, "
                f"{self._n_reversed} of {self._n_lines} are flagged REVERSE"
            )
        if self._of_correction == _FORWARDS | _BACKWARDS:
            signs.append("there are phase-correction lines in both directions")
        if signs:
            text = (
                f"these are echo-planar readouts ({'; '.join(signs)}). EPI lines are placed as they are: ghosts and "
                "ramp sampling are not corrected; take the pipeline 'epi', or put the stage 'epi' before 'accumulate'"
            )
            yield "echo-planar", Finding("warning", text, corrected_by="epi")
        if self._example is not None:
            n_samples, told, meant = self._example
            text = (
                f"center_sample is {told} of {n_samples} for readouts of both directions. The standard means the "
                f"sample as it is stored, which would be {meant} in a reversed readout; they are read as counted "
                "after turning, since both directions agree only so"
            )
            if self._n_before:
                text += (
                    f", but for the {self._n_before} that came before the first readout that runs forwards"
                )
            yield "echo of reversed readouts", Finding("warning", f"{text}; correct the converter")
