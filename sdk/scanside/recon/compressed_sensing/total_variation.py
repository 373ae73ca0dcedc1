"""Total variation: how much neighbouring voxels differ.

Rudin, Osher, Fatemi: *Nonlinear total variation based noise removal algorithms*, Physica D 60:259-268 (1992).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["TotalVariation"]


class TotalVariation:
    """``weight · Σ √(Σ_axis |difference along the axis|²)``: isotropic, and periodic, as BART's is.

    Args:
        weight: of the sum.
        axes: along which are neighbours, counted from the end; one of length 1 has none.

    Attributes:
        bound: at least the largest eigenvalue of ``Dᴴ D``.
    """

    def __init__(self, weight: float, axes: Sequence[int]) -> None:
        self.weight, self._axes = weight, tuple(axes)
        self.bound = 4.0 * len(self._axes)

    def differences(self, image: torch.Tensor) -> torch.Tensor:
        """``D``: from ``(*)`` to ``(axis, *)``."""
        return torch.stack([image.roll(-1, axis).sub_(image) for axis in self._axes])

    def adjoint(self, differences: torch.Tensor) -> torch.Tensor:
        """``Dᴴ``: from ``(axis, *)`` to ``(*)``."""
        parts = (one.roll(1, axis).sub_(one) for one, axis in zip(differences, self._axes, strict=True))
        result: torch.Tensor = next(parts)
        for part in parts:
            result.add_(part)
        return result

    def project_(self, dual: torch.Tensor) -> torch.Tensor:
        """What is nearest to a tensor ``(axis, *)`` with no length above the weight, in place."""
        length = torch.view_as_real(dual).square().sum((0, -1)).sqrt_()
        dual *= self.weight / length.clamp_(min=self.weight)
        return dual

    def value(self, image: torch.Tensor) -> float:
        """Of an image ``(*)``."""
        lengths = torch.view_as_real(self.differences(image)).square().sum((0, -1)).sqrt_()
        return self.weight * float(lengths.double().sum())
