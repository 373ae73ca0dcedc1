"""The learned pipelines on a simulated scan, beside zero-filled and classical images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.demo.compare import compare_slices
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
    from scanside.engines.backends.base import Precision
    from scanside.engines.choice import Choice
    from scanside.items import Image

__all__ = ["LEARNED", "SCAN", "run_learned"]

CLASSICAL = "sense"
LEARNED = ("student", "unrolled")

QUICK: tuple[tuple[str, Precision], ...] = (
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("eager", "bf16"),
    ("eager", "fp32"),
)
"""Engines that are built in seconds, in the order in which they are tried, the fastest first as a rule."""

QUICK_UNROLLED = QUICK[-2:]
"""Of unrolled networks, whose many steps of data consistency make every check a long one: those accepted at once."""

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
            choice = _choice(name, size, config.coils.n_coils, on_step)
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
        methods.append(MethodResult(name, choice, notes=_notes(made.images)))
    return LearnedResult(compare_slices(images, scan.truth), methods)


def _choice(pipeline: str, size: tuple[int, int], n_coils: int, on_step: Callable[[str], None]) -> Choice:
    """The fastest of the engines that were accepted here already; where there is none, the first of `QUICK`.

    Judging an engine takes longer than building it, so that only as many are built as are needed to have one.

    Raises:
        ScansideError: the bundle cannot be opened, or takes no such images.
    """
    from scanside.engines.backends import NAMES
    from scanside.engines.build import BundleSource, Workshop
    from scanside.engines.bundle import Bundle
    from scanside.engines.cache import EngineCache
    from scanside.engines.catalog import find_bundle
    from scanside.engines.choice import Candidate, rank
    from scanside.engines.shapes import fit
    from scanside.pipeline import Pipeline
    from scanside.stages.engine import RunEngine

    (stage,) = (one for one in Pipeline.load(pipeline).stages if isinstance(one, RunEngine))
    bundle = Bundle.open(find_bundle(stage.config.bundles[0]))
    shapes = bundle.manifest.shapes
    bucket = fit(bundle.manifest.lowering, shapes, *size).bucket
    source = BundleSource(bundle, bucket, None if shapes.coils is None else n_coils)
    workshop = Workshop(source, EngineCache(), lambda step: on_step(f"engine for {pipeline}: {step}"))
    built = workshop.candidates([name for name in NAMES if name != "eager"], build=False)
    found = {(one.backend, one.precision): one for one in built}
    for name, precision in QUICK if bundle.manifest.lowering == "none" else QUICK_UNROLLED:
        if any(one.accepted for one in found.values()):
            break
        (one,) = workshop.candidates((name,), precision)
        found[name, precision] = one
    found.setdefault(
        ("eager", "fp32"), Candidate("eager", "fp32", reason="not needed: it is the slow reference")
    )
    return rank(list(found.values()))


def _notes(images: list[Image]) -> tuple[str, ...]:
    """What images say of their making, each thing once."""
    notes = []
    for image in images:
        if "ScansideFallback" in image.meta:
            notes.append(f"the classical fallback made the image: {image.meta['ScansideFallback'][-1]}")
        if "ScansideFitness" in image.meta:
            notes.append(f"the network was not trained for this: {'; '.join(image.meta['ScansideFitness'])}")
    return tuple(dict.fromkeys(notes))
