"""Synthetic MRD scans whose truth is known.

::

    scan = simulate(preset("brain-oblique"))
    for item in scan.items():        # Readouts and Waveform, in the order of acquisition
        ...
    scan.truth.save("truth.npz")     # image, coil maps, mask and affine
"""

from __future__ import annotations

from scanside.simulate.config import (
    CoilConfig,
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    MultibandConfig,
    NoiseConfig,
    PhantomConfig,
    QuirkConfig,
    ReferenceConfig,
    SamplingConfig,
    ScanConfig,
    TimingConfig,
    TrajectoryConfig,
    WaveformConfig,
)
from scanside.simulate.given import GivenScan
from scanside.simulate.playback import play
from scanside.simulate.presets import PRESETS, preset
from scanside.simulate.scan import NoiseScan, SimulatedScan, simulate
from scanside.simulate.truth import Truth

__all__ = [
    "PRESETS",
    "CoilConfig",
    "DynamicsConfig",
    "EchoPlanarConfig",
    "GeometryConfig",
    "GivenScan",
    "MultibandConfig",
    "NoiseConfig",
    "NoiseScan",
    "PhantomConfig",
    "QuirkConfig",
    "ReferenceConfig",
    "SamplingConfig",
    "ScanConfig",
    "SimulatedScan",
    "TimingConfig",
    "TrajectoryConfig",
    "Truth",
    "WaveformConfig",
    "play",
    "preset",
    "simulate",
]
