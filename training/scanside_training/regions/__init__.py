"""Regions that matter: a classifier that finds findings, heat maps of where it looks, and errors inside them.

A classifier learns from stacks of which only one thing is known, whether there is a finding. Its heat maps tell where
it sees one, and the loss ``weighted_l2`` takes them as weights (``map: {source: heat-map, …}``), so that errors count
more there.

::

    train_classifier(ClassifierConfig(name="findings"), folder)
    classifier = load_classifier(folder)
    logits, heat = heat_maps(classifier, stacks)
"""

from __future__ import annotations

from scanside_training.regions.classifier import ClassifierConfig, StackClassifier, load_classifier
from scanside_training.regions.heat import heat_maps
from scanside_training.regions.training import ClassifierRecord, train_classifier

__all__ = [
    "ClassifierConfig",
    "ClassifierRecord",
    "StackClassifier",
    "heat_maps",
    "load_classifier",
    "train_classifier",
]
