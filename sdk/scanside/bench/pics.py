"""Compressed sensing beside BART's: the same problem, the same number of iterations, both cores."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scanside.bench.result import BenchResult, Headline, spread
from scanside.datasets.bart_files import read_cfl, write_cfl
from scanside.errors import ConfigError
from scanside.recon.compressed_sensing.pics import Penalties, image_wavelet, penalty, pics
from scanside.recon.sense import SenseOperator
from scanside.recon.soft_threshold import soft_threshold_
from scanside.scratch import ScratchFolder
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)

__all__ = ["measure"]

_N, _COILS = 256, 8
_ITERATIONS = 50
_WEIGHT = 0.002  # bright tissue is 1
_NOISE = 0.01
_RUNS = 5
_BARTS_STEP = 0.95


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Time for 50 iterations of FISTA with db2 wavelets, the objective, and how far the images are apart.

    BART is told not to move the image around at random (``-n``), so that both have one problem with one solution. Its
    last step goes along the gradient and leaves the threshold out, which is made up for before images are compared.
    Data go through files, and a process has to start: the time of a run of one iteration is taken off BART's.

    The last rows are what both do by default, several shifts here and random ones there, beside the truth.

    Raises:
        ConfigError: BART is not installed.
    """
    program = shutil.which("bart")
    if program is None:
        raise ConfigError("the program 'bart' is not installed: get it with apt-get install bart")
    progress("a scan")
    problem = _Problem.simulated()
    with ScratchFolder("scanside-bench-") as folder:
        bart = _Bart(program, folder, problem)
        problem.solve(2, shifts=4)  # finds code and memory cold
        ours, theirs, start, shifted, random = ([] for _ in range(5))
        for run in range(_RUNS):
            progress(f"run {run + 1} of {_RUNS}")
            image, seconds = problem.solve(_ITERATIONS, shifts=1)
            ours.append(1e3 * seconds)
            other, seconds = bart.solve(_ITERATIONS, "-n")
            theirs.append(1e3 * seconds)
            start.append(1e3 * bart.solve(1, "-n")[1])
            usual, seconds = problem.solve(_ITERATIONS, shifts=4)
            shifted.append(1e3 * seconds)
            unusual, seconds = bart.solve(_ITERATIONS)
            random.append(1e3 * seconds)
    median = {"ours": spread(ours)["median"], "whole": spread(theirs)["median"]}
    iterating = (median["whole"] - spread(start)["median"]) * _ITERATIONS / (_ITERATIONS - 1)
    random_iterating = (spread(random)["median"] - spread(start)["median"]) * _ITERATIONS / (_ITERATIONS - 1)
    thresholded = problem.thresholded(other, _BARTS_STEP)
    what = f"{_N}², {_COILS} coils, {_ITERATIONS} iterations"
    rows = [
        _row("pics, 1 shift", f"{what}: time", "ms", median["ours"]),
        _row("bart pics -l1 -n", f"{what}: time, without start and files", "ms", iterating),
        _row("bart pics -l1 -n", f"{what}: time of the whole command", "ms", median["whole"]),
        _row("pics, 4 shifts", f"{what}: time", "ms", spread(shifted)["median"]),
        _row("bart pics -l1", f"{what}: time, without start and files", "ms", random_iterating),
        _row("pics, 4 shifts", "NRMSE to the truth", "", problem.error(usual)),
        _row("bart pics -l1", "NRMSE to the truth", "", problem.error(unusual)),
        _row("bart pics -l1 -n", "NRMSE to ours, as it comes", "", _nrmse(other, image)),
    ]
    apart = _nrmse(thresholded, image)
    ratio = problem.objective(image) / problem.objective(thresholded)
    headline = [
        Headline.at_least("BART's time over ours, 1 shift", iterating / median["ours"], 1),
        Headline.at_least(
            "BART's time over ours, by default", random_iterating / spread(shifted)["median"], 1
        ),
        Headline.at_most("objective over BART's", ratio, 1.01),
        Headline.at_most("NRMSE to BART's image", apart, 0.01),
    ]
    return BenchResult(name="pics", rows=rows, headline=headline)


@dataclass(frozen=True)
class _Problem:
    """A slice ``(1, y, x)`` of brightness 1, its maps ``(coil, 1, y, x)``, and the lines of it."""

    truth: torch.Tensor
    maps: torch.Tensor
    mask: torch.Tensor
    kspace: torch.Tensor

    @classmethod
    def simulated(cls) -> _Problem:
        scan = simulate(
            ScanConfig(
                phantom=PhantomConfig(kind="brain"),
                geometry=GeometryConfig(matrix=(_N, _N, 1), fov_mm=(240.0, 240.0, 5.0)),
                coils=CoilConfig(n_coils=_COILS),
                noise=NoiseConfig(std=0.0, scan="none"),
                sampling=SamplingConfig(),
            )
        )
        maps = torch.from_numpy(np.asarray(scan.truth.maps[0], np.complex64))
        maps = maps / maps.norm(dim=0)
        truth = torch.from_numpy(np.asarray(scan.truth.image(), np.complex64)).reshape(1, _N, _N)
        truth = truth / float(truth.abs().quantile(0.99))
        random = torch.Generator().manual_seed(1)
        distance = (torch.arange(_N) - _N // 2).abs() / (_N // 2)
        mask = torch.rand(_N, generator=random) < 0.7 * (1 - distance) ** 2
        mask[_N // 2 - 12 : _N // 2 + 12] = True
        kspace = SenseOperator(maps, mask[None]).forward(truth)
        noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=random)
        return cls(truth, maps, mask[None], (kspace + _NOISE * noise) * mask[:, None])

    @cached_property
    def operator(self) -> SenseOperator:
        return SenseOperator(self.maps, self.mask)

    def solve(self, iterations: int, *, shifts: int) -> tuple[torch.Tensor, float]:
        """The image, and seconds from k-space and maps on."""
        begun = time.perf_counter()
        operator = SenseOperator(self.maps, self.mask)
        result = pics(
            operator.normal,
            operator.adjoint(self.kspace),
            Penalties(wavelet=_WEIGHT),
            wavelet=image_wavelet(self.truth.shape, "db2"),
            shifts=shifts,
            tolerance=0.0,
            max_iterations=iterations,
        )
        return result.solution, time.perf_counter() - begun

    def objective(self, image: torch.Tensor) -> float:
        left = self.operator.forward(image) - self.kspace
        fit = 0.5 * float(torch.view_as_real(left).double().square().sum())
        return fit + penalty(image, Penalties(wavelet=_WEIGHT), image_wavelet(image.shape, "db2"))

    def thresholded(self, image: torch.Tensor, step: float) -> torch.Tensor:
        wavelet = image_wavelet(image.shape, "db2")
        (shift,) = wavelet.shifts(1)
        moved = wavelet.forward(image.roll(shift, (0, 1, 2)))
        thresholded = wavelet.inverse(soft_threshold_(moved, step * _WEIGHT))
        return thresholded.roll([-distance for distance in shift], (0, 1, 2))

    def error(self, image: torch.Tensor) -> float:
        return _nrmse(image, self.truth)


class _Bart:
    """``bart pics`` in a process of its own, with as many threads as torch has."""

    def __init__(self, program: str, folder: Path, problem: _Problem) -> None:
        self._program, self._folder = program, folder
        for name, array in (("kspace", problem.kspace), ("maps", problem.maps)):
            write_cfl(folder / name, array.numpy().transpose(3, 2, 1, 0))

    def solve(self, iterations: int, *options: str) -> tuple[torch.Tensor, float]:
        """The image, and seconds of the command."""
        options = ("-w1", "-l1", f"-r{_WEIGHT}", f"-i{iterations}", *options)
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        begun = time.perf_counter()
        subprocess.run(
            [self._program, "pics", *options, "kspace", "maps", "image"],
            cwd=self._folder,
            env=os.environ | threads,
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - begun
        image = read_cfl(self._folder / "image").reshape((_N, _N), order="F").T
        return torch.from_numpy(np.ascontiguousarray(image))[None], seconds


def _nrmse(image: torch.Tensor, reference: torch.Tensor) -> float:
    return float((image - reference).norm() / reference.norm())


def _row(contender: str, what: str, unit: str, value: float) -> dict[str, Any]:
    return {"contender": contender, "what": what, "unit": unit, "median": float(f"{value:.3g}")}
