"""A small scan whose maps, phase and noise are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem

N1, N0, N_COILS = 44, 50, 4
NOISE = 0.02

Scan = Callable[..., Case]


@pytest.fixture(scope="session")
def scan() -> Scan:
    """Makes a case from a mask ``(k1,)``, all lines by default; by default nothing is heard but the object."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, N1), torch.linspace(-1, 1, N0), indexing="ij")
    centres = ((-1.2, -1.2), (-1.2, 1.2), (1.2, -1.2), (1.2, 1.2))
    maps = torch.stack(
        [torch.polar(torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 2), a * x + b * y) for a, b in centres]
    )
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    image = torch.zeros(N1, N0)
    image[6:38, 8:42] = 1.0
    image[12:20, 14:22] = 1.5

    def make(mask: torch.Tensor | None = None, *, noise: float = NOISE, noisy: bool = False) -> Case:
        lines = torch.ones(N1, dtype=torch.bool) if mask is None else mask
        empty = torch.zeros(N1, N0, dtype=torch.complex64)
        problem = Problem(lines, maps, empty, torch.tensor(noise), torch.zeros_like(maps))
        problem = problem.plus(problem.samples_of(torch.polar(image, 0.5 * x + 0.3)))
        if noisy:
            draw = torch.randn(*maps.shape, 2, generator=torch.Generator().manual_seed(3))
            problem = problem.plus(noise * torch.view_as_complex(draw))
        truth = image.double().numpy()
        return Case("boxes", {}, truth, truth, truth > 0, problem)

    return make


@pytest.fixture(scope="session")
def third() -> torch.Tensor:
    """``(k1,)``: every third line, and twelve around the centre."""
    lines = torch.zeros(N1, dtype=torch.bool)
    lines[1::3] = True
    lines[N1 // 2 - 6 : N1 // 2 + 6] = True
    return lines
