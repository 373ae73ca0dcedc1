"""Errors that each pixel has by itself: L1, L1 of magnitudes, L2, and L2 under a map of weights."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.losses.weights import (
    BatchWeights,
    BoxWeights,
    CentreWeights,
    FileWeights,
    HeatMapWeights,
)
from scanside_training.models.base import Batch

__all__ = ["CharbonnierConfig", "L1Config", "L2Config", "MagnitudeConfig", "WeightedL2Config"]


class L1Config(TermConfig):
    """Mean absolute error.

    Attributes:
        of: ``modulus`` takes the modulus of the complex difference, which does not depend on the phase that the
            image happens to have; ``channels`` takes the mean of the absolute differences of real and imaginary
            part. For images with one channel the two are the same.
    """

    kind: Literal["l1"] = "l1"
    of: Literal["modulus", "channels"] = "modulus"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _L1(self)


class MagnitudeConfig(TermConfig):
    """Mean absolute difference of the magnitudes, which are what people look at.

    Noise turns phases and magnitudes alike; what a network smooths away is missing in the magnitude alone. A network
    that is trained on complex differences is therefore worse in magnitudes than they tell. Beside another term: alone
    it says nothing of the phase.
    """

    kind: Literal["magnitude"] = "magnitude"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Magnitude()


class L2Config(TermConfig):
    """Mean squared modulus of the difference."""

    kind: Literal["l2"] = "l2"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _L2()


class CharbonnierConfig(TermConfig):
    """Mean of ``√(|difference|² + ε²) − ε``: L2 for small differences, L1 for large ones.

    Charbonnier et al., *Two deterministic half-quadratic regularization algorithms*, ICIP 1994.

    Attributes:
        epsilon: ε, in units of the scaled image.
    """

    kind: Literal["charbonnier"] = "charbonnier"
    epsilon: float = Field(1e-3, gt=0)

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Charbonnier(self)


class WeightedL2Config(TermConfig):
    """Mean squared modulus of the difference, each pixel's times its weight.

    The sum is divided by the number of pixels, not by the sum of the weights: a weight of 2 doubles a pixel's
    pull, and leaves that of the others as it is.

    Attributes:
        map: where the weights come from.
    """

    kind: Literal["weighted_l2"] = "weighted_l2"
    map: Annotated[
        CentreWeights | BatchWeights | BoxWeights | HeatMapWeights | FileWeights,
        Field(discriminator="source"),
    ] = CentreWeights()

    def build(self, network_of: NetworkOf) -> Term:
        """The term; a map in a file is read here."""
        return _WeightedL2(self)


class _L1(Term):
    def __init__(self, config: L1Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        difference = output - target
        if self.config.of == "channels":
            return difference.abs().mean(dim=1, keepdim=True)
        return magnitude(difference)


class _Magnitude(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (magnitude(output) - magnitude(target)).abs()


class _L2(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (output - target).square().sum(dim=1, keepdim=True)


class _Charbonnier(Term):
    def __init__(self, config: CharbonnierConfig) -> None:
        super().__init__()
        self.epsilon = config.epsilon

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        squares = (output - target).square().sum(dim=1, keepdim=True)
        return (squares + self.epsilon**2).sqrt() - self.epsilon


class _WeightedL2(Term):
    def __init__(self, config: WeightedL2Config) -> None:
        super().__init__()
        self.weights = config.map.build()

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        weights: torch.Tensor = self.weights(output, batch)
        return weights * (output - target).square().sum(dim=1, keepdim=True)
