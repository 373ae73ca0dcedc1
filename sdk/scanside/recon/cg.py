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
    axes = tuple(range(rhs.ndim)) if dims is None else tuple(dims)

    def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if not a.is_complex():
            return (a * b).sum(axes, keepdim=True)
        # The real part alone, for half of the work.
        return (torch.view_as_real(a) * torch.view_as_real(b)).sum(-1).sum(axes, keepdim=True)

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
        x += step * direction
        residual -= step * image
        before, power = power, inner(residual, residual)
        direction = residual + ratio(power, before, active) * direction
        residuals.append(ratio(power, size).sqrt())
    history = torch.stack(residuals).squeeze(tuple(axis - rhs.ndim if axis >= 0 else axis for axis in axes))
    return CgResult(x, history, history[-1] <= tolerance)
