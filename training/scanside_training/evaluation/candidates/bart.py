"""BART's ``pics`` with an L1 penalty on wavelet coefficients or on differences: what compressed sensing reaches.

Uecker et al., *Berkeley advanced reconstruction toolbox*, ISMRM 2015, 2486; Lustig et al., *Sparse MRI*,
MRM 58:1182-1195 (2007).
"""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from scanside.errors import ConfigError, ScanError
from scanside.recon.fourier import to_image
from scanside.scratch import ScratchFolder
from scanside_training.evaluation.bart_files import read_cfl, write_cfl
from scanside_training.evaluation.candidates.base import CandidateConfig, Job, Silent, kspace_of, problem_of
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem

__all__ = ["BartPics"]


class BartPics(CandidateConfig):
    """``bart pics`` in a process of its own; data go through files."""

    kind: Literal["bart"] = "bart"
    penalty: Literal["wavelet", "tv"] = "wavelet"
    """L1 norm of wavelet coefficients, by FISTA; or total variation, by ADMM, whose iterations take longer."""
    weight: float = Field(default=0.002, ge=0)
    """Of the penalty, for data whose largest coil image magnitude is 1."""
    iterations: int = Field(default=100, ge=1)
    maps: Literal["ecalib", "same"] = "ecalib"
    """Coil maps by ``bart ecalib`` from the calibration lines, or those that the other candidates get."""

    @property
    def label(self) -> str:
        """Name where none is given."""
        return f"{'TV' if self.penalty == 'tv' else 'L1-wavelet'} (BART)"

    def open(self) -> _Pics:
        """The candidate.

        Raises:
            ConfigError: BART is not installed.
        """
        program = shutil.which("bart")
        if program is None:
            raise ConfigError("the program 'bart' is not installed: get it with apt-get install bart")
        version = _bart(program, "version").strip()
        return _Pics(self, program, {"BART": version})


class _Pics(Silent):
    n_parameters = None
    timed = False

    def __init__(self, config: BartPics, program: str, facts: dict[str, str]) -> None:
        self._config = config
        self._program = program
        self.facts = facts

    def job(self, case: Case) -> Job:
        problem = problem_of(case)
        kspace = kspace_of(problem)

        def run() -> torch.Tensor:
            config = self._config
            largest = float(to_image(kspace, (-2, -1)).abs().max()) or 1.0
            with ScratchFolder("scanside-bart-") as folder:
                # (coil, k1, k0) becomes (k0, k1, 1, coil).
                write_cfl(folder / "kspace", (kspace / largest).numpy().transpose(2, 1, 0)[:, :, None])
                maps = problem.maps if config.maps == "same" else _ecalib(self._program, problem)
                write_cfl(folder / "maps", maps.numpy().transpose(2, 1, 0)[:, :, None])
                penalty = {
                    "wavelet": ("-l1", "-r", f"{config.weight:g}"),
                    "tv": ("-R", f"T:3:0:{config.weight:g}"),
                }[config.penalty]
                steps = ("-i", str(config.iterations))
                _bart(self._program, "pics", "-S", *penalty, *steps, "kspace", "maps", "image", folder=folder)
                image = read_cfl(folder / "image").reshape(kspace.shape[:0:-1], order="F")
            return torch.from_numpy(np.ascontiguousarray(image.T)) * largest

        return run


@lru_cache(maxsize=1)
def _ecalib(program: str, problem: Problem) -> torch.Tensor:
    """BART's coil maps ``(coil, k1, k0)``; those of the last problem are kept for its other penalties and weights."""
    kspace = kspace_of(problem)
    with ScratchFolder("scanside-bart-") as folder:
        write_cfl(folder / "kspace", kspace.numpy().transpose(2, 1, 0)[:, :, None])
        size = f"-r{problem.n_calibration}"
        _bart(program, "ecalib", size, "-k5", "-m1", "kspace", "maps", folder=folder)
        maps = read_cfl(folder / "maps").reshape(kspace.shape[::-1], order="F")
    return torch.from_numpy(np.ascontiguousarray(maps.transpose(2, 1, 0)))


def _bart(program: str, *arguments: str, folder: Path | None = None) -> str:
    """Run a command and give what it printed.

    Raises:
        ScanError: it failed; carries what it said.
    """
    run = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines()
        raise ScanError(f"bart {arguments[0]} failed: {said[-1] if said else f'status {run.returncode}'}")
    return run.stdout
