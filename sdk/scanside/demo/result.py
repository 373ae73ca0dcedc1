"""What the demonstration made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scanside import metrics
from scanside.demo.compare import Magnitude, SliceResult
from scanside.mrd.geometry import Geometry
from scanside.replay import ReplayResult

if TYPE_CHECKING:
    from scanside.demo.exhibits import Exhibit
    from scanside.engines.choice import Choice
    from scanside.items import Image

__all__ = [
    "CLASSICAL",
    "TITLES",
    "ZERO_FILLED",
    "DemoResult",
    "ExhibitResult",
    "FilmQuality",
    "FilmResult",
    "LearnedResult",
    "MethodResult",
    "Showcase",
    "StreamResult",
]

ZERO_FILLED = "fft"
CLASSICAL = "grappa"
TITLES: Mapping[str, str] = {
    "fft": "zero-filled",
    "grappa": "GRAPPA",
    "sense": "CG-SENSE",
    "cine-view-sharing": "view sharing",
}
"""What classical pipelines are called in the report; learned ones have their own name."""


@dataclass(frozen=True, slots=True)
class MethodResult:
    """How a learned pipeline fared.

    Attributes:
        pipeline: its name.
        choice: which engine was chosen, and why the others were not; None where it did not come to that.
        missing: why there is no image; empty where there is one.
        notes: what its images say: that the fallback made them, or in what the scan differs from those that the
            network was trained for.
    """

    pipeline: str
    choice: Choice | None = None
    missing: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedResult:
    """What came of the learned pipelines.

    Attributes:
        slices: comparison with truth, slice by slice; the methods in the order in which they are shown.
        methods: the learned pipelines, those without an image too.
    """

    slices: list[SliceResult]
    methods: list[MethodResult]


class FilmQuality(NamedTuple):
    """How close the frames of a film are to the truth, means over the frames (see `scanside.metrics`)."""

    psnr_db: float
    ssim: float
    psnr_moving_db: float


@dataclass(frozen=True, slots=True, eq=False)
class FilmResult:
    """Films of several methods beside the truth.

    Attributes:
        truth: ``(time, y, x)`` magnitudes, what the receive array sees of the object.
        films: of each method, likewise, each scaled by one factor to fit the truth best.
        quality: of each method.
        moving: ``(y, x)``, where the truth changes in time.
        geometry: where the slice lies.
        frame_ms: time from one frame to the next.
        method: how the learned pipeline fared.
    """

    truth: Magnitude
    films: Mapping[str, Magnitude]
    quality: Mapping[str, FilmQuality]
    moving: metrics.Mask
    geometry: Geometry
    frame_ms: float
    method: MethodResult


@dataclass(frozen=True, slots=True)
class ExhibitResult:
    """What came of a shipped pipeline on a scan of its own.

    Attributes:
        exhibit: what is shown.
        slices: comparison with truth, slice by slice; the pipeline itself is the last method.
        nrmse: in the object, of every method, the mean of all slices.
        told: of every method, what its images say: means by meta attribute.
        maps: of the middle slice, those that came with the pipeline's images, say of their noise.
        same_pixels: whether the node gave the pixels of the pipeline in this process.
        warnings: what the operator was told.
    """

    exhibit: Exhibit
    slices: list[SliceResult]
    nrmse: Mapping[str, float]
    told: Mapping[str, Mapping[str, float]]
    maps: list[Image]
    same_pixels: bool
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class StreamResult:
    """Images that came while a scan ran.

    Attributes:
        film: the images beside the truth.
        n_during: how many came before the last readout had been sent.
        delays_ms: of these, the time from the last readout of an image until the image came.
    """

    film: FilmResult
    n_during: int
    delays_ms: list[float]


@dataclass(frozen=True, slots=True)
class Showcase:
    """All other shipped pipelines that are shown.

    Attributes:
        exhibits: images beside the truth.
        stream: golden-angle spokes in real time.
    """

    exhibits: list[ExhibitResult]
    stream: StreamResult


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demonstration made.

    Attributes:
        folder: where everything is.
        slices: comparison of the classical pipeline with truth, slice by slice.
        same_pixels: whether the node gave the same pixels as the pipeline in this process.
        node: the reconstruction in the node.
        direct: the reconstruction in this process.
        learned: the learned pipelines on a scan of their own.
        checked: the same on a noisy scan, where the self-check of a pipeline sends another image than its network's.
        film: a beating heart by the learned pipeline for films, and classically.
        showcase: further shipped pipelines, where they were asked for.
    """

    folder: Path
    slices: list[SliceResult]
    same_pixels: bool
    node: ReplayResult
    direct: ReplayResult
    learned: LearnedResult
    checked: LearnedResult
    film: FilmResult
    showcase: Showcase | None = None

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.folder / "report.html"
