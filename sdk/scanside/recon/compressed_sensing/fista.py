"""The fast iterative shrinkage-thresholding algorithm.

Beck, Teboulle: *A fast iterative shrinkage-thresholding algorithm for linear inverse problems*, SIAM J Imaging Sci
2:183-202 (2009). Momentum is gathered anew where it leads uphill: O'Donoghue, Candès: *Adaptive restart for
accelerated gradient schemes*, Found Comput Math 15:715-732 (2015).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from scanside.recon.compressed_sensing.descent import Descent, inner, relative_change

__all__ = ["fista"]


def fista(
    normal: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    prox: Callable[[torch.Tensor, float], torch.Tensor],
    *,
    lipschitz: float,
    tolerance: float,
    max_iterations: int,
) -> Descent:
    """Minimise ``½ |A x − y|² + g(x)``, from ``Aᴴ y`` on.

    Args:
        normal: ``Aᴴ A``, which does not change its argument.
        right: ``Aᴴ y``, complex, of any shape.
        prox: of a tensor v, which it may change, and a step t: what minimises ``½ |x − v|² + t g(x)``.
        lipschitz: at least the largest eigenvalue of ``Aᴴ A``.
        tolerance: stop when x changes by less than this part of itself.
        max_iterations: stop then at the latest.
    """
    step = 1 / lipschitz
    x, ahead, momentum = right, right, 1.0
    changes = []
    for _ in range(max_iterations):
        downhill = normal(ahead).sub_(right).mul_(-step).add_(ahead)
        new = prox(downhill, step)
        move = new - x
        changes.append(relative_change(move, new))
        # Uphill: the way from where the step was taken to its end turns against the last move.
        if inner(ahead, move) > inner(new, move):
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = torch.add(new, move, alpha=(momentum - 1) / following)
        x, momentum = new, following
        if not changes[-1] > tolerance:
            break
    return Descent(x, torch.tensor(changes), changes[-1] <= tolerance)
