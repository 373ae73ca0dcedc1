"""The dot-product test accepts true adjoints and refuses every near miss."""

from __future__ import annotations

import pytest
import torch

from scanside.testing.adjoint import assert_adjoint

MATRIX = torch.randn(4, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))


def test_matrix_and_its_conjugate_transpose_pass() -> None:
    assert_adjoint(lambda u: MATRIX @ u, lambda v: MATRIX.mH @ v, (6, 2), (4, 2))
    real = MATRIX.real
    assert_adjoint(lambda u: real @ u, lambda v: real.T @ v, (6,), (4,), dtype=torch.float32)


@pytest.mark.parametrize(
    ("adjoint", "what"),
    [
        (lambda v: MATRIX.T @ v, "not adjoint"),
        (lambda v: 1.001 * (MATRIX.mH @ v), "not adjoint"),
        (lambda v: (MATRIX.mH @ v).roll(1, 0), "not adjoint"),
        (lambda v: (MATRIX.mH @ v) * float("nan"), "not adjoint"),
        (lambda v: (MATRIX.mH @ v)[:5], "adjoint gives shape"),
    ],
)
def test_near_misses_are_refused(adjoint, what) -> None:
    with pytest.raises(AssertionError, match=what):
        assert_adjoint(lambda u: MATRIX @ u, adjoint, (6,), (4,))


def test_operators_that_are_not_linear_are_refused() -> None:
    with pytest.raises(AssertionError, match="not linear"):
        assert_adjoint(lambda u: u + 1, lambda v: v, (5,), (5,))
    with pytest.raises(AssertionError, match="not linear"):
        assert_adjoint(torch.conj, torch.conj, (5,), (5,))
    with pytest.raises(AssertionError, match="forward gives shape"):
        assert_adjoint(lambda u: u[:4], lambda v: v, (5,), (5,))
