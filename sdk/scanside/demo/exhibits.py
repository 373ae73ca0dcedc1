"""Shipped pipelines that the whole demonstration shows, each on a simulated scan of its own.

A further pipeline is one more entry in `EXHIBITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scanside.simulate import CoilConfig, GeometryConfig, NoiseConfig, SamplingConfig, ScanConfig, preset

__all__ = ["EXHIBITS", "Exhibit", "Way", "first_repetition"]


class Way(NamedTuple):
    """A pipeline, and settings of it that are changed."""

    pipeline: str
    settings: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Exhibit:
    """A shipped pipeline beside other ways to the image.

    Attributes:
        name: of the pipeline, its folder and its picture.
        title: of its section on the page.
        scan: makes the configuration: one contrast, slices or slabs.
        beside: what it is compared with, by what that is called; each gives an image of every slice.
        settings: of the pipeline itself.
        told: what images say as a share of the signal, by meta attribute: titles of columns with percents.
        note: what to look at.
    """

    name: str
    title: str
    scan: Callable[[], ScanConfig]
    beside: Mapping[str, Way] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def ways(self) -> dict[str, Way]:
        """All ways to the image, the pipeline itself last."""
        return {**self.beside, self.name: Way(self.name, self.settings)}


def first_repetition(name: str) -> ScanConfig:
    """A preset without the repetitions that follow the first."""
    config = preset(name)
    return config.model_copy(update={"dynamics": config.dynamics.model_copy(update={"repetitions": 1})})


def _lines(
    sampling: SamplingConfig, matrix: tuple[int, int, int] = (192, 192, 1), n_coils: int = 8
) -> ScanConfig:
    """A brain scan by lines of a grid: a slice, or a slab of partitions of 4 mm."""
    return ScanConfig(
        coils=CoilConfig(n_coils=n_coils),
        noise=NoiseConfig(std=0.02),
        sampling=sampling,
        geometry=GeometryConfig(
            matrix=matrix, fov_mm=(240.0, 240.0, 4.0 * matrix[2]), offset_mm=(0.0, 0.0, 16.0)
        ),
    )


_GRIDDING = Way("radial-realtime", {"gather.readouts": None, "gather.step": None})

EXHIBITS: tuple[Exhibit, ...] = (
    Exhibit(
        "radial",
        "Radial: CG-SENSE of golden-angle spokes",
        lambda: first_repetition("radial"),
        beside={"gridding": _GRIDDING},
        note="34 spokes for 192 × 192 pixels: gridding leaves streaks, which CG-SENSE takes away.",
    ),
    Exhibit(
        "spiral",
        "Spiral: CG-SENSE of interleaved arms",
        lambda: preset("spiral"),
        beside={"gridding": _GRIDDING},
        note="8 of 24 arms: the centre is complete, and at the edge of k-space arms lie three times too far apart.",
    ),
    Exhibit(
        "epi",
        "EPI: ramp samples, odd–even phase, GRAPPA",
        lambda: first_repetition("epi"),
        beside={"epi, uncorrected": Way("epi", {"epi.phase": "none", "epi.b0": "none"})},
        told={"ScansideGhost": "ghost, % of the signal"},
        note=(
            "Single shots of R = 2 whose echoes disagree by a phase, a delay and off-resonance that drifts. Without "
            "correction the object comes again, shifted along phase encoding; three navigators take that away. The "
            "ghost is measured as ScansideGhost tells it in each image: where the shifted object lies in air."
        ),
    ),
    Exhibit(
        "grappa",
        "CAIPIRINHA: GRAPPA on a shifted lattice",
        lambda: _lines(SamplingConfig(acceleration=(2, 2), shift=1, acs=(24, 20)), (96, 96, 40), 12),
        beside={"zero-filled": Way("fft")},
        note="Every second line along both phase encodings, each column of the lattice shifted by one partition.",
    ),
    Exhibit(
        "multiband",
        "Multiband: three slices at once",
        lambda: preset("multiband"),
        note=(
            "Twelve slices in four excitations, R = 2, those of an excitation shifted against each other by thirds "
            "of the field of view (blipped CAIPI). Single-band references tell split slice-GRAPPA how to part them."
        ),
    ),
    Exhibit(
        "pics",
        "Compressed sensing: sparse in wavelets",
        lambda: _lines(SamplingConfig(pattern="variable-density", acceleration=(4, 1), acs=(20, 0))),
        beside={"sense": Way("sense")},
        note="A quarter of the lines, drawn at random and dense about the centre.",
    ),
    Exhibit(
        "snr",
        "Noise: SNR and g-factor",
        lambda: _lines(SamplingConfig(acceleration=(3, 1), acs=(24, 0))),
        note="Maps come as series of their own: the SNR times 10, the g-factor times 100, the noise times 1000.",
    ),
)
"""In the order in which they are shown."""
