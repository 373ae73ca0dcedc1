"""What the parts of the demonstration do alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanside.demo.engines import Wanted, quick_choice
from scanside.demo.result import MethodResult
from scanside.errors import ScansideError
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.replay import replay
from scanside.simulate import ScanConfig, SimulatedScan, simulate
from scanside.simulate.playback import Speed

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["run_in_node", "same_pixels", "scan_with_truth", "write_scan"]


def write_scan(scan: SimulatedScan, recording: Path) -> None:
    """Write a scan as an ISMRMRD file."""
    with Hdf5Writer(recording, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)


def scan_with_truth(config: ScanConfig, folder: Path) -> tuple[SimulatedScan, Path]:
    """Simulate a scan, and write it and its truth into a folder, which is made if need be: the scan and its file."""
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "scan.h5"
    scan = simulate(config)
    write_scan(scan, recording)
    scan.truth.save(folder / "truth.npz")
    return scan, recording


def same_pixels(some: Sequence[Image], others: Sequence[Image]) -> bool:
    """Whether images that came in the same order are equal, bit for bit."""
    if len(some) != len(others):
        return False
    return all(bool((a.data.cpu() == b.data.cpu()).all()) for a, b in zip(some, others, strict=True))


def run_in_node(
    pipeline: str,
    recording: Path,
    config: ScanConfig,
    step: str,
    device: str,
    on_step: Callable[[str], None],
    speed: Speed = "max",
    settings: Mapping[str, Any] | None = None,
) -> tuple[MethodResult, list[Image]]:
    """Reconstruct a scan in a Gadgetron node with a learned pipeline and the engine that is had quickly.

    Args:
        pipeline: its name.
        recording: the scan's file; the images are written beside it.
        config: of the scan.
        step: what is about to happen once there is an engine.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.
        speed: of the stream, see `scanside.replay.replay`.
        settings: of the pipeline, beside those of its engine.

    Returns:
        How the pipeline fared, and its images: none where its bundle or an engine is not to be had.

    Raises:
        ScansideError: a part of the chain failed.
    """
    wanted = Wanted.of(pipeline, config)
    try:
        choice = quick_choice(wanted, on_step)
    except ScansideError as error:
        return MethodResult(pipeline, missing=str(error)), []
    if choice.chosen is None:
        return MethodResult(pipeline, choice, missing="no engine was accepted on this machine"), []
    on_step(step)
    settings = {
        **(settings or {}),
        "engine.sizes": [list(wanted.size)],
        "engine.n_coils": [wanted.n_coils],
        "engine.backend": choice.chosen.backend,
        "engine.precision": choice.chosen.precision,
    }
    output = recording.with_name(f"{pipeline}.h5")
    made = replay(recording, pipeline, output, via="gadgetron", speed=speed, settings=settings, device=device)
    return MethodResult(pipeline, choice, notes=_notes(made.images)), made.images


def _notes(images: list[Image]) -> tuple[str, ...]:
    """What images say of their making, each thing once."""
    notes = []
    for image in images:
        if "ScansideFallback" in image.meta:
            notes.append(f"the classical fallback made the image: {image.meta['ScansideFallback'][-1]}")
        if "ScansideFitness" in image.meta:
            notes.append(f"the network was not trained for this: {'; '.join(image.meta['ScansideFitness'])}")
        if image.meta.get("ScansideCheck", ["none"])[0] not in ("none", "undecided"):
            verdict, gain, rival, lines = image.meta["ScansideCheck"]
            notes.append(f"the self-check: {verdict}, {gain} against {rival}, on {lines}")
    return tuple(dict.fromkeys(notes))
