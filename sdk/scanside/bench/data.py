"""Training samples of measured k-space, beside reading it and doing nothing with it.

Files are built as fastMRI's knees are: 15 coils of 640 × 368 samples. Data sets of a terabyte are in no machine's
memory, so slices are read from the disk: what the system keeps of files is given up before. Beside are figures of
files that it has kept, which reading copies in a few milliseconds.

Samples are those of ``training/configs/fastmri.yaml``. For the first of a slice coil maps are estimated; the figures
beside h5py's are of samples whose maps are kept. h5py reads in one process, and in as many as make samples; like a
training it takes slices at random, some of them twice.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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
_WORKERS = 4
"""So that a processor of two has something to do while another worker waits for the disk."""
_PROMISED = 0.5

Work = Callable[[], int]


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Slices per second that h5py reads, and training samples per second of several worker processes."""
    alone, ours = "h5py, one process", f"Scanside, {_WORKERS} workers"
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="scanside-bench-") as name,
        ProcessPoolExecutor(_WORKERS, multiprocessing.get_context("spawn")) as readers,
    ):
        # More workers than processors are meant.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        folder = Path(name)
        progress("writing the files")
        files = [_write(folder / f"file{number:07d}.h5", number) for number in range(N_FILES)]
        n = N_FILES * N_SLICES
        drawn = [
            (files[i // N_SLICES], i % N_SLICES)
            for i in np.random.default_rng(0).integers(n, size=n).tolist()
        ]
        with _cache_in(folder / "cache"):
            samples = _samples_of(folder)
            progress("estimating coil maps")
            begun = time.perf_counter()
            first = samples() / (time.perf_counter() - begun)
            contenders: dict[str, Work] = {
                alone: lambda: sum(map(_read, drawn)),
                f"h5py, {_WORKERS} processes": lambda: sum(readers.map(_read, drawn)),
                ours: samples,
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
    told = {"contender": f"{ours}, coil maps estimated", "files": "memory"}
    rows: list[dict[str, Any]] = [
        {"contender": contender, "files": place, "unit": "slices/s", **spread(values)}
        for (contender, place), values in rates.items()
    ]
    rows.append(told | {"unit": "slices/s", **spread([first])})
    share = median(rates[ours, "disk"]) / median(rates[alone, "disk"])
    what = "training samples against slices that h5py reads, files on the disk"
    return BenchResult(name="data", rows=rows, headline=[Headline.at_least(what, share, _PROMISED)])


def _samples_of(folder: Path) -> Work:
    """Makes an epoch of as many training samples as there are slices."""
    from scanside_training.data import DataConfig, EpochKeys, ReconstructionData

    n = N_FILES * N_SLICES
    subjects = [str(number) for number in range(N_FILES)]
    source = {"kind": "fastmri", "folder": folder, "what": "kspace", "split": {"train": subjects}}
    config = DataConfig.model_validate(
        {
            "sources": [source],
            "simulation": {
                "task": {"kind": "unrolled"},
                "k1": [256, 384],
                "k0": [256, 384],
                "multiple": 8,
                "readout_crop": 96,
                "masks": {"patterns": ["random", "equispaced"], "acceleration": [4, 8], "acs": [14, 26]},
            },
            "batch_size": 1,
            "num_workers": _WORKERS,
        }
    )
    loader = ReconstructionData(config).loader("train", EpochKeys(n, 1))
    return lambda: sum(len(batch["image"]) for batch in loader)


def _read(place: tuple[Path, int]) -> int:
    path, number = place
    with h5py.File(path, "r") as file:
        return int(len(file["kspace"][number]) > 0)


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
