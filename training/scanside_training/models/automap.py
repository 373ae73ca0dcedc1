"""From k-space to the image through dense layers, which learn the transform itself.

Zhu et al., *Image reconstruction by domain-transform manifold learning* (AUTOMAP), Nature 555:487-492 (2018): two
dense layers with tanh, two convolutions and a deconvolution. Each number of a dense layer's output has a weight for
each number of k-space: 806 million weights for 128 × 128.

By default the dense layers are separable: one along k1 and one along k0, as Schlemper et al., *dAUTOMAP: decomposing
AUTOMAP to achieve scalability and enhance performance*, arXiv:1909.10995 (2019), have them. A product of two thin
matrices would be as small, but it keeps a few components, and those of a Fourier transform are all equally strong.
The transform is separable, so that such layers can learn all of it, and at 128 × 128 the whole network takes less
than 1 MB in float16.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn
from torch.nn.functional import relu

from scanside.engines.manifest import TensorSpec
from scanside.errors import ShapeError
from scanside.recon.fourier import to_image
from scanside_training.models.base import Body, Network, NetworkConfig

__all__ = ["Automap", "AutomapConfig"]

_LINEAR = 0.5
"""Images are multiplied with it where the network begins as a transform: tanh leaves them nearly as they are."""

_PARTS = 4
"""Of an image whose real and imaginary part pass a ReLU, each as its positive and its negative part."""


class AutomapConfig(NetworkConfig):
    """Reconstruction of the combined image's k-space, of one size.

    Attributes:
        size: ``(k1, k0)`` of k-space and image.
        separable: dense layers along one axis after the other; else each output hangs on every input, as in the
            paper, which takes ``hidden · (2 + hidden) · (k1 · k0)²`` weights.
        hidden: planes of the size of the image that each dense layer gives; one in the paper, whose images are real.
        start: ``random`` weights, as in the paper; or weights by which the network begins as the inverse ``fourier``
            transform, but for what tanh bends, which takes two planes and four channels.
        channels: features of the convolutions.
    """

    kind: Literal["automap"] = "automap"
    size: tuple[PositiveInt, PositiveInt]
    separable: bool = True
    hidden: int = Field(2, ge=1)
    start: Literal["random", "fourier"] = "random"
    channels: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _room_for_an_image(self) -> AutomapConfig:
        if self.start == "fourier" and (self.hidden != 2 or self.channels < _PARTS):
            raise ValueError(
                f"start 'fourier' takes two planes and at least {_PARTS} channels, and these are {self.hidden} and "
                f"{self.channels}: set hidden to 2 and channels to {_PARTS} or more, or start with 'random'"
            )
        return self

    @property
    def multiple_of(self) -> int:
        """Nothing is halved."""
        return 1

    @property
    def fixed_size(self) -> tuple[int, int]:
        """The size that it was made for."""
        return self.size

    def build(self) -> Automap:
        """The network with fresh weights."""
        return Automap(self)


class _Dense(nn.Module):
    """A weight for each pair of numbers: ``(B, n_in, k1, k0)`` to ``(B, n_out, k1, k0)``."""

    def __init__(self, n_in: int, n_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        n_pixels = size[0] * size[1]
        self.shape = (n_out, *size)
        self.all = nn.Linear(n_in * n_pixels, n_out * n_pixels)
        _keep_size(self.all)

    def begin_as(self, along_k1: torch.Tensor, along_k0: torch.Tensor) -> None:
        """Be a separable transform of complex images, whose matrices are given."""
        _set(self.all, torch.kron(along_k1, along_k0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        out: torch.Tensor = self.all(x.flatten(1)).unflatten(1, self.shape)
        return out


class _SeparableDense(nn.Module):
    """The same, along k1 and then along k0; each mixes all planes."""

    def __init__(self, n_in: int, n_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        k1, k0 = size
        self.n_out, self.size = n_out, size
        self.along_k1 = nn.Linear(n_in * k1, n_out * k1, bias=False)
        self.along_k0 = nn.Linear(n_out * k0, n_out * k0)
        _keep_size(self.along_k1)
        _keep_size(self.along_k0)

    def begin_as(self, along_k1: torch.Tensor, along_k0: torch.Tensor) -> None:
        """Be a transform of complex images, whose matrices are given."""
        _set(self.along_k1, along_k1)
        _set(self.along_k0, along_k0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        k1, k0 = self.size
        columns = self.along_k1(x.permute(0, 3, 1, 2).flatten(2)).unflatten(2, (self.n_out, k1))
        rows = self.along_k0(columns.permute(0, 3, 2, 1).flatten(2)).unflatten(2, (self.n_out, k0))
        out: torch.Tensor = rows.transpose(1, 2)
        return out


def _keep_size(layer: nn.Linear) -> None:
    """Weights with which numbers leave about as large as they come, as after a unitary transform; no biases."""
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _set(layer: nn.Linear, matrix: torch.Tensor) -> None:
    """Have a layer apply a complex matrix to real and imaginary parts, which follow each other."""
    real, imaginary = matrix.real, matrix.imag
    rows = torch.cat((real, -imaginary), dim=1), torch.cat((imaginary, real), dim=1)
    with torch.no_grad():
        layer.weight.copy_(torch.cat(rows))


def _pass_on(first: nn.Conv2d, second: nn.Conv2d, last: nn.ConvTranspose2d) -> None:
    """Have convolutions begin by giving the image as it came: other features than its parts take no part yet."""
    with torch.no_grad():
        for layer in (first, second):
            layer.weight[:_PARTS] = 0
            layer.bias[:_PARTS] = 0  # type: ignore[index]
        last.weight.zero_()
        last.bias.zero_()  # type: ignore[union-attr]
        for part in range(_PARTS):
            plane, sign = part // 2, 1 - 2 * (part % 2)
            first.weight[part, plane, 2, 2] = sign
            second.weight[part, part, 2, 2] = 1
            last.weight[part, plane, 3, 3] = sign / _LINEAR


class _Convolutions(Body):
    """``(B, n_in, k1, k0)`` to the features ``(B, channels, k1, k0)``."""

    def __init__(self, n_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, channels, 5, padding=2)
        self.conv2 = nn.Conv2d(channels, channels, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply them."""
        x = x.to(self.conv1.weight.dtype)
        return relu(self.conv2(relu(self.conv1(x)))).float()


class Automap(Network):
    """Task ``image``: from k-space to the image. In training it also gives the features that the image is made of.

    Dense layers compute in float32 in all engines: k-space spans orders of magnitude, and where tanh saturates,
    rounding would turn signs.
    """

    task = "image"
    config: AutomapConfig

    def __init__(self, config: AutomapConfig) -> None:
        super().__init__(config)
        dense = _SeparableDense if config.separable else _Dense
        self.dense1 = dense(2, config.hidden, config.size)
        self.dense2 = dense(config.hidden, config.hidden, config.size)
        self.convolutions = _Convolutions(config.hidden, config.channels)
        self.last = nn.ConvTranspose2d(config.channels, 2, 7, padding=3)
        if config.start == "fourier":
            k1, k0 = (torch.eye(n, dtype=torch.complex64) for n in config.size)
            self.dense1.begin_as(_LINEAR * to_image(k1, (0,)), to_image(k0, (0,)))
            self.dense2.begin_as(k1, k0)
            _pass_on(self.convolutions.conv1, self.convolutions.conv2, self.last)

    def offered(self) -> tuple[TensorSpec, ...]:
        """K-space alone."""
        return (TensorSpec(name="kspace", axes=("batch", 2, "k1", "k0")),)

    def outputs(self) -> tuple[TensorSpec, ...]:
        """The image; in training also ``activations``, for the loss of that name."""
        image = TensorSpec(name="image", axes=("batch", 2, "k1", "k0"))
        if not self.training:
            return (image,)
        return (image, TensorSpec(name="activations", axes=("batch", self.config.channels, "k1", "k0")))

    def forward(self, kspace: torch.Tensor) -> torch.Tensor:
        """From k-space ``(B, 2, k1, k0)`` to `outputs`, float32.

        Raises:
            ShapeError: it is not of the size of the network.
        """
        if kspace.shape[-2:] != self.config.size:
            expected, found = ("×".join(map(str, size)) for size in (self.config.size, kspace.shape[-2:]))
            raise ShapeError(f"this network takes k-space of {expected} and no other, got {found}")
        features = self.convolutions(self.dense2(self.dense1(kspace).tanh()).tanh())
        # Of a scan of nothing, biases alone would make something.
        image: torch.Tensor = self.last(features) * (kspace.abs().sum((1, 2, 3), keepdim=True) > 0)
        return torch.cat((image, features), dim=1) if self.training else image
