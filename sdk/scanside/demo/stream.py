"""Golden-angle spokes through a beating heart, sent at the scanner's pace: images while the scan runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.demo.film import compare_films, seen_frames
from scanside.demo.result import MethodResult, StreamResult
from scanside.demo.steps import scan_with_truth
from scanside.pipeline import Pipeline
from scanside.replay import replay
from scanside.simulate import ScanConfig
from scanside.stages.gather import GatherSamples

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["PIPELINE", "STREAM", "run_stream"]

PIPELINE = "radial-realtime"
STREAM = "radial-cine"
"""The preset: as many spokes in a repetition as `PIPELINE` has from one image to the next."""


def run_stream(
    folder: Path, config: ScanConfig, pool: Path, device: str, on_step: Callable[[str], None]
) -> StreamResult:
    """Simulate the scan, stream it to a Gadgetron node, and compare each image with what its spokes saw.

    Args:
        folder: made if need be; gets raw data, truth and images.
        config: one slice; a repetition has as many spokes as there are from one image to the next, and an image those
            of two repetitions.
        pool: socket of a server that is ready.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    on_step("simulating spokes through a beating heart")
    scan, recording = scan_with_truth(config, folder)
    on_step("streaming them to a Gadgetron node at the scanner's pace")
    images: dict[str, list[Image]] = {}
    live = replay(
        recording,
        PIPELINE,
        folder / f"{PIPELINE}.h5",
        via="gadgetron",
        speed="realtime",
        device=device,
        pool=pool,
    )
    images[PIPELINE] = live.images
    seen = seen_frames(scan.truth)
    window = _window()
    step = window.step or 1
    method = MethodResult(PIPELINE)
    film = compare_films(images, scan.truth, (seen[1:] + seen[:-1]) / 2, step * config.timing.tr_ms, method)
    before = live.n_readouts - config.dynamics.repetitions * step  # readouts of noise
    waited = [
        max(0, sent - (before + (window.readouts or step) + number * step))
        for number, sent in enumerate(live.n_sent)
        if sent < live.n_readouts
    ]
    return StreamResult(film, len(waited), [config.timing.tr_ms * n for n in waited])


def _window() -> GatherSamples.Config:
    """How many spokes the pipeline takes for an image, and from one to the next."""
    (stage,) = (one for one in Pipeline.load(PIPELINE).stages if isinstance(one, GatherSamples))
    return stage.config
