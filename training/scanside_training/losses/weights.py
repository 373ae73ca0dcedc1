"""Where in the image errors count how much: more in the centre, where a classifier sees a finding, or as a map says.

Maps come with the data or in a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from scanside.errors import ConfigError, ShapeError
from scanside_training.losses.term import entry, magnitude
from scanside_training.models.base import Batch
from scanside_training.regions.classifier import load_classifier
from scanside_training.regions.heat import heat_maps

__all__ = ["BatchWeights", "BoxWeights", "CentreWeights", "FileWeights", "HeatMapWeights", "centre_weights"]

Extent = Annotated[float, Field(gt=0, le=1)]


class _WeightsConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CentreWeights(_WeightsConfig):
    """`factor` within a shape in the middle of the image, 1 around it.

    Attributes:
        shape: the shape.
        extent: its size along (k1, k0), as parts of the image's.
        factor: weight within.
    """

    source: Literal["centre"] = "centre"
    shape: Literal["rectangle", "ellipse"] = "rectangle"
    extent: tuple[Extent, Extent] = (0.5, 0.5)
    factor: float = Field(2.0, gt=0)

    def build(self) -> nn.Module:
        """A module from (output, batch) to weights."""
        return _Centre(self)


class BatchWeights(_WeightsConfig):
    """The map that each sample brings as ``batch["weight"]``, ``(B, 1, k1, k0)``."""

    source: Literal["batch"] = "batch"

    def build(self) -> nn.Module:
        """A module from (output, batch) to weights."""
        return _FromBatch()


class BoxWeights(_WeightsConfig):
    """`factor` where somebody marked the slice (``batch["marked"]``), 1 around; where nothing is, by the centre.

    Boxes come with a source, such as those of fastMRI+ (`scanside_training.data.annotations`).

    Attributes:
        factor: weight where something is marked.
        otherwise: weights of samples in which nothing is; null lets all of their pixels count alike.
    """

    source: Literal["boxes"] = "boxes"
    factor: float = Field(5.0, gt=0)
    otherwise: CentreWeights | None = CentreWeights()

    def build(self) -> nn.Module:
        """A module from (output, batch) to weights."""
        return _Boxes(self)


class HeatMapWeights(_WeightsConfig):
    """More where a classifier sees a finding in the target: ``1 + (factor − 1) · probability · heat map``.

    Both are the classifier's own (`scanside_training.regions`), of the target's magnitude as a stack of one slice.
    Where it sees none, all pixels count alike.

    Attributes:
        classifier: folder of a trained one.
        factor: weight where the heat map is largest, if a finding is certain.
    """

    source: Literal["heat-map"] = "heat-map"
    classifier: Path
    factor: float = Field(5.0, gt=0)

    def build(self) -> nn.Module:
        """A module from (output, batch) to weights.

        Raises:
            ConfigError: there is no classifier in the folder.
            FormatError: it is damaged.
        """
        return _HeatMap(self)


class FileWeights(_WeightsConfig):
    """One map for all images.

    Attributes:
        path: an ``.npy`` file with ``(k1, k0)`` weights of the images' own size.
    """

    source: Literal["file"] = "file"
    path: Path

    def build(self) -> nn.Module:
        """A module from (output, batch) to weights.

        Raises:
            ConfigError: the file cannot be read or holds no map of weights.
        """
        return _Fixed(self.path)


def centre_weights(
    size: tuple[int, int], config: CentreWeights, device: torch.device | None = None
) -> torch.Tensor:
    """The map for an image of a size.

    Args:
        size: (k1, k0).
        config: shape, extent and factor.
        device: of the map.

    Returns:
        ``size``, float32, symmetric about the middle of the image.
    """
    distances = [
        (2 * torch.arange(n, device=device) + 1 - n).abs() / (extent * n)
        for n, extent in zip(size, config.extent, strict=True)
    ]
    k1, k0 = distances[0][:, None], distances[1][None, :]
    inside = torch.maximum(k1, k0) <= 1 if config.shape == "rectangle" else k1.square() + k0.square() <= 1
    return 1 + (config.factor - 1) * inside.float()


class _Centre(nn.Module):
    def __init__(self, config: CentreWeights) -> None:
        super().__init__()
        self.config = config

    def forward(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        size = (output.shape[-2], output.shape[-1])
        return centre_weights(size, self.config, output.device).to(output.dtype)


class _FromBatch(nn.Module):
    def forward(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        return entry(batch, "weight", output, "let the data bring a map of weights, or use another source")


class _Boxes(nn.Module):
    def __init__(self, config: BoxWeights) -> None:
        super().__init__()
        self.factor = config.factor
        self.otherwise = None if config.otherwise is None else config.otherwise.build()

    def forward(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        remedy = "take a source with boxes (kind: fastmri, annotations: …), or another source of weights"
        marked = entry(batch, "marked", output, remedy)
        weights = 1 + (self.factor - 1) * marked
        if self.otherwise is None:
            return weights
        none = ~marked.bool().flatten(1).any(1)
        return torch.where(none[:, None, None, None], self.otherwise(output, batch), weights)


class _HeatMap(nn.Module):
    def __init__(self, config: HeatMapWeights) -> None:
        super().__init__()
        self.factor = config.factor
        # In a tuple, the classifier is no submodule: neither saved nor trained.
        self._unregistered = (load_classifier(config.classifier),)

    def forward(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        classifier = self._unregistered[0].to(output.device)
        logits, heat = heat_maps(classifier, magnitude(batch["target"].to(output)))
        return 1 + (self.factor - 1) * logits.sigmoid()[:, None, None, None] * heat


class _Fixed(nn.Module):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.map: torch.Tensor
        # The file is part of the configuration, not of what was learned.
        self.register_buffer("map", torch.from_numpy(_read(path)), persistent=False)

    def forward(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self.map.shape != output.shape[-2:]:
            raise ShapeError(
                f"the weights in {self.path} are {tuple(self.map.shape)}, the images {tuple(output.shape[-2:])}: "
                "the map must have the images' own size"
            )
        return self.map.to(output.dtype)


def _read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        weights = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no map of weights can be read from {path}: {error}; save one with numpy.save"
        ) from error
    if not isinstance(weights, np.ndarray) or weights.ndim != 2 or weights.dtype.kind not in "biuf":
        raise ConfigError(f"{path} holds no map of weights: it must be one array (k1, k0) of real numbers")
    if not np.isfinite(weights).all() or weights.min(initial=0) < 0 or not weights.any():
        raise ConfigError(f"the weights in {path} must be finite, not negative, and not all zero")
    return weights.astype(np.float32)
