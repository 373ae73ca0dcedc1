"""Conjugate gradients against a direct solver."""

from __future__ import annotations

import pytest
import torch

from scanside.recon.cg import conjugate_gradient


def system(n: int, seed: int, condition: float = 100.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.complex128, generator=generator)).Q
    eigenvalues = torch.logspace(0, torch.tensor(condition).log10().item(), n, dtype=torch.float64)
    matrix = (basis * eigenvalues) @ basis.mH
    return matrix, torch.randn(n, dtype=torch.complex128, generator=generator)


def test_solution_and_residuals() -> None:
    matrix, rhs = system(12, 0)
    result = conjugate_gradient(lambda x: matrix @ x, rhs, tolerance=1e-10, max_iterations=40)
    assert bool(result.converged)
    torch.testing.assert_close(result.solution, torch.linalg.solve(matrix, rhs))
    assert len(result.residuals) == result.iterations + 1
    assert result.residuals[0] == pytest.approx(1)
    for n in (1, 5):
        early = conjugate_gradient(lambda x: matrix @ x, rhs, tolerance=0, max_iterations=n)
        true_residual = (rhs - matrix @ early.solution).norm() / rhs.norm()
        assert early.iterations == n
        assert not bool(early.converged)
        assert early.residuals[-1] == pytest.approx(float(true_residual))
        assert early.residuals[-1] == pytest.approx(float(result.residuals[n]))


def test_n_unknowns_take_n_iterations() -> None:
    matrix, rhs = system(6, 1, condition=5)
    result = conjugate_gradient(lambda x: matrix @ x, rhs, tolerance=1e-11, max_iterations=40)
    assert result.iterations == 6


def test_start_at_the_solution() -> None:
    matrix, rhs = system(8, 2)
    start = torch.linalg.solve(matrix, rhs)
    given = start.clone()
    result = conjugate_gradient(lambda x: matrix @ x, rhs, tolerance=1e-10, max_iterations=9, x0=start)
    assert result.iterations == 0
    assert bool(result.converged)
    assert torch.equal(start, given)


def test_systems_of_a_batch_do_not_see_each_other() -> None:
    systems = [system(9, 3, 2), system(9, 4, 1000), system(9, 5, 30)]
    matrices, rhs = torch.stack([a for a, _ in systems]), torch.stack([b for _, b in systems])
    rhs[2] = 0
    result = conjugate_gradient(
        lambda x: (matrices @ x[..., None])[..., 0], rhs, tolerance=1e-9, max_iterations=60, dims=(-1,)
    )
    assert result.converged.tolist() == [True, True, True]
    assert result.residuals.shape == (result.iterations + 1, 3)
    for i in range(2):
        alone = conjugate_gradient(
            lambda x, a=matrices[i]: a @ x,
            rhs[i],
            tolerance=1e-9,
            max_iterations=60,  # type: ignore[misc]
        )
        torch.testing.assert_close(result.solution[i], alone.solution, rtol=1e-9, atol=1e-12)
    assert not result.solution[2].any()


def test_not_finite_is_not_converged() -> None:
    matrix, rhs = system(5, 6)
    rhs[1] = float("nan")
    result = conjugate_gradient(lambda x: matrix @ x, rhs, tolerance=1e-9, max_iterations=60)
    assert not bool(result.converged)
    assert result.iterations == 0
