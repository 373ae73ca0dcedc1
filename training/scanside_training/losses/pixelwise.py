"""Errors that each pixel has by itself: L1, L2, and L2 under a map of weights."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.losses.weights import BatchWeights, CentreWeights, FileWeights, HeatMapWeights
from scanside_training.models.base import Batch

__all__ = ["CharbonnierConfig", "L1Config", "L2Config", "WeightedL2Config"]


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
        CentreWeights | BatchWeights | HeatMapWeights | FileWeights, Field(discriminator="source")
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
