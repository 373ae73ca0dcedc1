"""Training samples of measured k-space, beside reading it and doing nothing with it.

Files are built as fastMRI's knees are: 15 coils of 640 × 368 samples. Data sets of a terabyte are in no machine's
memory, so slices are read from the disk: what the system keeps of files is given up before. Beside are figures of
files that it has kept, which reading copies in a few milliseconds.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np

from scanside.bench.result import BenchResult, Headline, spread
from scanside.datasets.fastmri import write_fastmri

__all__ = ["measure"]

N_FILES, N_SLICES = 6, 8
SHAPE = (15, 368, 640)
"""Coils, lines, and samples of a readout."""
_RUNS = 3
_WORKERS = 2
_PROMISED = 0.5

Work = Callable[[], int]


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Slices per second that h5py reads in one process, and training samples per second of two worker processes."""
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as name:
        folder = Path(name)
        progress("writing the files")
        files = [_write(folder / f"file{number:07d}.h5", number) for number in range(N_FILES)]
        with _cache_in(folder / "cache"):
            samples = _samples_of(folder)
            progress("estimating coil maps")
            begun = time.perf_counter()
            first = samples() / (time.perf_counter() - begun)
            contenders: dict[str, Work] = {
                "h5py, one process": lambda: _read(files),
                f"Scanside, {_WORKERS} workers": samples,
            }
            rates: dict[tuple[str, str], list[float]] = {}
            for run in range(_RUNS + 1):
                for place in ("disk", "memory"):
                    for contender, work in contenders.items():
                        progress(f"{contender}, files in {place}, run {run} of {_RUNS}")
                        if place == "disk":
                            _give_up(files)
                        begun = time.perf_counter()
                        rate = work() / (time.perf_counter() - begun)
                        if run:
                            rates.setdefault((contender, place), []).append(rate)
    told = {"contender": f"Scanside, {_WORKERS} workers, coil maps estimated", "files": "memory"}
    rows: list[dict[str, Any]] = [
        {"contender": contender, "files": place, "unit": "slices/s", **spread(values)}
        for (contender, place), values in rates.items()
    ]
    rows.append(told | {"unit": "slices/s", **spread([first])})
    alone, trained = (median(rates[contender, "disk"]) for contender in contenders)
    what = "training samples against slices that h5py reads, files on the disk"
    return BenchResult(name="data", rows=rows, headline=[Headline.at_least(what, trained / alone, _PROMISED)])


def _samples_of(folder: Path) -> Work:
    """Makes one sample of every slice."""
    from scanside_training.data import DataConfig, ReconstructionData, SampleKeys

    n = N_FILES * N_SLICES
    config = DataConfig.model_validate(
        {
            "sources": [
                {
                    "kind": "fastmri",
                    "folder": folder,
                    "what": "kspace",
                    "split": {"validation": [str(number) for number in range(N_FILES)]},
                }
            ],
            "simulation": {
                "task": {"kind": "unrolled"},
                "k1": [256, 384],
                "k0": [256, 384],
                "multiple": 8,
                "readout_crop": 96,
                # From 24 lines on the blocks that maps are estimated from are the same.
                "masks": {"patterns": ["random", "equispaced"], "acceleration": [4, 8], "acs": [24, 30]},
            },
            "batch_size": 1,
            "validation_samples": n,
            "num_workers": _WORKERS,
        }
    )
    loader = ReconstructionData(config).loader("validation", SampleKeys(n, 1))
    return lambda: sum(len(batch["image"]) for batch in loader)


def _read(files: Sequence[Path]) -> int:
    n_read = 0
    for path in files:
        for number in range(N_SLICES):
            with h5py.File(path, "r") as file:
                n_read += len(file["kspace"][number]) > 0
    return n_read


def _write(path: Path, number: int) -> Path:
    """A body that coils around it see, with noise."""
    rng = np.random.default_rng(number)
    n_coils, n1, n0 = SHAPE
    y, x = np.meshgrid(np.linspace(-1, 1, n1), np.linspace(-2, 2, n0), indexing="ij")
    body = ((y / 0.8) ** 2 + (x / 0.9) ** 2 < 1) * (1 + 0.3 * np.cos(9 * y + 3 * number) * np.sin(7 * x))
    angles = 2 * np.pi * np.arange(n_coils) / n_coils
    coils = np.stack(
        [body * np.exp(-((y - np.sin(a)) ** 2) - (x - np.cos(a)) ** 2 + 1j * (a + y)) for a in angles]
    )
    noise = rng.standard_normal((N_SLICES, *SHAPE, 2), np.float32).view(np.complex64)[..., 0]
    write_fastmri(
        path, (coils + 0.003 * noise).astype(np.complex64), patient=str(number), image_size=(n1, n0 // 2)
    )
    return path


def _give_up(files: Sequence[Path]) -> None:
    """Ask the system to forget what it has kept of files."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Nothing of a benchmark is left in the user's cache."""
    before = os.environ.get("SCANSIDE_CACHE")
    os.environ["SCANSIDE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SCANSIDE_CACHE"]
        else:
            os.environ["SCANSIDE_CACHE"] = before
