"""Scans by name."""

from __future__ import annotations

from collections.abc import Callable

from scanside.errors import ConfigError
from scanside.simulate.config import (
    CoilConfig,
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    MultibandConfig,
    NoiseConfig,
    PhantomConfig,
    QuirkConfig,
    SamplingConfig,
    ScanConfig,
    TimingConfig,
    TrajectoryConfig,
    WaveformConfig,
)

__all__ = ["PRESETS", "preset"]


def _brain_oblique() -> ScanConfig:
    """Five oblique brain slices, 12 coils, R = 3 with integrated calibration lines, and a noise measurement."""
    return ScanConfig(
        name="brain-oblique",
        phantom=PhantomConfig(weighting="t2", supersampling=(2, 2, 4)),
        coils=CoilConfig(n_coils=12),
        noise=NoiseConfig(std=0.012),
        sampling=SamplingConfig(acceleration=(3, 1), acs=(24, 0)),
        geometry=GeometryConfig(
            matrix=(256, 224, 1),
            fov_mm=(240.0, 210.0, 3.0),
            n_slices=5,
            slice_gap_mm=9.0,
            slice_order="interleaved",
            rotation_deg=(-14.0, 5.0, 4.0),
            offset_mm=(2.0, -1.0, 16.0),
        ),
    )


def _brain_3d() -> ScanConfig:
    """A 3-D brain, R = 2 x 2, partial Fourier in both phase encodings, partition oversampling."""
    return ScanConfig(
        name="brain-3d",
        phantom=PhantomConfig(weighting="t1", supersampling=(2, 2, 1)),
        coils=CoilConfig(n_coils=12),
        noise=NoiseConfig(std=0.01),
        sampling=SamplingConfig(
            acceleration=(2, 2), acs=(24, 20), partial_fourier=(0.875, 0.875), partition_oversampling=0.25
        ),
        geometry=GeometryConfig(
            matrix=(128, 120, 48), fov_mm=(230.0, 215.625, 144.0), rotation_deg=(-10.0, 0.0, 3.0)
        ),
    )


def _cine() -> ScanConfig:
    """A short-axis heart that beats: 60 frames, R = 5, in each other random lines, dense about the centre; an ECG."""
    return ScanConfig(
        name="cine",
        phantom=PhantomConfig(kind="cardiac", background_phase_rad=0.6),
        coils=CoilConfig(n_coils=8),
        noise=NoiseConfig(std=0.015),
        sampling=SamplingConfig(
            pattern="variable-density", acceleration=(5, 1), density_power=2.0, acs=(11, 0), vary=True
        ),
        geometry=SHORT_AXIS,
        dynamics=DynamicsConfig(repetitions=60, beat="time"),
        timing=TimingConfig(tr_ms=2.6, dwell_us=2.0, heart_rate_bpm=55.0),
        waveforms=WaveformConfig(ecg=True),
    )


def _cine_gated() -> ScanConfig:
    """A short-axis cine: one beat in 20 phases, segmented, R = 2, with an ECG."""
    return ScanConfig(
        name="cine-gated",
        phantom=PhantomConfig(kind="cardiac", background_phase_rad=0.6),
        coils=CoilConfig(n_coils=12),
        noise=NoiseConfig(std=0.015),
        sampling=SamplingConfig(acceleration=(2, 1), acs=(24, 0), phase_resolution=0.8),
        geometry=SHORT_AXIS,
        dynamics=DynamicsConfig(
            phases=20,
            segments=8,
            order=("average", "set", "contrast", "slice", "segment", "phase", "line"),
        ),
        timing=TimingConfig(tr_ms=3.2, dwell_us=2.4, heart_rate_bpm=64.0),
        waveforms=WaveformConfig(ecg=True),
    )


def _cine_realtime() -> ScanConfig:
    """Real-time short-axis imaging: 60 frames, R = 4, the pattern shifts from frame to frame."""
    return ScanConfig(
        name="cine-realtime",
        phantom=PhantomConfig(kind="cardiac", background_phase_rad=0.6),
        coils=CoilConfig(n_coils=12),
        noise=NoiseConfig(std=0.02),
        sampling=SamplingConfig(pattern="kt", acceleration=(4, 1)),
        geometry=SHORT_AXIS.model_copy(update={"matrix": (128, 128, 1)}),
        dynamics=DynamicsConfig(repetitions=60, beat="time"),
        timing=TimingConfig(tr_ms=2.6, dwell_us=2.0, heart_rate_bpm=70.0),
        waveforms=WaveformConfig(ecg=True),
    )


def _bench() -> ScanConfig:
    """Fully sampled frames of 256 x 256, 8 coils, 512 samples a readout: raise `repetitions` as needed."""
    return ScanConfig(
        name="bench",
        geometry=GeometryConfig(matrix=(256, 256, 1), fov_mm=(240.0, 240.0, 5.0), offset_mm=(0.0, 0.0, 20.0)),
    )


def _phantom_full() -> ScanConfig:
    """A fully sampled Shepp-Logan head, 16 coils, with a header as sparse as converters write it."""
    return ScanConfig(
        name="phantom-full",
        phantom=PhantomConfig(kind="shepp-logan", background_phase_rad=0.0),
        coils=CoilConfig(n_coils=16),
        noise=NoiseConfig(scan="none"),
        geometry=GeometryConfig(matrix=(128, 128, 1)),
        quirks=QuirkConfig(
            limits="step_1",
            center_in_user=False,
            zero_directions=True,
            absent=("measurementInformation", "sequenceParameters", "studyInformation", "userParameters"),
        ),
    )


def _radial() -> ScanConfig:
    """Golden-angle spokes through a brain: 192 x 192, 8 coils, 34 spokes a frame, 12 frames."""
    return ScanConfig(
        name="radial",
        geometry=GeometryConfig(
            matrix=(192, 192, 1), rotation_deg=(10.0, 5.0, 0.0), offset_mm=(4.0, -6.0, 25.0)
        ),
        sampling=SamplingConfig(trajectory=TrajectoryConfig(readouts=34, angles="golden")),
        dynamics=DynamicsConfig(repetitions=12),
    )


def _radial_cine() -> ScanConfig:
    """Golden-angle spokes through a short-axis heart that beats: 192 x 192, 8 coils, 40 times 17 spokes."""
    return ScanConfig(
        name="radial-cine",
        phantom=PhantomConfig(kind="cardiac", background_phase_rad=0.6),
        geometry=SHORT_AXIS,
        sampling=SamplingConfig(trajectory=TrajectoryConfig(readouts=17, angles="golden")),
        dynamics=DynamicsConfig(repetitions=40, beat="time"),
        timing=TimingConfig(tr_ms=4.0, dwell_us=2.0),
    )


def _spiral() -> ScanConfig:
    """Eight of 24 spiral arms through a brain: 192 x 192, 8 coils."""
    return ScanConfig(
        name="spiral",
        geometry=GeometryConfig(
            matrix=(192, 192, 1), rotation_deg=(10.0, 5.0, 0.0), offset_mm=(4.0, -6.0, 25.0)
        ),
        sampling=SamplingConfig(
            trajectory=TrajectoryConfig(kind="spiral", readouts=8, full=24, samples=1200)
        ),
    )


def _epi() -> ScanConfig:
    """Single-shot EPI of three brain slices, 96 x 96, R = 2, ramp sampling, navigators, echoes that do not agree."""
    return ScanConfig(
        name="epi",
        sampling=SamplingConfig(
            acceleration=(2, 1),
            acs=(24, 0),
            acs_mode="separate",
            epi=EchoPlanarConfig(
                odd_even_rad=(0.5, -0.8, 0.6), delay_us=1.2, b0_hz=(6.0, 0.0), drift_hz_s=0.5
            ),
        ),
        geometry=GeometryConfig(
            matrix=(96, 96, 1),
            fov_mm=(240.0, 240.0, 4.0),
            n_slices=3,
            slice_gap_mm=8.0,
            offset_mm=(0.0, 0.0, 20.0),
        ),
        dynamics=DynamicsConfig(repetitions=2),
        timing=TimingConfig(tr_ms=1.0, dwell_us=5.0),
    )


def _multiband() -> ScanConfig:
    """Three of twelve brain slices at once, R = 2, shifted by a third of the field of view; references of each."""
    return ScanConfig(
        name="multiband",
        coils=CoilConfig(n_coils=24),
        noise=NoiseConfig(std=0.01),
        sampling=SamplingConfig(
            acceleration=(2, 1),
            acs=(36, 0),
            acs_mode="separate",
            multiband=MultibandConfig(factor=3, shift=3),
        ),
        geometry=GeometryConfig(
            matrix=(128, 128, 1),
            fov_mm=(240.0, 240.0, 4.0),
            n_slices=12,
            slice_gap_mm=5.0,
            offset_mm=(0.0, 0.0, 16.0),
        ),
    )


SHORT_AXIS = GeometryConfig(
    matrix=(192, 192, 1),
    fov_mm=(360.0, 360.0, 8.0),
    # Read direction from the septum to the free wall, phase direction down, slice direction from apex to base.
    rotation_deg=(-54.0, 0.0, 50.0),
    offset_mm=(38.0, -38.0, 0.0),
)
"""Short axis of the cardiac phantom through the middle of its left ventricle."""

PRESETS: dict[str, Callable[[], ScanConfig]] = {
    "brain-oblique": _brain_oblique,
    "brain-3d": _brain_3d,
    "cine": _cine,
    "cine-gated": _cine_gated,
    "cine-realtime": _cine_realtime,
    "bench": _bench,
    "phantom-full": _phantom_full,
    "radial": _radial,
    "radial-cine": _radial_cine,
    "spiral": _spiral,
    "epi": _epi,
    "multiband": _multiband,
}
"""Makers of the shipped configurations; their docstrings say what each is."""


def preset(name: str) -> ScanConfig:
    """A shipped configuration.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"no simulated scan is called '{name}'; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
