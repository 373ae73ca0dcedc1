"""Configuration of a simulated scan: what is scanned, with which coils, along which k-space lines.

Every field has a default, so ``ScanConfig()`` is a small complete scan. Lengths are in mm, angles in degrees,
times have their unit in the name, counts of lines are counts of the encoded matrix.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scanside.sampling.patterns import LINES, PLANES, SERIES

__all__ = [
    "CoilConfig",
    "DynamicsConfig",
    "EchoPlanarConfig",
    "GeometryConfig",
    "LoopName",
    "MultibandConfig",
    "NoiseConfig",
    "PhantomConfig",
    "QuirkConfig",
    "ReferenceConfig",
    "SamplingConfig",
    "ScanConfig",
    "TimingConfig",
    "TrajectoryConfig",
    "WaveformConfig",
]

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0.5, le=1.0)]
LoopName = Literal["average", "set", "contrast", "phase", "slice", "segment", "line"]
OptionalSection = Literal[
    "studyInformation",
    "measurementInformation",
    "acquisitionSystemInformation",
    "parallelImaging",
    "sequenceParameters",
    "userParameters",
    "waveformInformation",
]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PhantomConfig(_Config):
    """What lies in the scanner."""

    kind: Literal["brain", "cardiac", "shepp-logan"] = "brain"
    """Which object."""
    weighting: Literal["t1", "t2", "pd", "flair"] = "t2"
    """Contrast of the brain; the other phantoms have one contrast."""
    seed: int = 0
    """Draws the individual: another seed folds the brain's cortex in another way. Left and right stay put."""
    background_phase_rad: float = Field(default=1.0, ge=0)
    """How far the smooth phase of the object strays from zero; 0 makes the object real."""
    off_resonance_hz: float = 0.0
    """How far a smooth off-resonance strays from zero, of scans with `sampling.trajectory`: phase grows with it over
    every readout, from 0 at the centre of k-space, as exp(2πi f t)."""
    saturated: bool = True
    """Whether what lies outside the encoded field of view gives no signal; else it folds in along phase and partition
    encoding. Along the readout the receiver's filter takes it away in any case."""
    supersampling: tuple[Count, Count, Count] = (2, 2, 2)
    """Object points per encoded voxel along (x, y, z); for 2-D slices z counts points across the slice."""


class CoilConfig(_Config):
    """The receive array."""

    n_coils: Count = 8
    """Number of coils; arrays of twelve and more have two rings, of 24 and more three."""
    model: Literal["loops", "uniform"] = "loops"
    """Circular loops by Biot-Savart, or constant maps that differ by a phase only."""
    radius_mm: Positive | None = None
    """Distance of the loop centres from the array's axis; default is what clears the phantom."""
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre of the array, LPS; there the root sum of squares of the maps is one."""


class NoiseConfig(_Config):
    """Receiver noise, and how it is measured."""

    std: float = Field(default=0.02, ge=0)
    """Standard deviation of the real and of the imaginary part of an imaging sample, root mean square over
    coils. Transforms are orthonormal, so it is also that of a voxel of a fully sampled single-coil image, on a
    scale on which tissue lies between 0 and about 1."""
    neighbour_correlation: float = Field(default=0.3, ge=0, lt=1)
    """Magnitude of the noise correlation of the two coils that lie closest; it falls with distance."""
    spread: float = Field(default=0.25, ge=0)
    """Standard deviation of the logarithm of the coils' noise levels."""
    scan: Literal["none", "embedded", "separate"] = "embedded"
    """Noise readouts: none, at the start of the scan, or a scan of their own that the header depends on."""
    readouts: Count = 16
    """Number of noise readouts."""
    samples: Count | None = None
    """Samples of a noise readout; default is that of an encoded readout."""
    dwell_us: Positive = 20.0
    """Sample time of the noise readouts."""
    relative_receiver_bandwidth: Positive = 0.793
    """Equivalent noise bandwidth of the receiver relative to the nominal one (``relativeReceiverNoiseBandwidth``):
    noise readouts are this much weaker in variance than the sample times alone make them."""
    seed: int = 0
    """Seed of the noise and of the coils' noise levels."""


class TrajectoryConfig(_Config):
    """Readouts that do not follow the lines of a grid. Each carries its trajectory."""

    kind: Literal["radial", "spiral", "stack-of-stars", "koosh-ball"] = "radial"
    """Spokes through the centre or spiral arms from it, of slices; spokes of slices with partitions along z; spokes
    through the centre of a volume."""
    readouts: Count = 201
    """Spokes or arms of each image; of a stack of stars, of each partition."""
    full: Count | None = None
    """Spiral arms that would sample k-space fully to its edge; default is `readouts`. With fewer readouts, arms lie
    that much further apart at the edge, and are complete in the middle."""
    angles: Literal["uniform", "full-circle", "golden"] = "uniform"
    """Spokes at equal angles over 180° or over 360°, the same in every repetition, or each 111.25° after the one
    before, on and on. Spiral arms spread over 360° in any case."""
    samples: Count | None = None
    """Of a readout; default is that of an encoded line."""
    delay: tuple[float, float] = (0.0, 0.0)
    """By how many samples gradients along (x, y) lag behind the trajectory that the readouts carry."""
    delay_xy: float = 0.0
    """By how many samples of the other one each of them lags too: where the slice is turned against the gradients'
    own axes, and those lag differently."""
    eddy_share: tuple[float, float] = (0.0, 0.0)
    """What eddy currents take at first of a change of the gradient along (x, y). What the gradient was before a
    readout: nothing where it begins in the centre of k-space, else the same as at its beginning."""
    eddy_us: tuple[Positive, Positive] = (100.0, 100.0)
    """Time constants with which they decay."""
    unit: Literal["voxel", "radian", "matrix", "metre"] = "voxel"
    """Of the trajectory as it is written: cycles or radians per voxel, steps of the encoded grid, cycles per
    metre."""


class EchoPlanarConfig(_Config):
    """Echo trains: lines of a slice that are read forwards and backwards in turn under a trapezoidal gradient."""

    samples: Count | None = None
    """Of a readout; default is that of an encoded line."""
    ramp_us: NonNegative = 120
    """Length of each ramp of the gradient, on which samples are taken too; 0: samples lie at equal distances."""
    acq_delay_us: NonNegative = 20
    """From the beginning of the gradient to the first sample, and from the last one to its end."""
    navigators: NonNegative = 3
    """Readouts of the central line before each train (PHASECORR_DATA): none, or three and more."""
    odd_even_rad: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    """Phase that reversed echoes have more than the others: coefficients of a polynomial of x, from the constant on,
    with x from −1/2 to 1/2 over the image's field of view."""
    odd_even_y_rad: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    """The same along phase encoding, a polynomial of y: no factor along the readout takes it away."""
    both_directions: bool = False
    """Whether separate calibration lines come once more, in trains that begin backwards."""
    receiver: Literal["follows", "one-frequency"] = "follows"
    """Whether the receiver demodulates at the frequency of the image's centre all the time, or on ramps too at that
    under the flat top."""
    delay_us: float = 0.0
    """How long the gradient lags behind the samples: forward and reversed echoes shift to opposite sides."""
    b0_hz: tuple[float, float] = (0.0, 0.0)
    """Off-resonance, in the middle, and what it gains over the image's field of view along x. Phase grows with it
    from echo to echo, from 0 at the first line of a train."""
    drift_hz_s: float = 0.0
    """How fast the off-resonance grows over the scan."""
    identifier: str | None = "ConventionalEPI"
    """Identifier of the trajectory's description in the header; None leaves the description out."""

    def echo_spacing_us(self, samples: int, dwell_us: float) -> float:
        """Time from one echo to the next, with readouts of so many samples."""
        return samples * dwell_us + 2 * self.acq_delay_us

    def flat_top_us(self, samples: int, dwell_us: float) -> float:
        """Time for which the gradient stays the same."""
        return self.echo_spacing_us(samples, dwell_us) - 2 * self.ramp_us


class ReferenceConfig(_Config):
    """Calibration lines of a gradient-echo scan of its own before the others, in a second encoding space."""

    matrix: tuple[Count, Count] = (32, 32)
    """Of the lines, (x, y), oversampling apart."""
    fov_mm: tuple[Positive, Positive] | None = None
    """Field of view, (x, y); default is that of the image."""


class MultibandConfig(_Config):
    """Slices that are excited and read out at once, and references of single ones before."""

    factor: Annotated[int, Field(ge=2)] = 2
    """How many slices a readout holds: the n-th of all excitations has the slices n, n + N, … of N excitations."""
    shift: int = 2
    """Blipped CAIPI: a slice lies one such part of the undersampled field of view further on than the one before it
    in the same readout. 1: there are no blips; a negative one shifts the other way."""
    reference_blips: bool = False
    """Whether single-band references carry the phase of the blips, too."""

    @model_validator(mode="after")
    def _has_direction(self) -> MultibandConfig:
        if self.shift == 0:
            raise ValueError("multiband.shift divides the field of view: 1 for no shift, 2 for half of it, …")
        return self

    @property
    def cycles(self) -> float:
        """Phase that a slice gains from line to line beyond the one before it, in cycles."""
        return 0.0 if self.shift == 1 else 1 / self.shift


class SamplingConfig(_Config):
    """Which points of k-space are acquired."""

    pattern: Literal[
        "equispaced",
        "random",
        "variable-density",
        "kt",
        "golden",
        "equispaced-fraction",
        "fastmri-random",
        "magic",
        "magic-fraction",
        "gaussian",
        "poisson",
        "poisson-uniform",
        "circus-radial",
        "circus-spiral",
        "radial",
        "kt-uniform",
        "kt-gaussian",
    ] = "equispaced"
    """Every R-th line, lines drawn with equal weight, or with a weight that falls towards the edge. Two belong to
    2-D series: ``kt`` takes every R-th line and another R-th in each frame, ``golden`` steps through k-space by the
    golden ratio, from frame to frame on. The others are those of `scanside.sampling`: of 2-D scans
    ``equispaced-fraction`` to ``gaussian`` and the series ``kt-uniform`` and ``kt-gaussian``; of 3-D scans
    ``gaussian`` to ``radial``."""
    acceleration: tuple[Positive, Positive] = (1.0, 1.0)
    """Acceleration along (k1, k2): integers for ``equispaced`` and ``kt``; the others use the product. ``random``,
    ``variable-density`` and ``golden`` count the calibration lines towards it; for the others `scanside.sampling`
    says."""
    shift: NonNegative = 0
    """``equispaced`` of 3-D scans: lines along k2 by which the lattice moves from one of its k1 lines to the next
    (CAIPIRINHA), fewer than the acceleration along k2."""
    density_power: float = Field(default=3.0, ge=0)
    """``variable-density``: the weight is (1 - r)^power, r the distance from the centre, 1 in the corner."""
    acs: tuple[NonNegative, NonNegative] = (0, 0)
    """Fully sampled calibration lines about the centre along (k1, k2). Both zero: none; one zero: all lines of that
    axis."""
    acs_mode: Literal["integrated", "separate"] = "integrated"
    """Calibration lines within the scan (flagged as Siemens does), or as a scan of their own before it."""
    vary: bool = False
    """Another pattern in every phase and repetition: shifted by a line (equispaced) or drawn anew; those of series
    always have one."""
    elliptical: bool = False
    """3-D: leave out the corners of the plane of phase encodings, beyond the ellipse that touches its edges."""
    seed: int = 0
    """Seed of what is drawn: random lines, the first shift of ``kt``, the first line of ``golden``."""
    oversampling: Annotated[int, Field(ge=1, le=4)] = 2
    """Readout oversampling: encoded matrix and field of view along x are this much larger."""
    phase_oversampling: float = Field(default=0.0, ge=0)
    """Share by which encoded matrix and field of view along y exceed the image's."""
    partition_oversampling: float = Field(default=0.0, ge=0)
    """3-D: the same along z."""
    phase_resolution: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the encoded lines about the centre that the protocol asks for: reduced resolution, not partial
    Fourier."""
    partial_fourier: tuple[Fraction, Fraction] = (1.0, 1.0)
    """Share of the lines along (k1, k2) that is acquired, from one end: 0.75 is 6/8."""
    partial_fourier_side: Literal["early", "late"] = "early"
    """Which end of k-space is left out: low counters, or high ones."""
    partial_echo: Fraction = 1.0
    """Share of a readout that is acquired; its beginning is left out (asymmetric echo)."""
    discard: tuple[NonNegative, NonNegative] = (0, 0)
    """Samples (before, after) the readout that hold transients and are announced for discarding."""
    reverse: Literal["none", "alternate", "all"] = "none"
    """Readouts that run backwards: samples are stored in the order of time and flagged REVERSE, and ``center_sample``
    counts them as they are stored."""

    multiband: MultibandConfig | None = None
    """2-D scans: several slices at once. The calibration lines, a scan of their own before, are those of single
    slices and have an encoding space of their own."""
    epi: EchoPlanarConfig | None = None
    """Echo trains, one for each segment of a 2-D image, and one for separate calibration lines of a slice. Whole
    readouts only: `partial_echo`, `discard` and `reverse` must keep their defaults."""
    reference: ReferenceConfig | None = None
    """Calibration lines of another scan, as FLASH lines before echo trains; in place of `acs`, of 2-D scans."""
    trajectory: TrajectoryConfig | None = None
    """Readouts that do not follow the lines of a grid: acceleration, calibration lines and what else is counted in
    lines must keep their defaults then; oversampling holds for both axes of the plane."""

    @model_validator(mode="after")
    def _only_a_trajectory(self) -> SamplingConfig:
        apart = {"trajectory", "oversampling", "seed"}
        others = sorted(
            name
            for name, info in type(self).model_fields.items()
            if name not in apart and getattr(self, name) != info.default
        )
        if self.trajectory is not None and others:
            raise ValueError(
                f"sampling.trajectory goes with no {', '.join(others)}: they count lines of a grid"
            )
        return self

    @model_validator(mode="after")
    def _whole_echoes(self) -> SamplingConfig:
        if self.epi is None:
            return self
        if self.partial_echo < 1 or any(self.discard) or self.reverse != "none":
            raise ValueError("sampling.epi goes with no partial_echo, discard or reverse")
        if 0 < self.epi.navigators < 3:
            raise ValueError(f"echo trains have no navigators or three and more, got {self.epi.navigators}")
        if self.epi.samples is not None and not self.epi.ramp_us:
            raise ValueError(
                "sampling.epi.samples needs ramps: without, samples are those of the encoded line"
            )
        return self

    @model_validator(mode="after")
    def _one_reference(self) -> SamplingConfig:
        if self.reference is not None and any(self.acs):
            raise ValueError("calibration lines are acs or a reference of their own, not both")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> SamplingConfig:
        if self.pattern in ("equispaced", "kt", "kt-uniform", "magic") and any(
            r != int(r) for r in self.acceleration
        ):
            raise ValueError(
                f"{self.pattern} sampling needs whole acceleration factors, got {self.acceleration}"
            )
        if any(r < 1 for r in self.acceleration):
            raise ValueError(f"acceleration factors are at least 1, got {self.acceleration}")
        if self.shift and (self.pattern != "equispaced" or self.shift >= self.acceleration[1]):
            raise ValueError(
                f"a shift of {self.shift} lines along k2 needs equispaced sampling with a larger acceleration there, "
                f"got {self.pattern} and {self.acceleration[1]:g}"
            )
        if self.reverse != "none" and self.discard[0] != self.discard[1]:
            raise ValueError("reversed readouts need as many samples to discard before as after")
        return self


class GeometryConfig(_Config):
    """Where the image lies, in patient coordinates (LPS)."""

    matrix: tuple[Count, Count, Count] = (128, 128, 1)
    """Acquired matrix over the field of view (x read, y phase, z partition); z > 1 is a 3-D scan."""
    fov_mm: tuple[Positive, Positive, Positive] = (240.0, 240.0, 5.0)
    """Field of view of the image; z is the slice thickness, or the slab of a 3-D scan."""
    recon_matrix: tuple[Count, Count, Count] | None = None
    """Matrix of the reconstructed image over the same field of view; default is the acquired one."""
    n_slices: Count = 1
    """Number of slices or slabs, side by side along the slice direction, centred on the offset."""
    slice_gap_mm: float = Field(default=0.0, ge=0)
    """Space between two slices."""
    slice_order: Literal["ascending", "interleaved"] = "ascending"
    """Order of acquisition; the slice counter always counts along the slice direction."""
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    """Directions before rotation, (read; phase; slice): axial (L; P; S), coronal (L; S; A), sagittal (P; S; L)."""
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation of the directions about the patient's x, then y, then z axis."""
    in_plane_deg: float = 0.0
    """Rotation of read and phase direction about the slice direction, before the others."""
    left_handed: bool = False
    """Negates the slice direction: the three directions then have determinant -1."""
    offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre of the stack or slab, LPS."""

    @model_validator(mode="after")
    def _consistent(self) -> GeometryConfig:
        if self.recon_matrix is not None and self.recon_matrix[2] != self.matrix[2] == 1:
            raise ValueError("a 2-D scan has recon_matrix z = 1")
        return self


class DynamicsConfig(_Config):
    """The counters beyond k-space lines."""

    averages: Count = 1
    """Repeats with the same counters but ``average``; only the noise differs."""
    te_ms: tuple[Positive, ...] = Field(default=(2.0,), min_length=1)
    """Echo times, one contrast each; tissue decays with its T2* from the first to the others."""
    phases: Count = 1
    """Cardiac phases of one beat."""
    repetitions: Count = 1
    """Repetitions: the frames of a dynamic series."""
    sets: Count = 1
    """Sets, as flow encodings have them: each adds a further smooth phase to the object."""
    segments: Count = 1
    """Parts in which a phase-encoded image is acquired: every n-th line belongs to one."""
    beat: Literal["phase", "time", "still"] = "phase"
    """What moves a beating phantom: the counter ``phase`` (gated), the time at which a repetition begins
    (real-time imaging), or nothing."""
    order: tuple[LoopName, ...] = ("average", "set", "contrast", "phase", "slice", "segment", "line")
    """Nesting of the loops within a repetition, from the outermost to the innermost."""

    @model_validator(mode="after")
    def _consistent(self) -> DynamicsConfig:
        names = ("average", "set", "contrast", "phase", "slice", "segment", "line")
        if sorted(self.order) != sorted(names):
            raise ValueError(f"order needs each of {', '.join(names)} once, got {', '.join(self.order)}")
        if self.order.index("line") < self.order.index("segment"):
            raise ValueError("order: the loop over lines lies within that over segments")
        return self


class TimingConfig(_Config):
    """The pace of the scan."""

    tr_ms: Positive = 5.0
    """Time from one readout to the next."""
    dwell_us: Positive = 5.0
    """Sample time of the imaging readouts."""
    start_s: float = Field(default=43_200.0, ge=0)
    """Time of day of the first readout, in seconds after midnight."""
    heart_rate_bpm: Positive = 60.0
    """Pace of the ECG and of real-time cardiac motion."""


class WaveformConfig(_Config):
    """A waveform beside the readouts."""

    ecg: bool = False
    """Whether an ECG-like waveform is sent."""
    sample_time_ms: Positive = 2.5
    """Sample time of the waveform."""
    chunk_ms: Positive = 100.0
    """Length of one waveform message."""


class QuirkConfig(_Config):
    """Habits of vendors and converters that a reader has to live with."""

    limits: Literal["full", "step_1", "none"] = "full"
    """Encoding limits in the header: all counters, only ``kspace_encoding_step_1``, or none at all."""
    center_in_user: bool = True
    """Siemens: the centre of k-space also stands in ``idx.user[5]`` (k1) and ``idx.user[6]`` (k2). Where ``limits``
    do not tell it, the header names SIEMENS as the vendor: nobody else's user counters can be understood."""
    user_parameters: bool = True
    """Siemens: ``EmbeddedRefLinesE1`` and ``EmbeddedRefLinesE2`` among the user parameters."""
    absent: tuple[OptionalSection, ...] = ()
    """Optional parts of the header that are left out."""
    zero_directions: bool = False
    """Directions, position and sample time are zero, as some converters leave them."""
    navigator_every: NonNegative = 0
    """After so many lines comes a NAVIGATION_DATA readout whose counters are those of the central line."""
    phase_correction_lines: NonNegative = 0
    """PHASECORR_DATA readouts before the first line of every image, with the counters of the central line."""


class ScanConfig(_Config):
    """A whole simulated scan."""

    name: str = "simulated"
    """Protocol name in the header."""
    measurement_id: str = "scanside_1_1_2"
    """Device, patient, study and measurement, as Gadgetron's noise adjustment wants; scans with noise readouts that
    go to one server have each their own."""
    phantom: PhantomConfig = PhantomConfig()
    coils: CoilConfig = CoilConfig()
    noise: NoiseConfig = NoiseConfig()
    sampling: SamplingConfig = SamplingConfig()
    geometry: GeometryConfig = GeometryConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    timing: TimingConfig = TimingConfig()
    waveforms: WaveformConfig = WaveformConfig()
    quirks: QuirkConfig = QuirkConfig()

    @model_validator(mode="after")
    def _consistent(self) -> ScanConfig:
        sampling = self.sampling
        along_k2 = (
            sampling.acceleration[1] > 1,
            sampling.acs[1] > 0,
            sampling.partial_fourier[1] < 1,
            sampling.partition_oversampling > 0,
            sampling.elliptical,
        )
        if self.geometry.matrix[2] > 1 and sampling.reference is not None:
            raise ValueError("a reference in a second encoding space is simulated of 2-D scans")
        if self.geometry.matrix[2] == 1 and any(along_k2):
            raise ValueError("a 2-D scan (matrix z = 1) has no second phase encoding to accelerate or to cut")
        if self.phantom.off_resonance_hz and sampling.trajectory is None:
            raise ValueError("phantom.off_resonance_hz goes with sampling.trajectory only")
        if sampling.multiband is not None:
            if self.geometry.matrix[2] > 1 or self.geometry.n_slices % sampling.multiband.factor:
                raise ValueError(
                    f"multiband {sampling.multiband.factor} needs a 2-D scan with a multiple of as many slices, got "
                    f"{self.geometry.n_slices} slices of {self.geometry.matrix[2]} partitions"
                )
            if any(sampling.acs) and sampling.acs_mode != "separate":
                raise ValueError("multiband has calibration lines of single slices: acs_mode is 'separate'")
        if sampling.epi is not None:
            n = sampling.epi.samples or self.geometry.matrix[0] * sampling.oversampling
            flat_us = sampling.epi.flat_top_us(n, self.timing.dwell_us)
            if self.geometry.matrix[2] > 1 or self.dynamics.order[-1] != "line":
                raise ValueError(
                    "echo trains are simulated of 2-D scans with the lines as the innermost loop"
                )
            if flat_us < 0 or not flat_us.is_integer():
                raise ValueError(
                    f"the gradient's flat top comes to {flat_us:g} µs, expected whole microseconds: change ramp_us, "
                    "acq_delay_us or dwell_us"
                )
        of_lines = sampling.pattern in LINES or sampling.pattern in SERIES
        if self.geometry.matrix[2] > 1 and of_lines and sampling.pattern not in ("equispaced", *PLANES):
            raise ValueError(f"the pattern {sampling.pattern} is one of 2-D scans (matrix z = 1)")
        if self.geometry.matrix[2] == 1 and not of_lines:
            raise ValueError(f"the pattern {sampling.pattern} is one of 3-D scans (matrix z > 1)")
        return self
