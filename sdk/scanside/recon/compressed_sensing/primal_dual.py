"""Primal-dual splitting, for penalties on what an operator makes of the image.

Condat: *A primal-dual splitting method for convex optimization involving Lipschitzian, proximable and linear
composite terms*, J Optim Theory Appl 158:460-479 (2013); Vũ, Adv Comput Math 38:667-681 (2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from scanside.recon.compressed_sensing.descent import Descent, relative_change
from scanside.recon.compressed_sensing.total_variation import TotalVariation

__all__ = ["primal_dual"]

_BALANCE = 1.0  # σ ‖D‖² / L, on which the speed depends


def primal_dual(
    normal: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    prox: Callable[[torch.Tensor, float], torch.Tensor] | None,
    variations: Sequence[TotalVariation],
    *,
    lipschitz: float,
    tolerance: float,
    max_iterations: int,
) -> Descent:
    """Minimise ``½ |A x − y|² + g(x) + Σ variation(x)``, from ``Aᴴ y`` on.

    Args:
        normal: as `scanside.recon.compressed_sensing.fista.fista`, like `right`, `prox` and what follows.
        right: ``Aᴴ y``.
        prox: of g; None where there is no g.
        variations: one at least.
        lipschitz: at least the largest eigenvalue of ``Aᴴ A``.
        tolerance: stop when x changes by less than this part of itself.
        max_iterations: stop then at the latest.
    """
    # Converges where 1 / τ − σ ‖D‖² ≥ L / 2.
    sigma = _BALANCE * lipschitz / sum(variation.bound for variation in variations)
    tau = 1 / (lipschitz * (0.5 + _BALANCE))
    x, duals = right, [torch.zeros_like(variation.differences(right)) for variation in variations]
    ahead = x
    changes = []
    for _ in range(max_iterations):
        downhill = normal(x).sub_(right)
        for variation, dual in zip(variations, duals, strict=True):
            variation.project_(dual.add_(variation.differences(ahead), alpha=sigma))
            downhill += variation.adjoint(dual)
        new = torch.add(x, downhill, alpha=-tau)
        if prox is not None:
            new = prox(new, tau)
        move = new - x
        ahead = new + move
        x = new
        changes.append(relative_change(move, new))
        if not changes[-1] > tolerance:
            break
    return Descent(x, torch.tensor(changes), changes[-1] <= tolerance)
