"""The learned pipelines on a simulated scan, beside zero-filled and classical images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.demo.compare import compare_slices
from scanside.demo.result import ZERO_FILLED, LearnedResult
from scanside.demo.steps import run_in_node, scan_with_truth
from scanside.replay import replay
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
)

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["LEARNED", "SCAN", "run_learned"]

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
    on_step("simulating the scan for the learned pipelines")
    scan, recording = scan_with_truth(config, folder)
    images: dict[str, list[Image]] = {}
    on_step("reconstructing it classically")
    for name in (ZERO_FILLED, CLASSICAL):
        images[name] = replay(recording, name, folder / f"{name}.h5", device=device).images
    methods = []
    for name in LEARNED:
        method, made = run_in_node(
            name, recording, config, f"reconstructing it with {name} in a Gadgetron node", device, on_step
        )
        methods.append(method)
        if not method.missing:
            images[name] = made
    return LearnedResult(compare_slices(images, scan.truth), methods)
