"""What all networks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from scanside.engines.manifest import Lowering as AnyLowering
from scanside.engines.manifest import Task, TensorSpec
from scanside.recon.consistency import Lowering, film_sampling_inputs
from scanside.recon.film_start import Start, film_start
from scanside_training.plugins import PluginSettings

__all__ = ["Batch", "Body", "ExactForm", "Network", "NetworkConfig", "PartConfig", "film_inputs"]

Batch = dict[str, torch.Tensor]


class PartConfig(BaseModel):
    """Settings of a part of a network; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkConfig(PluginSettings):
    """Settings of a network; a network of one's own is registered in the entry points ``scanside.networks``."""

    GROUP: ClassVar = "scanside.networks"
    NOUN: ClassVar = "network"

    @property
    @abstractmethod
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of."""

    @abstractmethod
    def build(self) -> Network:
        """The network with fresh weights, from the global random generator of torch."""

    def lowered(self, lowering: Lowering) -> NetworkConfig:
        """The same network with its data consistency written in another way, for which its weights are the same.

        As it is where it has none, or where that is written in one way only.
        """
        return self

    @property
    def unfit(self) -> str | None:
        """Why no engine can be made of such a network, and what to do; None where one can."""
        return None


class Network(nn.Module):
    """A network with what trainers and exporters need to know of it.

    Args:
        config: its settings.

    Attributes:
        task: ``image`` (image in, image out), ``unrolled`` (image, maps and sampling in, image out) or ``dynamic``
            (either of these for all frames of a film at once).
        n_frames: length of the films that it takes; None where it takes single images.
        lowering: how its data consistency is written; ``none`` where it has none.
        multiple_of: what the sizes k1 and k0 of the inputs must be multiples of.
    """

    task: Task
    n_frames: int | None = None
    lowering: AnyLowering = "none"

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple_of = config.multiple_of

    @abstractmethod
    def offered(self) -> tuple[TensorSpec, ...]:
        """What `forward` is called with, in its order; an engine takes of these what the output depends on."""

    @abstractmethod
    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What `forward` takes, from a batch of training samples."""

    def exact(self) -> ExactForm | None:
        """The form whose data consistency is solved exactly, outside of it; None where there is none."""
        return None

    def adopted(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of this network from those that a training is to begin with."""
        return dict(weights)


@dataclass(frozen=True, eq=False)
class ExactForm:
    """A network whose data consistency is solved outside of it (see `scanside.engines.columns`).

    Attributes:
        network: called with the inputs of `scanside.engines.shapes.columns_specs`.
        weight: λ / noise².
        limits: smallest and largest λ.
    """

    network: nn.Module
    weight: float
    limits: tuple[float, float]


class Body(nn.Module):
    """Part of a network that computes in the precision of its weights, and takes and gives float32.

    ``body.to(torch.bfloat16)`` lowers the precision of it and of nothing else.
    """


def film_inputs(lowering: Lowering, batch: Batch, start: Start | None = None) -> tuple[torch.Tensor, ...]:
    """What networks for films with data consistency take: image, maps, noise and the lowering's own inputs.

    Args:
        lowering: of the network.
        batch: of samples. Where they do not hold the film that the network begins with, it is made of them as they
            are: that of a whole film, of which a sample is a part, is a little different.
        start: which film goes in before the lowering's inputs; None for none.
    """
    sampling = film_sampling_inputs(lowering, batch["mask"])
    first = (batch["image"], batch["maps"], batch["noise"].view(-1, 1, 1, 1))
    begun = () if start is None else (batch[start] if start in batch else _begun(batch),)
    return (*first, *begun, *sampling)


def _begun(batch: Batch) -> torch.Tensor:
    """The films that networks begin with, ``(B, 2, time, k1, k0)``."""
    images, maps = (torch.complex(*batch[name].unbind(axis)) for name, axis in (("image", 1), ("maps", 2)))
    masks = batch["mask"][..., 0]
    films = [film_start(*one) for one in zip(images, maps, masks, strict=True)]
    return torch.view_as_real(torch.stack(films)).movedim(-1, 1).contiguous()
