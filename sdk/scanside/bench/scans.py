"""Raw streams for benchmarks: the bytes of one frame, sent again and again with another repetition number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import ACQUISITION_HEADER, ENCODING_COUNTERS
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.reader import decode
from scanside.mrd.readouts import Readouts
from scanside.mrd.writer import encode

__all__ = ["FrameScan", "live_blocks"]

_LIVE_BLOCK = 4  # readouts that arrive together at a scanner's pace

_REPETITION = 2 + ACQUISITION_HEADER.fields["idx"][1] + ENCODING_COUNTERS.fields["repetition"][1]  # type: ignore[index]


def live_blocks(frame: npt.NDArray[np.uint8]) -> Iterator[Readouts]:
    """The readouts of a `FrameScan.frame`, a few at a time."""
    for message in decode(frame.tobytes()):
        assert isinstance(message, Readouts)
        for start in range(0, len(message), _LIVE_BLOCK):
            yield message.select(slice(start, start + _LIVE_BLOCK))


@dataclass(frozen=True)
class FrameScan:
    """A series of equal 2-D frames of an off-centre box, seen by coils with linear phase, with noise.

    Attributes:
        n_coils: channels.
        n_samples: samples per readout; the image has half as many where `oversampled`.
        n_lines: phase-encoding lines of the full matrix.
        acceleration: every how many-th line is acquired, besides `n_acs` central ones.
        n_acs: calibration lines in the middle, where accelerated.
        oversampled: the readout spans twice the field of view.
        noise: a noise readout comes first.
    """

    n_coils: int = 8
    n_samples: int = 512
    n_lines: int = 256
    acceleration: int = 1
    n_acs: int = 24
    oversampled: bool = True
    noise: bool = False

    @property
    def lines(self) -> list[int]:
        """The acquired lines."""
        middle = range(self.n_lines // 2 - self.n_acs // 2, self.n_lines // 2 + self.n_acs // 2)
        if self.acceleration == 1:
            return list(range(self.n_lines))
        return [k for k in range(self.n_lines) if k % self.acceleration == 0 or k in middle]

    @property
    def header_xml(self) -> bytes:
        """The scan's MRD header."""
        n_x = self.n_samples // 2 if self.oversampled else self.n_samples
        space = (
            "<{0}><matrixSize><x>{1}</x><y>{2}</y><z>1</z></matrixSize>"
            "<fieldOfView_mm><x>{1}</x><y>{2}</y><z>5</z></fieldOfView_mm></{0}>"
        )
        factor = (
            f"<kspace_encoding_step_1>{self.acceleration}</kspace_encoding_step_1>"
            "<kspace_encoding_step_2>1</kspace_encoding_step_2>"
        )
        limit = (
            f"<minimum>0</minimum><maximum>{self.n_lines - 1}</maximum><center>{self.n_lines // 2}</center>"
        )
        repetition = "<minimum>0</minimum><maximum>65535</maximum><center>0</center>"
        return (
            '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
            "<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz>"
            f"</experimentalConditions><encoding>{space.format('encodedSpace', self.n_samples, self.n_lines)}"
            f"{space.format('reconSpace', n_x, self.n_lines)}<encodingLimits><kspace_encoding_step_1>{limit}"
            f"</kspace_encoding_step_1><repetition>{repetition}</repetition></encodingLimits>"
            "<trajectory>cartesian</trajectory><parallelImaging>"
            f"<accelerationFactor>{factor}</accelerationFactor><calibrationMode>embedded</calibrationMode>"
            "</parallelImaging></encoding></ismrmrdHeader>"
        ).encode()

    def frame(self) -> tuple[npt.NDArray[np.uint8], int]:
        """The messages of one frame as one row of bytes per readout, and how many readouts these are."""
        lines = self.lines
        headers = Readouts.empty_headers(len(lines))
        headers["scan_counter"] = np.arange(1, len(lines) + 1)
        headers["number_of_samples"] = self.n_samples
        headers["active_channels"] = headers["available_channels"] = self.n_coils
        headers["center_sample"] = self.n_samples // 2
        headers["sample_time_us"] = 5.0
        headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = np.eye(3)
        headers["idx"]["kspace_encode_step_1"] = lines
        headers["flags"][0] |= np.uint64(AcquisitionFlag.FIRST_IN_SLICE)
        headers["flags"][-1] |= np.uint64(AcquisitionFlag.LAST_IN_SLICE)
        if self.acceleration > 1:
            for i, k in enumerate(lines):
                if abs(k - self.n_lines // 2 + 0.5) < self.n_acs / 2:
                    also = k % self.acceleration == 0
                    headers["flags"][i] |= np.uint64(
                        AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
                        if also
                        else AcquisitionFlag.PARALLEL_CALIBRATION
                    )
        rows = np.frombuffer(encode(Readouts(headers, self._samples()[lines])), np.uint8)
        return rows.reshape(len(lines), -1).copy(), len(lines)

    def noise_readout(self) -> bytes:
        """The message of the noise readout, empty where there is none."""
        if not self.noise:
            return b""
        headers = Readouts.empty_headers(1)
        headers["number_of_samples"] = self.n_samples
        headers["active_channels"] = headers["available_channels"] = self.n_coils
        headers["sample_time_us"] = 5.0
        headers["flags"] = np.uint64(AcquisitionFlag.NOISE_MEASUREMENT)
        return encode(Readouts(headers, self._noise((1, self.n_coils, self.n_samples), seed=2)))

    @staticmethod
    def number(frame: npt.NDArray[np.uint8], repetition: int) -> None:
        """Write a repetition number into every readout of a frame, in place."""
        frame[:, _REPETITION] = repetition & 0xFF
        frame[:, _REPETITION + 1] = repetition >> 8 & 0xFF

    def _samples(self) -> npt.NDArray[np.complex64]:
        """K-space ``(line, coil, sample)``: an off-centre box, seen by every coil with a phase of its own."""
        n_x = self.n_samples
        image = np.zeros((self.n_lines, n_x))
        image[self.n_lines // 4 : self.n_lines * 3 // 5, n_x * 3 // 8 : n_x * 9 // 16] = 1.0
        coils = np.arange(self.n_coils)[:, None, None] / self.n_coils
        x, y = np.arange(n_x)[None, None, :] / n_x, np.arange(self.n_lines)[None, :, None] / self.n_lines
        seen = image * (1 + np.cos(2 * np.pi * (coils + x))) * np.exp(2j * np.pi * (coils + y))
        kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(seen, axes=(1, 2)), norm="ortho"), axes=(1, 2))
        kspace = kspace + 0.02 * self._noise(kspace.shape, seed=1)
        return kspace.transpose(1, 0, 2).astype(np.complex64)

    @staticmethod
    def _noise(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.complex64]:
        parts = np.random.default_rng(seed).standard_normal((*shape, 2), np.float32)
        return parts.view(np.complex64)[..., 0]


LEARNED = FrameScan(n_coils=8, n_samples=512, n_lines=256, acceleration=4, n_acs=24, noise=True)
"""For learned pipelines: 256 × 256 with 8 coils; the readout is oversampled."""
