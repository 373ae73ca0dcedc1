"""What iterations have in common: how they went, and inner products of complex tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Descent", "inner", "largest_eigenvalue", "relative_change"]

_SEED = 1


@dataclass(frozen=True)
class Descent:
    """A solution and how it was reached.

    Attributes:
        solution: complex, of the shape of the right-hand side.
        changes: ``(iterations,)``, ``|x − x before| / |x|`` in every iteration.
        converged: whether the last of them reached the tolerance.
    """

    solution: torch.Tensor
    changes: torch.Tensor
    converged: bool

    @property
    def iterations(self) -> int:
        """How many iterations were done."""
        return len(self.changes)


def inner(a: torch.Tensor, b: torch.Tensor) -> float:
    """The real part of the inner product of complex tensors."""
    return float(torch.dot(torch.view_as_real(a).flatten(), torch.view_as_real(b).flatten()))


def relative_change(move: torch.Tensor, now: torch.Tensor) -> float:
    """``|move| / |now|``; 0 where both are 0."""
    # As real numbers: norms of complex ones are computed twenty times as slowly.
    change, size = (float(torch.linalg.vector_norm(torch.view_as_real(one))) for one in (move, now))
    return change / size if size > 0 else change


def largest_eigenvalue(
    normal: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor, iterations: int = 20
) -> float:
    """Of a Hermitian positive operator, by power iteration from a fixed start: an estimate from below.

    Args:
        normal: the operator.
        like: a tensor as it takes them.
        iterations: how often it is applied.
    """
    generator = torch.Generator().manual_seed(_SEED)
    start = torch.randn(like.shape, dtype=like.dtype, generator=generator)
    vector, value = start.to(like.device), 0.0
    for _ in range(iterations):
        size = float(torch.linalg.vector_norm(torch.view_as_real(vector)))
        if size == 0:
            return 0.0
        vector = vector / size
        image = normal(vector)
        value, vector = inner(vector, image), image
    return value
