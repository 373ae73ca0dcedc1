"""Errors that a second network sees, which learns meanwhile to tell outputs from targets: an adversarial loss.

The discriminator judges patches: Isola et al., *Image-to-image translation with conditional adversarial networks*,
CVPR 2017. Its convolutions have spectral norm 1, which keeps it from changing faster than the image does: Miyato et
al., *Spectral normalization for generative adversarial networks*, ICLR 2018. Both sides minimise squares: Mao et al.,
*Least squares generative adversarial networks*, ICCV 2017. With the hinge, the other common choice, a network is
pushed on however well its patches pass; with squares the pull ends where they do, and a draw has known values: the
discriminator says 1/2 everywhere, and both losses are 1/4.

A network that is judged so may show detail that no data gave it, since what looks real counts as right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import mse_loss
from torch.nn.utils.parametrizations import spectral_norm

from scanside.errors import NonFiniteError, ShapeError
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch

__all__ = ["AdversarialConfig", "PatchDiscriminator", "average_gradients"]

_HALVINGS = {16: 1, 34: 2, 70: 3}
"""Convolutions of stride 2 behind which one value has seen a patch of so many pixels."""


class AdversarialConfig(TermConfig):
    """``(D(x̂) − 1)²``, mean over patches, where D learns to be 1 for targets and 0 for outputs.

    D sees magnitudes, learns once for every batch of a training, before it judges that batch, and computes in fp32
    whatever the network's precision is. Gradient clipping and moving average are the network's alone: the spectral
    norm bounds what D makes of its own gradient.

    Attributes:
        patch: side of the patches that are judged, in pixels.
        channels: of the discriminator's first convolution; each halving doubles them.
        after_steps: steps of the training before D begins to learn and the term to count. Until then it is zero: what
            tells apart an image from the noise of a network's first steps is not worth learning.
        lr: learning rate of the discriminator, by Adam with betas 0.5 and 0.999.
    """

    by_pixel: ClassVar = False
    caution: ClassVar = "trained with an adversarial loss: may invent detail"

    kind: Literal["adversarial"] = "adversarial"
    weight: float = Field(0.01, gt=0)
    patch: Literal[16, 34, 70] = 34
    channels: int = Field(32, ge=1)
    after_steps: int = Field(500, ge=0)
    lr: float = Field(2e-4, gt=0)

    @property
    def begins_at(self) -> int:
        """The step at which the term begins to count."""
        return self.after_steps

    def build(self, network_of: NetworkOf) -> Term:
        """The term, with a discriminator that has learned nothing."""
        return _Adversarial(self)


class PatchDiscriminator(nn.Module):
    """Whether each patch of an image is real: convolutions of spectral norm 1, without normalisation of features.

    Args:
        patch: side of a patch in pixels: 16, 34 or 70.
        channels: of the first convolution.
    """

    def __init__(self, patch: int, channels: int) -> None:
        super().__init__()
        n_halvings = _HALVINGS[patch]
        layers: list[nn.Module] = []
        n_before = 1
        for place in range(n_halvings + 1):
            n = channels * 2**place
            stride = 2 if place < n_halvings else 1
            layers += [_convolution(n_before, n, stride), nn.LeakyReLU(0.2)]
            n_before = n
        self.layers = nn.Sequential(*layers, _convolution(n_before, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Judge patches, towards 1 for real ones and 0 for others.

        Args:
            image: ``(B, 1, k1, k0)``, magnitudes.

        Returns:
            ``(B, 1, patches along k1, patches along k0)``.
        """
        judged: torch.Tensor = self.layers(image)
        return judged


class _Adversarial(Term):
    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config
        self.steps = 0
        discriminator = PatchDiscriminator(config.patch, config.channels).requires_grad_(False).eval()
        # In a tuple, the discriminator is no submodule: the network's optimiser, moving average and gradient
        # reduction over processes are not for it.
        self._unregistered = (discriminator,)
        self._optimiser = torch.optim.Adam(discriminator.parameters(), lr=config.lr, betas=(0.5, 0.999))

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        if not self.steps:
            return 0 * magnitude(output)
        judged: torch.Tensor = self._discriminator(output)(magnitude(output))
        return (judged - 1).square()

    def learn(self, output: torch.Tensor, target: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        if step < self.config.after_steps:
            return {}
        discriminator = self._discriminator(output).requires_grad_(True).train()
        real, fake = discriminator(torch.cat((magnitude(target), magnitude(output)))).chunk(2)
        loss = (mse_loss(real, torch.ones_like(real)) + mse_loss(fake, torch.zeros_like(fake))) / 2
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"the loss of the discriminator at step {step} is {float(loss.detach())}: the network's output or "
                f"the target is no number, or its learning rate ({self.config.lr:g}) is too high"
            )
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(discriminator.parameters())
        self._optimiser.step()
        self._optimiser.zero_grad()
        discriminator.requires_grad_(False).eval()
        self.steps += 1
        return {"discriminator": loss.detach()}

    def learned(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "discriminator": self._unregistered[0].state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, learned: dict[str, Any]) -> None:
        self.steps = learned["steps"]
        self._unregistered[0].load_state_dict(learned["discriminator"])
        self._optimiser.load_state_dict(learned["optimiser"])

    def _discriminator(self, image: torch.Tensor) -> PatchDiscriminator:
        """On the image's device, with what its optimiser knows."""
        if min(image.shape[-2:]) < self.config.patch:
            raise ShapeError(
                f"the adversarial loss judges patches of {self.config.patch} pixels, and images are "
                f"{tuple(image.shape[-2:])}: choose smaller patches (patch: 16), or larger images"
            )
        (discriminator,) = self._unregistered
        if next(discriminator.parameters()).device != image.device:
            discriminator.to(image.device)
            self._optimiser.load_state_dict(
                self._optimiser.state_dict()
            )  # moves it to its parameters' device
        return discriminator


def _convolution(n_in: int, n_out: int, stride: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(n_in, n_out, 4, stride, padding=1))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Over all processes of a training, as they all must have one discriminator."""
    if not torch.distributed.is_initialized():
        return
    for parameter in parameters:
        assert parameter.grad is not None
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= torch.distributed.get_world_size()
