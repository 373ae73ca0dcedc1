"""The self-check of learned images, on a scan that is too noisy for one of the networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanside.demo.compare import compare_slices
from scanside.demo.learned import LEARNED, SCAN
from scanside.demo.result import ZERO_FILLED, LearnedResult
from scanside.demo.steps import run_in_node, scan_with_truth
from scanside.replay import replay
from scanside.simulate import NoiseConfig, ScanConfig

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["NOISY", "UNCHECKED", "run_checked"]

UNCHECKED = "student, unchecked"

NOISY = SCAN.model_copy(
    update={
        "name": "brain-noisy",
        "noise": NoiseConfig(std=0.25),
        "sampling": SCAN.sampling.model_copy(update={"pattern": "random"}),
        "geometry": SCAN.geometry.model_copy(update={"n_slices": 1}),
    }
)
"""A slice of the scan of the learned pipelines, with twelve times its noise: more than what CG-SENSE with one weight
for all scans makes an image of."""

_ONE_WEIGHT = {"engine.fallback": {"sense": {"solver": "columns", "l2": 0.005, "tolerance": 0.001}}}
"""Of pipeline `student`, if the Tikhonov weight of the image that it begins with did not follow the noise."""


def run_checked(
    folder: Path, *, config: ScanConfig = NOISY, device: str = "auto", on_step: Callable[[str], None]
) -> LearnedResult:
    """Simulate a noisy scan and reconstruct it with the learned pipelines, which check their images themselves.

    `student` begins with a CG-SENSE image whose weight does not follow the noise here, so that there is something to
    notice; what it would have sent without a check is made beside. A pipeline whose bundle or engine is not to be had
    is left out, and the result says why.

    Args:
        folder: made if need be; gets raw data, truth and images.
        config: a 2-D scan of one contrast.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    on_step("simulating a noisy scan")
    scan, recording = scan_with_truth(config, folder)
    images: dict[str, list[Image]] = {
        ZERO_FILLED: replay(recording, ZERO_FILLED, folder / f"{ZERO_FILLED}.h5", device=device).images
    }
    methods = []
    runs: dict[str, tuple[str, dict[str, Any]]] = {
        UNCHECKED: ("student", {**_ONE_WEIGHT, "engine.check": "none"}),
        **{name: (name, _ONE_WEIGHT if name == "student" else {}) for name in LEARNED},
    }
    for name, (pipeline, settings) in runs.items():
        step = f"reconstructing it with {name} in a Gadgetron node"
        method, made = run_in_node(pipeline, recording, config, step, device, on_step, settings=settings)
        if name != UNCHECKED:
            methods.append(method)
        if made:
            images[name] = made
    return LearnedResult(compare_slices(images, scan.truth), methods)
