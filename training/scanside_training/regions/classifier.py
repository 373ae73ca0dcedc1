"""Whether a stack of slices shows a finding, in the form of MRNet.

Bien et al., *Deep-learning-assisted diagnosis for knee magnetic resonance imaging*, PLoS Med 15:e1002699 (2018): the
features of AlexNet (Krizhevsky et al., NeurIPS 2012) of each slice, their mean over the slice, the maximum of these
over the slices, and one linear layer. The features are learned from the beginning, which takes batch normalisation
(Ioffe and Szegedy, ICML 2015) that AlexNet did not have, and their last pooling, which halves heat maps, is left out.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from scanside.errors import ConfigError, FormatError, ShapeError
from scanside_training.data.settings import Settings
from scanside_training.features import standardised

__all__ = ["SETTINGS", "WEIGHTS", "ClassifierConfig", "StackClassifier", "load_classifier"]

SETTINGS, WEIGHTS = "classifier.json", "classifier.safetensors"
"""Files in a classifier's folder."""


class ClassifierConfig(Settings):
    """A classifier and its training; the defaults of the network are AlexNet's."""

    channels: int = Field(default=64, ge=1)
    """Features of the first convolution; the others have 3, 6, 4 and 4 times as many."""
    stride: int = Field(default=4, ge=1)
    """Of the first convolution; small images need a smaller one, for a heat map of more than a few pixels."""
    size: int = Field(default=256, ge=32)
    """Edge of the generated slices in pixels."""
    n_slices: int = Field(default=8, ge=1)
    """Slices of a stack."""
    share: float = Field(default=0.3, gt=0, lt=1)
    """Of the stacks that have a finding; the loss weighs both classes alike all the same."""
    n_stacks: int = Field(default=400, ge=2)
    """In training."""
    n_validation: int = Field(default=100, ge=2)
    """Other stacks, on which it is measured."""
    steps: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=8, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    seed: int = Field(default=0, ge=0)


class StackClassifier(nn.Module):
    """One logit for a stack: positive where it has a finding.

    Args:
        channels: of the first convolution.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        n1, n2, n3, n4 = channels, 3 * channels, 6 * channels, 4 * channels
        self.features = nn.Sequential(
            *_convolution(1, n1, 11, stride),
            nn.MaxPool2d(3, 2),
            *_convolution(n1, n2, 5),
            nn.MaxPool2d(3, 2),
            *_convolution(n2, n3, 3),
            *_convolution(n3, n4, 3),
            *_convolution(n4, n4, 3),
        )
        self.last = nn.Linear(n4, 1)

    def seen(self, stacks: torch.Tensor) -> torch.Tensor:
        """Features of every slice.

        Args:
            stacks: ``(B, slice, y, x)`` magnitudes, in any unit: every slice is standardised.

        Returns:
            ``(B, slice, feature, y', x')``, not negative.

        Raises:
            ShapeError: the slices are too small.
        """
        smallest = 7 * self.stride  # two poolings of 3 need 7 pixels
        if stacks.ndim != 4 or min(stacks.shape[-2:]) < smallest:
            raise ShapeError(
                f"the classifier takes stacks (B, slice, y, x) of slices of at least {smallest} × {smallest}, got "
                f"{tuple(stacks.shape)}"
            )
        features: torch.Tensor = self.features(standardised(stacks.flatten(0, 1)[:, None]))
        return features.reshape(*stacks.shape[:2], *features.shape[1:])

    def judged(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(B,)`` from features ``(B, slice, feature, y', x')``."""
        logits: torch.Tensor = self.last(features.mean((-2, -1)).amax(1))
        return logits[:, 0]

    def forward(self, stacks: torch.Tensor) -> torch.Tensor:
        """Logits ``(B,)`` of stacks ``(B, slice, y, x)``."""
        return self.judged(self.seen(stacks))


def _convolution(n_in: int, n_out: int, kernel: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(n_out), nn.ReLU()


def load_classifier(folder: Path) -> StackClassifier:
    """A trained classifier, in evaluation mode on the CPU; its weights do not learn any more.

    Raises:
        ConfigError: there is none in the folder.
        FormatError: its files are damaged.
    """
    if not (folder / SETTINGS).is_file():
        raise ConfigError(
            f"{folder} is no folder of a classifier: it has no {SETTINGS}; make one with 'scanside regions'"
        )
    try:
        config = ClassifierConfig.model_validate_json((folder / SETTINGS).read_text("utf-8"))
        classifier = StackClassifier(config.channels, config.stride)
        classifier.load_state_dict(load_file(folder / WEIGHTS))
    except (ValidationError, SafetensorError, RuntimeError, OSError) as error:
        raise FormatError(f"the classifier in {folder} is damaged: train it again ({error})") from error
    return classifier.requires_grad_(False).eval()
