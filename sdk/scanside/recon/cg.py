"""Conjugate gradients for Hermitian positive definite systems.

Hestenes, Stiefel: *Methods of conjugate gradients for solving linear systems*, J. Res. NBS 49:409-436 (1952).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["CgResult", "conjugate_gradient"]


@dataclass(frozen=True)
class CgResult:
    """A solution and how it was reached.

    Attributes:
        solution: of the same shape as the right-hand side.
        residuals: ``(iterations + 1, *batch)``, ``|rhs - A x| / |rhs|`` before and after every iteration, as CG
            updates it.
        converged: ``(*batch)`` bool, whether the last residual reached the tolerance.
    """

    solution: torch.Tensor
    residuals: torch.Tensor
    converged: torch.Tensor

    @property
    def iterations(self) -> int:
        """How many iterations were done."""
        return len(self.residuals) - 1


def conjugate_gradient(
    normal: Callable[[torch.Tensor], torch.Tensor],
    rhs: torch.Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    x0: torch.Tensor | None = None,
    dims: Sequence[int] | None = None,
) -> CgResult:
    """Solve ``normal(x) = rhs``.

    Axes that are not in ``dims`` hold independent systems, each with its own step lengths; one that has converged
    stays as it is while the others go on.

    Args:
        normal: Hermitian positive definite operator that keeps the shape and does not change its argument.
        rhs: real or complex right-hand sides.
        tolerance: stop when ``|residual| <= tolerance |rhs|`` in every system.
        max_iterations: stop then at the latest.
        x0: where to start; zero by default.
        dims: axes of one system; by default all.

    Returns:
        Solution, residual history and which systems converged. A system with ``rhs = 0`` counts as converged.
    """
    axes = tuple(range(rhs.ndim)) if dims is None else tuple(axis % rhs.ndim for axis in dims)
    summed = (*axes, rhs.ndim)
    # All steps are taken in place, as real and imaginary planes: to ask for new memory costs more than to compute.
    products = torch.empty_like(_planes(rhs))

    def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The real part of the product, ``(*rhs.shape, 1)`` with the axes of a system of length 1."""
        return torch.mul(_planes(a), _planes(b), out=products).sum(summed, keepdim=True)

    def ratio(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor | bool = True) -> torch.Tensor:
        return torch.where((b != 0) & where, a / b, 0)

    if x0 is None:
        x, residual = torch.zeros_like(rhs), rhs.clone()
    else:
        x, residual = x0.clone(), rhs - normal(x0)
    direction = residual.clone()
    size, power = inner(rhs, rhs), inner(residual, residual)
    residuals = [ratio(power, size).sqrt()]
    for _ in range(max_iterations):
        active = residuals[-1] > tolerance
        if not bool(active.any()):
            break
        image = normal(direction)
        step = ratio(power, inner(direction, image), active)
        _planes(x).addcmul_(step, _planes(direction))
        _planes(residual).addcmul_(step, _planes(image), value=-1)
        before, power = power, inner(residual, residual)
        _planes(direction).mul_(ratio(power, before, active)).add_(_planes(residual))
        residuals.append(ratio(power, size).sqrt())
    history = torch.stack(residuals).squeeze(tuple(axis + 1 for axis in summed))
    return CgResult(x, history, history[-1] <= tolerance)


def _planes(values: torch.Tensor) -> torch.Tensor:
    """A view with a last axis of real and imaginary part, or of the real value alone."""
    return torch.view_as_real(values) if values.is_complex() else values.unsqueeze(-1)
