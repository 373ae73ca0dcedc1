"""Reading the readouts of an ISMRMRD HDF5 file."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import ismrmrd
import numpy as np

from scanside.bench.result import BenchResult, Headline, spread
from scanside.bench.scans import FrameScan
from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer
from scanside.mrd.messages import Readouts
from scanside.mrd.reader import decode

__all__ = ["measure"]

_SCAN = FrameScan(n_coils=16, n_samples=256, n_lines=256, oversampled=False)
_FRAMES = 16
_RUNS = 5
_LOOPED = 512  # readouts that the loop over Dataset.read_acquisition reads: it would take minutes for all
_BLOCK = 256


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Readouts per second of ismrmrd-python, one by one and in slices, and of Scanside in blocks."""
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as folder:
        path = Path(folder) / "scan.h5"
        progress("writing the file")
        _write(path)
        n = len(_SCAN.lines) * _FRAMES
        contenders: dict[str, tuple[int, Callable[[Path], float]]] = {
            "ismrmrd.Dataset.read_acquisition, one by one": (_LOOPED, _looped),
            "ismrmrd.File, slices": (n, _slices),
            "Scanside, blocks": (n, _blocks),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for run in range(_RUNS + 1):
            for name, (n_read, contender) in contenders.items():
                progress(f"{name}, run {run} of {_RUNS}")
                begun = time.perf_counter()
                check = contender(path)
                took = time.perf_counter() - begun
                assert np.isfinite(check)
                if run:
                    rates[name].append(n_read / took)
    looped, slices, blocks = (median(values) for values in rates.values())
    return BenchResult(
        name="hdf5",
        rows=[{"contender": name, "unit": "readouts/s", **spread(values)} for name, values in rates.items()],
        headline=[
            Headline.at_least("rate against ismrmrd.Dataset.read_acquisition in a loop", blocks / looped, 10),
            Headline.at_least("rate against slices of ismrmrd.File", blocks / slices, 1),
        ],
    )


def _write(path: Path) -> None:
    frame, _ = _SCAN.frame()
    with Hdf5Writer(path, _SCAN.header_xml) as writer:
        for repetition in range(_FRAMES):
            _SCAN.number(frame, repetition)
            for message in decode(frame.tobytes()):
                assert isinstance(message, Readouts)
                writer.write(message)


def _looped(path: Path) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of its own deprecations
        dataset = ismrmrd.Dataset(str(path), "dataset", create_if_needed=False)
        total = 0.0
        for i in range(_LOOPED):
            total += abs(dataset.read_acquisition(i).data[0, 0])
        dataset.close()
    return total


def _slices(path: Path) -> float:
    total = 0.0
    with ismrmrd.File(str(path), mode="r") as file:
        acquisitions = file["dataset"].acquisitions
        for start in range(0, len(acquisitions), _BLOCK):
            for acquisition in acquisitions[start : start + _BLOCK]:
                total += abs(acquisition.data[0, 0])
    return total


def _blocks(path: Path) -> float:
    total = 0.0
    with Hdf5Reader(path) as reader:
        for block in reader.blocks(_BLOCK):
            total += float(np.abs(block.samples[:, 0, 0]).sum())
    return total
