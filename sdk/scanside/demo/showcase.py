"""Further shipped pipelines on simulated scans, through Gadgetron nodes that hand over to a warm server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from scanside import metrics
from scanside.demo.compare import SliceResult, compare_slices
from scanside.demo.exhibits import EXHIBITS, Exhibit
from scanside.demo.result import ExhibitResult, Showcase
from scanside.demo.steps import same_pixels, scan_with_truth
from scanside.demo.stream import PIPELINE, STREAM, run_stream
from scanside.recon.noncartesian.nufft import require_library
from scanside.replay import replay
from scanside.replay.peers import environment_of, serving
from scanside.simulate import ScanConfig, preset

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["Shown", "is_map", "require_showcase", "run_showcase"]


@dataclass(frozen=True)
class Shown:
    """What is shown besides.

    Attributes:
        exhibits: pipelines whose images are set beside the truth.
        stream: scan of pipeline `radial-realtime`: one slice, 17 spokes a repetition.
    """

    exhibits: Sequence[Exhibit] = EXHIBITS
    stream: ScanConfig = field(default_factory=lambda: preset(STREAM))


def require_showcase() -> None:
    """See that what the scans are simulated with is installed.

    Raises:
        MissingExtra: it is not.
    """
    require_library(torch.device("cpu"))


def run_showcase(
    folder: Path, *, shown: Shown, device: str = "auto", on_step: Callable[[str], None]
) -> Showcase:
    """Simulate a scan for each pipeline, reconstruct it through a Gadgetron node, and compare with the truth.

    The nodes hand their scans over to one server (``scanside serve``), which is warm.

    Args:
        folder: gets a folder for each pipeline, with raw data, truth and images.
        shown: what is shown.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    on_step("starting a server for further pipelines")
    with _warm_server(device) as pool:
        exhibits = [_run_exhibit(folder, one, pool, device, on_step) for one in shown.exhibits]
        stream = run_stream(folder / PIPELINE, shown.stream, pool, device, on_step)
    return Showcase(exhibits, stream)


@contextmanager
def _warm_server(device: str) -> Iterator[Path]:
    """A server with `radial-realtime` ready: the socket at which nodes hand over."""
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="scanside-") as place, tempfile.TemporaryFile() as log:
        socket = Path(place) / "pool"
        with serving(PIPELINE, environment_of(device), log, handover=socket):
            yield socket


def _run_exhibit(
    folder: Path, exhibit: Exhibit, pool: Path, device: str, on_step: Callable[[str], None]
) -> ExhibitResult:
    on_step(f"simulating a scan for {exhibit.name}")
    config = exhibit.scan().model_copy(update={"measurement_id": f"scanside_1_{exhibit.name}_2"})
    scan, recording = scan_with_truth(config, folder / exhibit.name)
    images: dict[str, list[Image]] = {}
    warnings: list[str] = []
    for name, way in exhibit.ways.items():
        on_step(f"reconstructing it in a Gadgetron node: {name}")
        made = replay(
            recording,
            way.pipeline,
            recording.with_name(f"{name.replace(', ', '-')}.h5"),
            via="gadgetron",
            settings=way.settings,
            device=device,
            pool=pool,
        )
        images[name] = [image for image in made.images if not is_map(image)]
        warnings = made.warnings
    on_step(f"reconstructing it in this process: {exhibit.name}")
    direct = replay(recording, exhibit.name, settings=exhibit.settings, device=device)
    slices = compare_slices(images, scan.truth)
    middle = slices[len(slices) // 2].slice
    return ExhibitResult(
        exhibit,
        slices,
        nrmse={name: _nrmse(slices, name) for name in images},
        told={name: _told(some, exhibit.told) for name, some in images.items()},
        maps=[one for one in made.images if is_map(one) and int(one.header["slice"]) == middle],
        same_pixels=same_pixels(made.images, direct.images),
        warnings=warnings,
    )


def is_map(image: Image) -> bool:
    """Whether something is not an image but a map that belongs to one, as it says itself."""
    return image.meta.get("DataRole", ["Image"])[0] != "Image"


def _nrmse(slices: Sequence[SliceResult], name: str) -> float:
    """In the object, the mean of all slices."""
    errors = [metrics.nrmse(one.images[name], one.truth, metrics.object_mask(one.truth)) for one in slices]
    return float(np.mean(errors))


def _told(images: Sequence[Image], attributes: Mapping[str, str]) -> dict[str, float]:
    """Means of what the images say."""
    said = {key: [float(image.meta[key][0]) for image in images if key in image.meta] for key in attributes}
    return {key: float(np.mean(values)) for key, values in said.items() if values}
