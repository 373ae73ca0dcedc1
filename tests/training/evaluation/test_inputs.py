"""Unrolled networks at sizes that are no multiple keep the scan's own normal operator."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ConfigError
from scanside.recon.consistency import Lowering
from scanside.recon.sense import SenseOperator
from scanside_training.evaluation.inputs import padded_size, unrolled_inputs
from scanside_training.evaluation.problem import Problem
from scanside_training.models.consistency import NormalOperator


@pytest.fixture(scope="module")
def problem(kspace: torch.Tensor, mask: torch.Tensor) -> Problem:
    return Problem.from_kspace(kspace, mask)


def test_padded_size() -> None:
    assert padded_size((180, 230), 8) == (184, 232)
    assert padded_size((256, 16), 16) == (256, 16)


@pytest.mark.parametrize("lowering", ["pmatrix", "dft_matmul"])
def test_normal_operator_stays_that_of_the_scan(problem: Problem, lowering: Lowering) -> None:
    n1, n0 = problem.adjoint.shape
    image, maps, noise, *sampling = unrolled_inputs(problem, lowering, (48, 64), torch.tensor(2.0))
    assert image.shape == (1, 2, 48, 64)
    assert float(noise) == pytest.approx(float(problem.noise) / 2)
    result = NormalOperator(lowering, maps, tuple(sampling))(image)
    expected = SenseOperator(problem.maps[:, None], problem.mask[None]).normal(problem.adjoint[None])[0] / 2
    found = torch.complex(result[0, 0], result[0, 1])
    torch.testing.assert_close(found[:n1, :n0], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert not found[n1:].any()
    assert not found[:, n0:].any()


def test_fft_needs_the_scans_own_size(problem: Problem) -> None:
    n1, n0 = problem.adjoint.shape
    unrolled_inputs(problem, "fft", (n1, n0), torch.ones(()))
    with pytest.raises(ConfigError, match="pmatrix"):
        unrolled_inputs(problem, "fft", (48, 64), torch.ones(()))
