"""A network's own word on its errors: the loss that it learns it by, and what it is worth.

Where the error to be expected is û, errors that are distributed as Laplace found have the negative log-likelihood
``|x̂ − x| / û + log 2û``, whose minimum is where û is their mean (Kendall and Gal, *What uncertainties do we need in
Bayesian deep learning for computer vision?*, NeurIPS 2017).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from scanside_training.losses.term import NetworkOf, Term, TermConfig, entry, magnitude
from scanside_training.models.base import Batch

__all__ = ["Trust", "UncertaintyConfig", "trust_in"]


class UncertaintyConfig(TermConfig):
    """``|x̂ − x| / û + log 2û``, of networks that also give û; unlike other terms it falls below zero.

    Alone it lets the network neglect what it cannot predict; beside ``l1`` it does so less.
    """

    kind: Literal["uncertainty"] = "uncertainty"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Uncertainty()


class _Uncertainty(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        expected = entry(
            batch,
            "uncertainty",
            output,
            "let the network give one (model.uncertainty: true), or leave the term out",
        )
        # Where nothing is seen nothing is expected, and nothing is wrong.
        seen = expected > 0
        expected = torch.where(seen, expected, 1)
        return (magnitude(output - target) / expected + (2 * expected).log()) * seen


class Trust(NamedTuple):
    """What a network's own word on its errors is worth.

    Attributes:
        correlation: Pearson's, with the errors, over the pixels of an object; mean over images.
        ratio: mean error over mean of what was expected.
    """

    correlation: torch.Tensor
    ratio: torch.Tensor


def trust_in(image: torch.Tensor, target: torch.Tensor, expected: torch.Tensor, roi: torch.Tensor) -> Trust:
    """Compare errors with what a network expected of them.

    Args:
        image: ``(B, 1 or 2, k1, k0)``.
        target: the same.
        expected: ``(B, 1, k1, k0)``.
        roi: ``(B, 1, k1, k0)``, 1 inside the object.
    """
    error, inside = magnitude(image - target), roi > 0
    pairs = [torch.stack((a[where], b[where])) for a, b, where in zip(error, expected, inside, strict=True)]
    correlations = [torch.corrcoef(pair)[0, 1] for pair in pairs if pair.shape[1] > 1]
    together = torch.cat(pairs, dim=1).mean(1)
    return Trust(torch.stack(correlations).nan_to_num(0).mean(), together[0] / together[1])
