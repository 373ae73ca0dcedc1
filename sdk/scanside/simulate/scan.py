"""A simulated scan: its header, its stream of readouts and waveforms, and its truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import TICK_MS, Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.readouts import Readouts, Waveform
from scanside.simulate.coils import CoilArray
from scanside.simulate.config import DynamicsConfig, SamplingConfig, ScanConfig
from scanside.simulate.echo_planar import EchoPlanarReadouts
from scanside.simulate.geometry import ScanGrid
from scanside.simulate.header import noise_header, scan_header
from scanside.simulate.noise import NoiseModel
from scanside.simulate.phantoms import ObjectState, make_phantom
from scanside.simulate.sampling import Pattern, phase_bands, readout_bands, readout_of, sampling_pattern
from scanside.simulate.schedule import Schedule
from scanside.simulate.signal import Frame, Signal
from scanside.simulate.trajectories import TrajectoryReadouts
from scanside.simulate.truth import Truth
from scanside.simulate.waveforms import ecg

__all__ = ["NoiseScan", "SimulatedScan", "simulate"]

REFERENCE_SPACE = 1
"""The encoding space of calibration lines of another scan."""

_TRANSIENT = 10.0 - 10.0j
"""What samples that are announced for discarding hold: a reader that keeps them sees it."""


def simulate(config: ScanConfig) -> SimulatedScan:
    """Set up a scan; data and truth are computed when they are asked for.

    Raises:
        ConfigError: the sampling cannot be had, say more calibration lines than the acceleration leaves.
    """
    return SimulatedScan(config)


@dataclass(frozen=True)
class NoiseScan:
    """A noise measurement of its own, on which an imaging scan depends.

    Attributes:
        header_xml: its header, with the measurement ID that the imaging scan's header names.
        readouts: its readouts, all flagged NOISE_MEASUREMENT.
    """

    header_xml: bytes
    readouts: Readouts

    def items(self) -> Iterator[Readouts]:
        """The scan as a stream."""
        yield self.readouts


class SimulatedScan:
    """A scan whose truth is known.

    Samples and headers depend on the configuration alone: not on the size of the blocks, nor on how often or how far
    the stream was read before.

    Args:
        config: what to simulate.
    """

    def __init__(self, config: ScanConfig) -> None:
        self.config = config
        self.grid = ScanGrid.of(config.geometry, config.sampling)
        self.bands = readout_bands(config.sampling, self.grid.encoded_matrix)
        self._trajectory = TrajectoryReadouts.of(config.sampling, self.grid, config.timing.dwell_us)
        self._readout = readout_of(config.sampling, self.grid.encoded_matrix[0])
        self._echoes = EchoPlanarReadouts.of(
            config.sampling, self.grid.encoded_matrix[0], config.timing.dwell_us, config.timing.tr_ms
        )
        self._phantom = make_phantom(config.phantom)
        clear = float(np.abs(self._phantom.bounds_mm[:, :2]).max()) + 20.0
        self.coils = CoilArray(config.coils, clear)
        self.noise = NoiseModel(config.noise, self.coils, config.timing.dwell_us)
        round_axes = 0 if self._trajectory is None else self._trajectory.n_turning
        resolved = phase_bands(config.sampling, self.grid.encoded_matrix)
        self._signal = Signal(config.phantom, self._phantom, self.coils, self.grid, resolved, round_axes)
        self._schedule = Schedule(config, self.grid, self.bands)
        self._prescan = sampling_pattern(config.sampling, self.bands)[1]
        self._reference = _reference_of(config)
        reference = self._reference
        self.header_xml = scan_header(
            config,
            self.grid,
            self.bands,
            None if reference is None else (reference.config, reference.grid, reference.bands),
        )

    @cached_property
    def truth(self) -> Truth:
        """Truth of the scan; computed at the first access."""
        dynamics = self.config.dynamics
        moves = self._phantom.beats
        shape = (
            len(dynamics.te_ms),
            dynamics.phases if moves and dynamics.beat == "phase" else 1,
            dynamics.repetitions if moves and dynamics.beat == "time" else 1,
            dynamics.sets,
            self.grid.n_slices,
        )
        images = np.empty((*shape, *self.grid.recon_matrix[::-1]), np.complex64)
        for contrast, phase, repetition, set_, slice_ in np.ndindex(*shape):
            frame = self._frame(contrast, phase, repetition, set_, slice_)
            images[contrast, phase, repetition, set_, slice_] = self._signal.truth(frame)
        slices = range(self.grid.n_slices)
        return Truth(
            images=images,
            maps=np.stack([self._signal.maps(slice_) for slice_ in slices]),
            mask=np.stack([self._signal.mask(self._frame(0, 0, 0, 0, slice_)) for slice_ in slices]),
            affines=np.stack([self.grid.affine(slice_) for slice_ in slices]),
            affine=self._stack_affine(),
            covariance=self.noise.covariance,
            off_resonance_hz=np.stack([self._signal.off_resonance(slice_) for slice_ in slices]),
        )

    @cached_property
    def noise_scan(self) -> NoiseScan | None:
        """The noise scan on which this one depends; None unless the configuration asks for a separate one."""
        if self.config.noise.scan != "separate":
            return None
        readouts = self._noise_readouts()
        # A minute before the imaging scan.
        ticks = (self.config.timing.start_s - 60.0) * 1e3 / TICK_MS
        _stamp(readouts.headers, 0, max(ticks, 0.0), self.config.timing.tr_ms)
        readouts.headers["flags"][-1] |= np.uint64(int(AcquisitionFlag.LAST_IN_MEASUREMENT))
        return NoiseScan(noise_header(self.config, readouts.samples.shape[2]), readouts)

    def items(self, block: int = 256) -> Iterator[Readouts | Waveform]:
        """The stream of the scan in the order of acquisition.

        One repetition is made at a time, so that memory stays flat over a long series. A waveform comes once its
        last sample lies in the past of the readout that follows.

        Args:
            block: most readouts of a block.
        """
        waves = ecg(self.config) if self.config.waveforms.ecg else iter(())
        waiting = next(waves, None)
        for readouts in self._blocks(block):
            stamps = readouts.headers["acquisition_time_stamp"]
            start = 0
            while waiting is not None and (end := _end_tick(waiting)) <= stamps[-1]:
                cut = int(np.searchsorted(stamps, end))
                if cut > start:
                    yield readouts.select(slice(start, cut))
                    start = cut
                yield waiting
                waiting = next(waves, None)
            yield readouts.select(slice(start, None))

    def _blocks(self, block: int) -> Iterator[Readouts]:
        """Readouts in blocks, in the order of acquisition."""
        timing = self.config.timing
        start = timing.start_s * 1e3 / TICK_MS
        beat = 60_000.0 / timing.heart_rate_bpm
        # Drawn in the order of acquisition, so the size of the blocks changes nothing.
        rng = np.random.default_rng([self.config.noise.seed, 1])
        counter = 0
        held: Readouts | None = None
        for part in self._parts():
            for first in range(0, len(part), block):
                headers = part[first : first + block].copy()
                _stamp(headers, counter, start, timing.tr_ms)
                since_peak = ((counter + np.arange(len(headers))) * timing.tr_ms) % beat
                headers["physiology_time_stamp"][:, 0] = since_peak / TICK_MS
                counter += len(headers)
                if held is not None:
                    yield held
                held = self._measure(headers, rng)
        if held is not None:
            held.headers["flags"][-1] |= np.uint64(int(AcquisitionFlag.LAST_IN_MEASUREMENT))
            yield held

    def _parts(self) -> Iterator[Headers]:
        """Headers of the noise readouts, of the separate calibration lines, and of each repetition."""
        if self.config.noise.scan == "embedded":
            yield self._schedule.noise()
        if self._reference is not None:
            yield self._reference.as_calibration()
        if len(self._prescan):
            yield self._schedule.calibration(self._prescan)
        for number in range(self.config.dynamics.repetitions):
            yield self._schedule.repetition(number, self._patterns(number))

    def as_calibration(self) -> Headers:
        """Headers of the whole scan as calibration lines of another one, in its second encoding space."""
        headers = self._schedule.repetition(0, self._patterns(0))
        headers["encoding_space_ref"] = REFERENCE_SPACE
        headers["flags"] |= np.uint64(int(AcquisitionFlag.PARALLEL_CALIBRATION))
        return headers

    def _patterns(self, repetition: int) -> list[Pattern]:
        phases = self.config.dynamics.phases
        return [
            sampling_pattern(self.config.sampling, self.bands, repetition * phases + phase)[0]
            for phase in range(phases)
        ]

    def _measure(self, headers: Headers, rng: np.random.Generator) -> Readouts:
        """Samples of readouts of one part of the scan."""
        n_samples = int(headers["number_of_samples"][0])
        if flagged(headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)[0]:
            return Readouts(headers, self.noise.draw(rng, len(headers), n_samples, noise_scan=True))
        trajectory = None
        if self._reference is not None and headers["encoding_space_ref"][0] == REFERENCE_SPACE:
            samples = self._reference.clean(headers)
        elif self._echoes is not None:
            samples = self._of_trains(self._echoes, headers)
        elif self._trajectory is None:
            samples = self.clean(headers)
        else:
            samples = self._along(self._trajectory, headers)
            trajectory = self._trajectory.written(headers)
            headers["trajectory_dimensions"] = trajectory.shape[-1]
        samples += self._noise_of_lines(rng, len(headers), n_samples)
        return Readouts(headers, samples, trajectory)

    def _along(self, trajectory: TrajectoryReadouts, headers: Headers) -> npt.NDArray[np.complex64]:
        """Samples ``(n, coil, sample)`` without noise along a trajectory."""
        samples = np.empty((len(headers), self.coils.n_coils, trajectory.n_samples), np.complex64)
        from_centre = np.arange(trajectory.n_samples) - self._readout.center_sample
        times_s = np.asarray(1e-6 * self.config.timing.dwell_us * from_centre, np.float64)
        for rows, frame in self._frames(headers):
            points = trajectory.points(headers[rows])
            samples[rows] = self._signal.samples(frame, points, times_s).swapaxes(0, 1)
        return samples

    def _of_trains(self, echoes: EchoPlanarReadouts, headers: Headers) -> npt.NDArray[np.complex64]:
        """Samples ``(n, coil, sample)`` of echo trains without noise, in the order of time."""
        samples = np.empty((len(headers), self.coils.n_coils, echoes.n_samples), np.complex64)
        k1 = headers["idx"]["kspace_encode_step_1"] + self.bands[0].first
        reverse = flagged(headers["flags"], AcquisitionFlag.REVERSE)
        for rows, frame in self._frames(headers):
            for backwards in (False, True):
                which = reverse[rows] == backwards
                phase_y = echoes.config.odd_even_y_rad if backwards else (0.0,)
                x_mm = self._signal.along_readout(frame, phase_y)[1]

                def measure(one: Frame, phase_y: tuple[float, ...] = phase_y) -> npt.NDArray[np.complex64]:
                    return self._signal.along_readout(one, phase_y)[0]

                lines = self._superposed(headers, frame, measure)
                phase = echoes.phase(headers[rows[which]], x_mm / self.grid.recon_fov_mm[0])
                turned = lines[:, k1[rows[which]]].swapaxes(0, 1) * np.exp(1j * phase)[:, None]
                k0 = echoes.positions(backwards=backwards) / self.grid.encoded_fov_mm[0]
                samples[rows[which]] = turned @ np.exp(-2j * np.pi * np.outer(x_mm, k0))
                off_mm = float(self.grid.positions[frame.slice] @ self.grid.directions.read)
                received = echoes.demodulation(
                    backwards=backwards, off_mm=off_mm, encoded_fov_mm=self.grid.encoded_fov_mm[0]
                )
                samples[rows[which]] *= np.exp(1j * received)
        return samples

    def _noise_of_lines(
        self, rng: np.random.Generator, n: int, n_samples: int
    ) -> npt.NDArray[np.complex64] | float:
        """Noise ``(n, coil, sample)`` of imaging readouts."""
        return self.noise.draw(rng, n, n_samples)

    def _kspace(self, frame: Frame) -> npt.NDArray[np.complex64]:
        """What is measured of a frame: ``(coil, k2, k1, k0)``, the encoded k-space."""
        return self._signal.kspace(frame)

    def clean(self, headers: Headers) -> npt.NDArray[np.complex64]:
        """Samples ``(n, coil, sample)`` without noise, as a receiver sees them: reversed, with transients."""
        readout, idx = self._readout, headers["idx"]
        samples = np.full((len(headers), self.coils.n_coils, readout.n_samples), _TRANSIENT, np.complex64)
        inner = slice(readout.discard[0], readout.n_samples - readout.discard[1])
        for rows, frame in self._frames(headers):
            kspace = self._superposed(headers, frame, self._kspace)
            k1 = idx["kspace_encode_step_1"][rows] + self.bands[0].first
            k2 = idx["kspace_encode_step_2"][rows] + self.bands[1].first
            samples[rows, :, inner] = kspace[:, k2, k1, readout.first :].swapaxes(0, 1)
        backwards = flagged(headers["flags"], AcquisitionFlag.REVERSE)
        samples[backwards] = samples[backwards, :, ::-1]
        return samples

    def _superposed(
        self, headers: Headers, frame: Frame, measure: Callable[[Frame], npt.NDArray[np.complex64]]
    ) -> npt.NDArray[np.complex64]:
        """What readouts hold of a frame, and of the slices that are read out with it.

        Args:
            headers: of the readouts, all of references or all of images.
            frame: the frame that their counters name.
            measure: lines ``(..., k1, sample)`` of one slice.
        """
        multiband = self.config.sampling.multiband
        if multiband is None:
            return measure(frame)
        apart = self.grid.n_slices // multiband.factor
        cycles = multiband.cycles / int(self.config.sampling.acceleration[0])
        if headers["encoding_space_ref"][0]:  # references
            lines = measure(frame)
            turns = cycles * (frame.slice // apart) if multiband.reference_blips else 0.0
            return np.asarray(lines * _blips(turns, lines.shape[-2]), dtype=np.complex64)
        found = []
        for band in range(multiband.factor):
            lines = measure(replace(frame, slice=frame.slice + band * apart))
            found.append(lines * _blips(cycles * band, lines.shape[-2]))
        return np.asarray(np.sum(found, axis=0), dtype=np.complex64)

    def _frames(self, headers: Headers) -> Iterator[tuple[npt.NDArray[np.intp], Frame]]:
        """The frames that readouts belong to, each with theirs."""
        idx = headers["idx"]
        counters = np.stack(
            [idx[name] for name in ("contrast", "phase", "repetition", "set", "slice")], axis=1
        )
        for values in np.unique(counters, axis=0):
            rows = np.flatnonzero((counters == values).all(axis=1))
            yield rows, self._frame(*(int(value) for value in values))

    def _frame(self, contrast: int, phase: int, repetition: int, set_: int, slice_: int) -> Frame:
        dynamics = self.config.dynamics
        beat = 0.0
        if self._phantom.beats and dynamics.beat == "phase":
            beat = phase / dynamics.phases
        elif self._phantom.beats and dynamics.beat == "time":
            beat_ms = 60_000.0 / self.config.timing.heart_rate_bpm
            beat = (self._starts[repetition] * self.config.timing.tr_ms / beat_ms) % 1.0
        decay = dynamics.te_ms[contrast] - dynamics.te_ms[0]
        return Frame(slice_, set_, ObjectState(beat, decay))

    @cached_property
    def _starts(self) -> list[int]:
        """Number of readouts before each repetition."""
        starts, counter = [], 0
        for part in self._parts():
            if not flagged(part["flags"], AcquisitionFlag.NOISE_MEASUREMENT)[0]:
                starts.append(counter)
            counter += len(part)
        return starts[bool(len(self._prescan)) + (self._reference is not None) :]

    def _noise_readouts(self) -> Readouts:
        return self._measure(self._schedule.noise(), np.random.default_rng([self.config.noise.seed, 2]))

    def _stack_affine(self) -> npt.NDArray[np.float64]:
        """Affine of all slices as one volume, or of the first slab."""
        if self.grid.is_3d or self.grid.n_slices == 1:
            return self.grid.affine(0)
        affine = self.grid.affine(0)
        affine[:3, 2] = self.grid.positions[1] - self.grid.positions[0]
        return affine


def _reference_of(config: ScanConfig) -> SimulatedScan | None:
    """The gradient-echo scan that gives the calibration lines of another one."""
    reference = config.sampling.reference
    if reference is None:
        return None
    geometry, phantom = config.geometry, config.phantom
    fov_mm = (*(reference.fov_mm or geometry.fov_mm[:2]), geometry.fov_mm[2])
    matrix = (*reference.matrix, 1)
    # The object as finely as that of the image, which larger voxels would else hold too few points of.
    finer = [
        max(round(f / n * m / g), 1) * points
        for f, n, m, g, points in zip(
            fov_mm, matrix, geometry.matrix, geometry.fov_mm, phantom.supersampling, strict=True
        )
    ]
    return simulate(
        config.model_copy(
            update={
                "geometry": geometry.model_copy(
                    update={"matrix": matrix, "fov_mm": fov_mm, "recon_matrix": None}
                ),
                "phantom": phantom.model_copy(update={"supersampling": (finer[0], finer[1], finer[2])}),
                "sampling": SamplingConfig(oversampling=config.sampling.oversampling),
                "dynamics": DynamicsConfig(te_ms=config.dynamics.te_ms[:1]),
            }
        )
    )


def _stamp(headers: Headers, counter: int, start_ticks: float, tr_ms: float) -> None:
    """Count readouts from `counter` on and tell their time."""
    number = counter + np.arange(len(headers))
    headers["scan_counter"] = number
    headers["acquisition_time_stamp"] = (start_ticks + number * (tr_ms / TICK_MS)).astype(np.uint32)


def _blips(cycles: float, n_lines: int) -> npt.NDArray[np.complex64]:
    """Phase ``(k1, 1)`` of a slice that gains so much from line to line of the grid, none in the centre."""
    turns = np.exp(2j * np.pi * cycles * (np.arange(n_lines) - n_lines // 2))
    return np.asarray(turns[:, None], dtype=np.complex64)


def _end_tick(waveform: Waveform) -> int:
    """Time stamp after the last sample of a waveform."""
    length_ms = int(waveform.header["number_of_samples"]) * float(waveform.header["sample_time_us"]) / 1e3
    return int(np.ceil(int(waveform.header["time_stamp"]) + length_ms / TICK_MS))
