"""What unrolled networks get, at the scan's size and at those that their pooling can halve."""

from __future__ import annotations

import pytest
import torch

from scanside.engines.roles import inputs_of
from scanside.engines.shapes import Fit, unrolled_specs
from scanside.recon.consistency import Lowering
from scanside.recon.sense import SenseOperator
from scanside_training.evaluation.inputs import known_of, padded_size
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
    place = Fit((problem.adjoint.shape[0], problem.adjoint.shape[1]), (48, 64))
    specs = unrolled_specs(lowering)
    own = inputs_of((spec.name for spec in specs), known_of(problem, lowering, torch.tensor(2.0)))
    image, maps, noise, *sampling = place.surround(specs, own)
    assert image.shape == (1, 2, 48, 64)
    assert float(noise) == pytest.approx(float(problem.noise) / 2)
    result = NormalOperator(lowering, maps, tuple(sampling))(image)
    expected = SenseOperator(problem.maps[:, None], problem.mask[None]).normal(problem.adjoint[None])[0] / 2
    found = torch.complex(result[0, 0], result[0, 1])
    torch.testing.assert_close(
        place.crop(found), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
    )
