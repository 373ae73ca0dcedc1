"""The learned pipelines on a simulated scan, beside zero-filled and classical images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.demo.compare import compare_slices
from scanside.demo.engines import quick_choice
from scanside.demo.result import ZERO_FILLED, LearnedResult, MethodResult
from scanside.errors import ScansideError
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.replay import replay
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["LEARNED", "SCAN", "notes_of", "run_learned"]

CLASSICAL = "sense"
LEARNED = ("student", "unrolled")

SCAN = ScanConfig(
    name="brain-learned",
    phantom=PhantomConfig(weighting="t2", seed=7, supersampling=(2, 2, 2)),
    coils=CoilConfig(n_coils=8),
    noise=NoiseConfig(std=0.02),
    sampling=SamplingConfig(pattern="variable-density", acceleration=(4, 1), acs=(20, 0), seed=3),
    geometry=GeometryConfig(
        matrix=(224, 192, 1),
        fov_mm=(266.0, 228.0, 4.0),
        n_slices=3,
        slice_gap_mm=14.0,
        rotation_deg=(-10.0, 3.0, 2.0),
        offset_mm=(0.0, 2.0, 22.0),
    ),
)
"""Three brain slices, 8 coils, every fourth line on average: within what the shipped networks were trained for."""


def run_learned(
    folder: Path, *, config: ScanConfig = SCAN, device: str = "auto", on_step: Callable[[str], None]
) -> LearnedResult:
    """Simulate a scan and reconstruct it with the learned pipelines, in a Gadgetron node.

    A pipeline whose bundle or engine is not to be had is left out, and the result says why.

    Args:
        folder: made if need be; gets raw data, truth and images.
        config: a 2-D scan of one contrast.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "scan.h5"
    on_step("simulating the scan for the learned pipelines")
    scan = simulate(config)
    with Hdf5Writer(recording, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    scan.truth.save(folder / "truth.npz")
    images: dict[str, list[Image]] = {}
    on_step("reconstructing it classically")
    for name in (ZERO_FILLED, CLASSICAL):
        images[name] = replay(recording, name, folder / f"{name}.h5", device=device).images
    methods = []
    size = (config.geometry.matrix[1], config.geometry.matrix[0])
    for name in LEARNED:
        try:
            choice = quick_choice(name, size, config.coils.n_coils, on_step)
        except ScansideError as error:
            methods.append(MethodResult(name, missing=str(error)))
            continue
        if choice.chosen is None:
            methods.append(MethodResult(name, choice, missing="no engine was accepted on this machine"))
            continue
        on_step(f"reconstructing it with {name} in a Gadgetron node")
        settings = {
            "engine.sizes": [list(size)],
            "engine.n_coils": [config.coils.n_coils],
            "engine.backend": choice.chosen.backend,
            "engine.precision": choice.chosen.precision,
        }
        made = replay(
            recording, name, folder / f"{name}.h5", via="gadgetron", settings=settings, device=device
        )
        images[name] = made.images
        methods.append(MethodResult(name, choice, notes=notes_of(made.images)))
    return LearnedResult(compare_slices(images, scan.truth), methods)


def notes_of(images: list[Image]) -> tuple[str, ...]:
    """What images say of their making, each thing once."""
    notes = []
    for image in images:
        if "ScansideFallback" in image.meta:
            notes.append(f"the classical fallback made the image: {image.meta['ScansideFallback'][-1]}")
        if "ScansideFitness" in image.meta:
            notes.append(f"the network was not trained for this: {'; '.join(image.meta['ScansideFitness'])}")
    return tuple(dict.fromkeys(notes))
