"""How the echoes of one encoding space are brought to the image domain along the readout, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import ScanError, ShapeError
from scanside.items import Readouts
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import CONVENTIONAL_EPI, Encoding, TrajectoryDescription
from scanside.recon.epi.trapezoid import Trapezoid, regridding
from scanside.recon.fourier import to_image, to_kspace
from scanside.scan import Scan
from scanside.stages._lines import readout_grid, straighten
from scanside.texts import shown

__all__ = ["EchoSpace", "Receiver", "Regrid", "is_echo_planar"]

Regrid: TypeAlias = Literal["auto", "none"]

Receiver: TypeAlias = Literal["follows", "one-frequency"]

_SAME = 0.01  # relative difference of times that headers round
_REVERSE = AcquisitionFlag.REVERSE


def is_echo_planar(encoding: Encoding) -> bool:
    """Whether the header says so of an encoding space."""
    described = encoding.description is not None and encoding.description.identifier == CONVENTIONAL_EPI
    return encoding.trajectory == "epi" or described


class EchoSpace:
    """The echoes of one encoding space.

    Args:
        scan: is told what the header lacks.
        encoding: the encoding space.
        first: readouts that belong to it.
        regrid: ``none`` takes samples for equidistant, whatever the header says.
        receiver: ``one-frequency`` moves ramp samples to the centre of a field of view that lies off the isocentre.

    Attributes:
        encoding: as given.
        sampled_us: sample time of the first readouts.

    Raises:
        ScanError: what the header says of the gradient contradicts itself or the readouts.
    """

    def __init__(
        self,
        scan: Scan,
        encoding: Encoding,
        first: Readouts,
        regrid: Regrid,
        receiver: Receiver = "follows",
    ) -> None:
        self.encoding = encoding
        self.sampled_us = float(first.headers["sample_time_us"][0])
        self._n = encoding.encoded.matrix[0]
        self._matrices: list[npt.NDArray[np.complex64]] | None = None
        self._behind: npt.NDArray[np.float64] | None = None
        trapezoid = _trapezoid(scan, encoding, first) if regrid == "auto" else None
        if trapezoid is not None and trapezoid.has_ramps:
            self._n_samples = trapezoid.n_samples
            at = trapezoid.positions(self._n)
            if receiver == "one-frequency":
                self._behind = trapezoid.behind(self._n)
            # The transform is part of the matrix, (sample, x): samples are complex, so that it costs nothing more.
            self._matrices = [
                _transformed(regridding(way * at, self._n).T.astype(np.complex64), to_image)
                for way in (1, -1)
            ]

    def has_sample_time(self, sampled_us: float) -> bool:
        """Whether readouts are sampled as the first ones were, as far as headers tell it."""
        return min(sampled_us, self.sampled_us) <= 0 or abs(sampled_us / self.sampled_us - 1) <= _SAME

    def to_image(self, readouts: Readouts) -> tuple[Readouts, npt.NDArray[np.complex64]]:
        """Echoes transformed along the readout.

        Args:
            readouts: a block of equal layout, reversed ones as they are stored.

        Returns:
            the readouts in the order of increasing k0 on the encoded grid, and their transform ``(n, coil, x)``.

        Raises:
            ScanError: they have another number of samples than the header says.
        """
        if self._matrices is None:
            straight = straighten(readouts)
            n = readout_grid(self.encoding, straight)[0]
            offset, n_samples = n // 2 - int(straight.headers["center_sample"][0]), straight.samples.shape[2]
            if offset < 0 or offset + n_samples > n:
                raise ShapeError(
                    f"the readout with scan counter {int(readouts.headers['scan_counter'][0])} has {n_samples} "
                    f"samples with the echo at {n // 2 - offset}: that does not fit {n} samples with the echo at "
                    f"{n // 2}; if samples were taken on ramps, the header's trajectoryDescription must tell them"
                )
            lines = np.zeros((*straight.samples.shape[:2], n), np.complex64)
            lines[..., offset : offset + n_samples] = straight.samples
            return straight, _transformed(lines, to_image)
        if readouts.samples.shape[2] != self._n_samples:
            raise ScanError(
                f"the header's trajectoryDescription tells of {self._n_samples} samples of a readout "
                f"(numSamples), that with scan counter {int(readouts.headers['scan_counter'][0])} has "
                f"{readouts.samples.shape[2]}: correct it, or set epi.regridding to 'none' if samples are equidistant"
            )
        reversed_ = flagged(readouts.headers["flags"], _REVERSE)
        image = np.empty((*readouts.samples.shape[:2], self._n), np.complex64)
        for which, matrix in zip((~reversed_, reversed_), self._matrices, strict=True):
            # One product for all echoes of a direction and all coils.
            samples = self._centred(readouts.select(which)).reshape(-1, self._n_samples)
            image[which] = (samples @ matrix).reshape(-1, *image.shape[1:])
        # Of the samples only the number counts from here on.
        straight = Readouts(readouts.headers, readouts.samples).with_samples(image)
        straight.headers["flags"] &= ~np.uint64(int(_REVERSE))
        straight.headers["center_sample"] = self._n // 2
        straight.headers["discard_pre"] = straight.headers["discard_post"] = 0
        return straight, image

    def _centred(self, readouts: Readouts) -> npt.NDArray[np.complex64]:
        """Samples of one direction, as a receiver that follows the gradient would have taken them."""
        if self._behind is None:
            return readouts.samples
        # Along x, images run along the readout's direction about their position; our k-space is exp(-2πi k x).
        off_mm = np.einsum("ni,ni->n", readouts.headers["position"], readouts.headers["read_dir"])
        turns = off_mm.astype(np.float64) / self.encoding.encoded.field_of_view_mm[0]
        way = np.where(flagged(readouts.headers["flags"], _REVERSE), -1, 1)
        phase = np.exp(2j * np.pi * np.outer(way * turns, self._behind))
        return readouts.samples * phase[:, None].astype(np.complex64)

    @staticmethod
    def to_lines(straight: Readouts, image: npt.NDArray[np.complex64]) -> Readouts:
        """The readouts of `to_image` with the samples of a corrected transform, as far as they were acquired."""
        n_samples, center = straight.samples.shape[2], int(straight.headers["center_sample"][0])
        first = image.shape[2] // 2 - center
        samples = _transformed(image, to_kspace)[..., first : first + n_samples]
        lines = straight.with_samples(samples)
        lines.trajectory = None
        lines.headers["trajectory_dimensions"] = 0
        return lines


def _transformed(
    lines: npt.NDArray[np.complex64], transform: Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
) -> npt.NDArray[np.complex64]:
    """The centred transform along the last axis."""
    result: npt.NDArray[np.complex64] = transform(torch.from_numpy(lines), (-1,)).numpy()
    return result


def _trapezoid(scan: Scan, encoding: Encoding, first: Readouts) -> Trapezoid | None:
    """The readout gradient by the header; None where it tells none."""
    description, where = encoding.description, f"the trajectoryDescription of encoding space {encoding.index}"
    if description is None:
        scan.warn(
            f"the header has no trajectoryDescription for encoding space {encoding.index}: samples are taken for "
            "equidistant, and where they were taken on ramps the image is distorted along the readout"
        )
        return None
    if description.identifier != CONVENTIONAL_EPI:
        scan.warn(
            f"{where} has the identifier {shown(description.identifier)}, expected {CONVENTIONAL_EPI!r}: what it "
            "tells cannot be understood, and samples on ramps are not regridded"
        )
        return None
    ramp_up, flat, ramp_down = (
        _time(description, name, where) for name in ("rampUpTime", "flatTopTime", "rampDownTime")
    )
    n_told, dwell = description.number("numSamples"), description.number("dwellTime")
    sampled_us = float(first.headers["sample_time_us"][0])
    n_samples = first.samples.shape[2] if n_told is None else int(n_told)
    try:
        trapezoid = Trapezoid(ramp_up, flat, ramp_down, sampled_us if dwell is None else dwell, n_samples)
    except ShapeError as error:
        raise ScanError(
            f"{where} contradicts itself: {error}; correct it, or set epi.regridding to 'none' if samples are "
            "equidistant"
        ) from error
    spacing = description.number("echoSpacing")
    if spacing is not None and trapezoid.total_us > spacing * (1 + _SAME):
        raise ScanError(
            f"{where} contradicts itself: the gradient takes {trapezoid.total_us:g} µs, longer than the echo spacing "
            f"of {spacing:g} µs; correct it, or set epi.regridding to 'none' if samples are equidistant"
        )
    if trapezoid.has_ramps:
        _tell_other_times(scan, description, trapezoid, sampled_us, where)
    return trapezoid


def _tell_other_times(
    scan: Scan, description: TrajectoryDescription, trapezoid: Trapezoid, sampled_us: float, where: str
) -> None:
    if sampled_us > 0 and abs(trapezoid.dwell_us / sampled_us - 1) > _SAME:
        scan.warn(
            f"{where} tells of a dwell time of {trapezoid.dwell_us:g} µs, readouts of {sampled_us:g} µs: the former "
            "is taken"
        )
    delay = description.number("acqDelayTime")
    if delay is not None and abs(delay - trapezoid.delay_us) > trapezoid.dwell_us:
        scan.warn(
            f"{where} tells of an acqDelayTime of {delay:g} µs, with which samples would not lie in the middle of "
            f"their gradient: {trapezoid.delay_us:g} µs are taken, as echoes are balanced"
        )


def _time(description: TrajectoryDescription, name: str, where: str) -> float:
    value = description.number(name)
    if value is None:
        raise ScanError(
            f"{where} has no number {name}: have the converter write it, or set epi.regridding to 'none' if samples "
            "are equidistant"
        )
    return value
