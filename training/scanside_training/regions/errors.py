"""Errors of a network inside the regions that a classifier finds, and outside of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from scanside_training.features import undisturbed
from scanside_training.losses.term import magnitude
from scanside_training.models.base import Batch, Network
from scanside_training.regions.classifier import StackClassifier
from scanside_training.regions.heat import heat_maps

__all__ = ["RegionErrors", "errors_in_regions"]


class RegionErrors(NamedTuple):
    """Mean squared errors of the images that a classifier sees a finding in.

    Attributes:
        inside: where the heat map of the target is half of its largest value or more; NaN where no image has any.
        outside: elsewhere in the object.
        n_images: how many images had a region.
    """

    inside: float
    outside: float
    n_images: int


def errors_in_regions(
    network: Network, classifier: StackClassifier, batches: Iterable[Batch]
) -> RegionErrors:
    """Compare outputs with targets, magnitude by magnitude.

    Args:
        network: a trained one for images.
        classifier: says where the regions lie, from the targets alone, so that they are the same for all networks.
        batches: of samples with ``target`` ``(B, 1 or 2, k1, k0)`` and ``roi`` ``(B, 1, k1, k0)``.
    """
    sums = torch.zeros(2, 2, dtype=torch.float64)  # (inside or outside; squared errors, pixels)
    n_images = 0
    for batch in batches:
        with undisturbed(network):
            image, _ = network.split(network(*network.inputs(batch)))
        target = magnitude(batch["target"])
        error = (magnitude(image) - target).square().double()
        logits, heat = heat_maps(classifier, target)
        found = (logits > 0)[:, None, None, None]
        inside = found & (heat >= 0.5)
        outside = found & (heat < 0.5) & (batch["roi"] > 0)
        for row, where in enumerate((inside, outside)):
            sums[row] += torch.stack((error[where].sum(), where.sum().double()))
        n_images += int(inside.flatten(1).any(1).sum())
    means = sums[:, 0] / sums[:, 1]
    return RegionErrors(float(means[0]), float(means[1]), n_images)
