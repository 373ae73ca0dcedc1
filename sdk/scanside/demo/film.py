"""A beating heart, streamed at the scanner's pace: the learned pipeline for films beside classical ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scanside import metrics
from scanside.demo.compare import Magnitude, sensitivity_of, true_slice
from scanside.demo.result import ZERO_FILLED, FilmQuality, FilmResult, MethodResult
from scanside.demo.steps import run_in_node, write_scan
from scanside.errors import ScansideError
from scanside.mrd.geometry import Geometry
from scanside.replay import replay
from scanside.simulate import DynamicsConfig, ScanConfig, Truth, preset, simulate

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["FILM", "LEARNED_FILM", "compare_films", "film_scan", "run_film", "seen_frames"]

CLASSICAL_FILM = "cine-view-sharing"
LEARNED_FILM = "cine"
FILM = 32
"""Frames: about three beats."""

_MOVES = 0.15
"""What changes by more than this part of the largest change belongs to the heart."""


def film_scan(frames: int = FILM) -> ScanConfig:
    """Preset ``cine`` with so many frames."""
    return preset("cine").model_copy(update={"dynamics": DynamicsConfig(repetitions=frames, beat="time")})


def run_film(
    folder: Path, *, config: ScanConfig, device: str = "auto", on_step: Callable[[str], None]
) -> FilmResult:
    """Simulate a real-time scan of a beating heart and stream it to a Gadgetron node at the scanner's pace.

    Where the bundle or an engine is not to be had, the learned film is left out, and the result says why.

    Args:
        folder: made if need be; gets raw data and images.
        config: one 2-D slice, frames by repetition.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "scan.h5"
    on_step("simulating a beating heart")
    scan = simulate(config)
    write_scan(scan, recording)
    images: dict[str, list[Image]] = {}
    on_step("reconstructing its film classically")
    for name in (ZERO_FILLED, CLASSICAL_FILM):
        images[name] = replay(recording, name, folder / f"{name}.h5", device=device).images
    step = "streaming it to a Gadgetron node at the scanner's pace"
    method, made = run_in_node(LEARNED_FILM, recording, config, step, device, on_step, "realtime")
    if not method.missing:
        images[LEARNED_FILM] = made
    return compare_films(images, scan.truth, seen_frames(scan.truth), _frame_ms(config), method)


def seen_frames(truth: Truth) -> Magnitude:
    """The object in each repetition as the array sees it, ``(repetition, y, x)``, of a scan of one slice."""
    seen: Magnitude = np.abs(truth.images[0, 0, :, 0, 0, 0]) * sensitivity_of(truth)[0, 0]
    return seen


def compare_films(
    images: Mapping[str, Sequence[Image]],
    truth: Truth,
    seen: Magnitude,
    frame_ms: float,
    method: MethodResult,
) -> FilmResult:
    """Compare films of several methods with the truth.

    Args:
        images: by the name of the method, one for each repetition.
        truth: of the scan.
        seen: ``(time, y, x)``, what the images should show.
        frame_ms: time from one image to the next.
        method: how the pipeline that is shown fared.

    Raises:
        ScansideError: a frame is missing, or lies elsewhere than its truth.
    """
    numbers = list(range(len(seen)))
    change = seen.std(axis=0)
    moving = change > _MOVES * change.max()
    films, quality = {}, {}
    for name, some in images.items():
        by_number = {int(image.header["repetition"]): image for image in some}
        if sorted(by_number) != numbers:
            raise ScansideError(
                f"'{name}' gave {len(some)} images of the {len(numbers)} frames, with the repetitions "
                f"{', '.join(map(str, sorted(by_number)))}"
            )
        geometry = Geometry.from_image_header(by_number[0].header)
        true_slice(geometry, truth)
        film = np.stack([by_number[n].data[0, 0].abs().cpu().numpy().astype(np.float64) for n in numbers])
        films[name] = film * ((film * seen).sum() / (film * film).sum())
        quality[name] = _quality(films[name], seen, moving)
    return FilmResult(seen, films, quality, moving, geometry, frame_ms, method)


def _quality(film: Magnitude, truth: Magnitude, moving: metrics.Mask) -> FilmQuality:
    frames = list(zip(film, truth, strict=True))
    return FilmQuality(
        float(np.mean([metrics.psnr(a, b) for a, b in frames])),
        float(np.mean([metrics.ssim(a, b) for a, b in frames])),
        float(np.mean([metrics.psnr(a, b, moving) for a, b in frames])),
    )


def _frame_ms(config: ScanConfig) -> float:
    lines = config.geometry.matrix[1] / (config.sampling.acceleration[0] * config.sampling.acceleration[1])
    return round(lines) * config.timing.tr_ms
