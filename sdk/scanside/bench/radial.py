"""Golden-angle spokes in real time: images by gridding as the spokes come, beside one NUFFT after the other; and
stacks of stars plane by plane, beside NUFFTs of three dimensions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from scanside.bench.result import BenchResult, Headline
from scanside.context import Context
from scanside.items import Image
from scanside.mrd.readouts import Readouts
from scanside.pipeline import Pipeline
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.stack import StackNufft, normal_of, transform_of
from scanside.scan import Scan, ScanEnd
from scanside.simulate import preset, simulate
from scanside.simulate.trajectories import GOLDEN_ANGLE
from scanside.stages.gather import GatherSamples
from scanside.trace import StageTimes

__all__ = ["measure"]

PRESET = "radial"
PIPELINE = "radial-realtime"
_LEAST = 5  # frames per second
STACK = (16, 96, 96)
_STACKS = 5
_SPOKES = 34
_FIRST = 1  # images that find code, memory and coil maps cold


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Frames per second, and from the last spoke of an image to the image, spokes coming one by one.

    Beside it, the least that each image takes: the adjoint NUFFT of its samples, points and all.
    """
    progress(f"preset {PRESET}")
    scan = simulate(preset(PRESET))
    spokes = [
        item.select(slice(i, i + 1))
        for item in scan.items(1 << 10)
        if isinstance(item, Readouts)
        for i in range(len(item))
    ]
    progress(f"pipeline {PIPELINE}")
    pipeline = Pipeline.load(PIPELINE)
    pipeline.prepare(Context(device="cpu"))
    delays, images = _stream(pipeline, scan.header_xml, spokes)
    progress("the NUFFT alone")
    gathered = next(stage for stage in pipeline.stages if isinstance(stage, GatherSamples))
    alone = _alone(spokes, scan.header_xml, gathered)
    times, least = StageTimes(), StageTimes()
    for delay in delays[_FIRST:]:
        times.add(delay)
    for duration in alone[_FIRST:]:
        least.add(duration)
    matrix, n_coils = images[0].data.shape[-1], spokes[-1].samples.shape[1]
    what = f"{gathered.config.readouts} spokes, {matrix}², {n_coils} coils: "
    rate = 1e3 / times.quantile_ms(0.5)
    rows = [
        _row(PIPELINE, f"{what}last spoke to image", times),
        _row("finufft", f"{what}adjoint NUFFT", least),
        {"contender": PIPELINE, "what": f"{what}images", "unit": "frames/s", "median": round(rate, 1)},
    ]
    ratio = least.quantile_ms(0.5) / times.quantile_ms(0.5)
    progress("stacks of stars")
    stacks = {"planes": StageTimes(), "3-D": StageTimes()}
    points = _stack_of_stars(STACK)
    for _ in range(_STACKS):
        for contender, transform in (("planes", transform_of(points, STACK)), ("3-D", Nufft(points, STACK))):
            stacks[contender].add(_normal_ms(transform))
    depth, width = STACK[:2]
    rows += [
        _row(contender, f"stack of {depth} × {_SPOKES} spokes, {width}²: normal operator of 4 coils", took)
        for contender, took in stacks.items()
    ]
    faster = stacks["3-D"].quantile_ms(0.5) / stacks["planes"].quantile_ms(0.5)
    headline = [
        Headline.at_least(f"{PIPELINE}: frames per second", rate, _LEAST),
        Headline.at_least(f"{PIPELINE}: share of the time that is the NUFFT's", ratio, 0.25),
        Headline.at_least("stacks of stars: planes faster than 3-D", faster, 1.5),
    ]
    return BenchResult(name="radial", rows=rows, headline=headline)


def _stream(
    pipeline: Pipeline, header_xml: bytes, spokes: Sequence[Readouts]
) -> tuple[list[float], list[Image]]:
    """Time in ms from each spoke that ends an image to that image, and the images."""
    delays, images = [], []
    with pipeline.open(Scan.from_xml(header_xml)) as run:
        for spoke in spokes:
            begun = time.perf_counter()
            made = [item for item in run.push(spoke) if isinstance(item, Image)]
            if made:
                delays.append(1e3 * (time.perf_counter() - begun))
                images += made
        for _ in run.finish(ScanEnd()):
            pass
    return delays, images


def _alone(spokes: Sequence[Readouts], header_xml: bytes, like: GatherSamples) -> list[float]:
    """Time in ms of the adjoint NUFFT of each image's samples."""
    gather = GatherSamples(like.config)
    gather.prepare(Context(device="cpu"))
    gather.open(Scan.from_xml(header_xml))
    durations = []
    for spoke in spokes:
        for samples in gather.process(spoke):
            points = samples.points.flip(-1).flatten(0, 1)
            begun = time.perf_counter()
            Nufft(points, samples.shape).adjoint(samples.data.flatten(1).to(torch.complex64))
            durations.append(1e3 * (time.perf_counter() - begun))
    return durations


def _stack_of_stars(shape: tuple[int, int, int]) -> torch.Tensor:
    """Points ``(n, 3)`` along (z, y, x), the same spokes in every plane."""
    along = (torch.arange(2 * shape[1]) - shape[1]) / (2 * shape[1])
    angles = torch.arange(_SPOKES) * GOLDEN_ANGLE
    height = (torch.arange(shape[0]) - shape[0] // 2) / shape[0]
    spokes = torch.stack([torch.outer(angles.sin(), along), torch.outer(angles.cos(), along)], -1).reshape(
        -1, 2
    )
    planes = height.repeat_interleave(len(spokes))[:, None]
    return torch.cat([planes, spokes.repeat(shape[0], 1)], -1)


def _normal_ms(transform: Nufft | StackNufft) -> float:
    """Time in ms of a normal operator, as every step of CG-SENSE has it."""
    normal = normal_of(transform, None)
    image = torch.ones(4, *transform.shape, dtype=torch.complex64)
    begun = time.perf_counter()
    normal(image)
    return 1e3 * (time.perf_counter() - begun)


def _row(contender: str, what: str, times: StageTimes) -> dict[str, Any]:
    return {
        "contender": contender,
        "what": what,
        "unit": "ms",
        "median": round(times.quantile_ms(0.5), 1),
        "p99": round(times.quantile_ms(0.99), 1),
    }
