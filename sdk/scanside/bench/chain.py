"""A hundred frames through a socket: root sum of squares and GRAPPA against gadgetron-python's example."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median

import numpy as np
import numpy.typing as npt

from scanside.bench.peers import Played, Server, gadgetron_python, play, scanside_server
from scanside.bench.result import BenchResult, Headline, spread
from scanside.bench.scans import FrameScan
from scanside.errors import ScanError

__all__ = ["measure"]

_FULL = FrameScan(n_coils=8, n_samples=512, n_lines=256)
_GRAPPA = FrameScan(n_coils=8, n_samples=512, n_lines=256, acceleration=2, n_acs=24)
_FRAMES = 100
_RUNS = 3


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Wall time of a client for 100 frames of 256×256, 8 coils, 512 samples, and the server's memory."""
    rows = []
    example, example_image, _ = _contend(
        "gadgetron-python's example", gadgetron_python("recon"), _FULL, progress
    )
    rows.append(example)
    rss, rss_image, rss_memory = _contend("Scanside, fft", scanside_server("fft"), _FULL, progress)
    rows.append(rss)
    grappa, _, grappa_memory = _contend("Scanside, grappa R=2", scanside_server("grappa"), _GRAPPA, progress)
    rows.append(grappa)
    _same_image(rss_image, example_image)
    return BenchResult(
        name="chain",
        rows=rows,
        headline=[
            Headline.at_most("time of root sum of squares against the example", _ratio(rss, example), 0.3),
            Headline.at_most("time of GRAPPA R=2 against the example", _ratio(grappa, example), 2.0),
            Headline.at_most("peak memory after 500 frames against 200, fft", rss_memory, 1.1),
            Headline.at_most("peak memory after 500 frames against 200, grappa", grappa_memory, 1.1),
        ],
    )


def _contend(
    name: str,
    serving: AbstractContextManager[Server],
    scan: FrameScan,
    progress: Callable[[str], None],
) -> tuple[dict[str, float | str], npt.NDArray[np.generic], float]:
    with serving as server:
        progress(f"{name}: warming up")
        for _ in range(2):
            play(scan, _FRAMES, server.port)
        memory_before = server.peak_mib()
        runs: list[Played] = []
        for run in range(_RUNS):
            progress(f"{name}: {_FRAMES} frames, run {run + 1} of {_RUNS}")
            runs.append(play(scan, _FRAMES, server.port))
        memory_after = server.peak_mib()
    for played in runs:
        if played.n_images != _FRAMES or played.last is None:
            raise ScanError(f"{name} gave {played.n_images} images for {_FRAMES} frames")
    seconds = [played.seconds for played in runs]
    row: dict[str, float | str] = {
        "contender": name,
        "unit": "s",
        **spread(seconds),
        "readouts/s": round(runs[0].n_readouts / median(seconds)),
        "frames/s": round(_FRAMES / median(seconds), 1),
        "memory_mib": round(memory_after),
    }
    last = runs[-1].last
    assert last is not None
    return row, last, memory_after / memory_before


def _ratio(row: dict[str, float | str], base: dict[str, float | str]) -> float:
    return float(row["median"]) / float(base["median"])


def _same_image(ours: npt.NDArray[np.generic], theirs: npt.NDArray[np.generic]) -> None:
    """Both made the same image, or their times could not be compared."""
    a, b = np.abs(np.squeeze(ours)).astype(float), np.abs(np.squeeze(theirs)).astype(float)
    if a.shape != b.shape or np.linalg.norm(a - b) > 1e-3 * np.linalg.norm(b):
        raise ScanError(f"the images differ (shapes {a.shape} and {b.shape}): the benchmark compares nothing")
