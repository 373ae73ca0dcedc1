"""What all networks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from scanside.engines.manifest import Lowering as AnyLowering
from scanside.engines.manifest import Task, TensorSpec
from scanside.engines.parameters import SEQUENCE, Parameter
from scanside.engines.roles import Known, inputs_of, planes
from scanside.recon.columns import ColumnSystem
from scanside.recon.consistency import Lowering
from scanside_training.models.consistency import numbers_of
from scanside_training.plugins import PluginSettings

__all__ = ["Batch", "Body", "ExactForm", "Network", "NetworkConfig", "PartConfig", "known_in"]

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

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The one size ``(k1, k0)`` of images that it takes; None where it takes them of any."""
        return None

    @property
    def takes_lines_alone(self) -> bool:
        """Whether its data consistency is for masks along k1, and none over two phase encodings."""
        return False

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


def known_in(batch: Batch, lowering: AnyLowering, parameters: tuple[Parameter, ...] = ()) -> Known:
    """What is known of a batch of training samples: images and maps are there as networks take them.

    Args:
        batch: samples; numbers of their sequences stand there by their names, ``(B,)`` each.
        lowering: of the network.
        parameters: that it takes.
    """
    made = ("mask", "noise", *SEQUENCE)
    return Known(
        lowering,
        mask=batch.get("mask"),
        noise=batch.get("noise"),
        parameters=parameters,
        sequence={name: batch[name] for name in SEQUENCE if name in batch},
        at_hand={role: one for role, one in batch.items() if role not in made},
    )


class Network(nn.Module):
    """A network with what trainers and exporters need to know of it.

    Args:
        config: its settings.

    Attributes:
        task: ``image`` (image in, image out), ``unrolled`` (image, maps and sampling in, image out) or ``dynamic``
            (either of these for all frames of a film at once).
        n_frames: length of the films that it takes; None where it takes single images.
        lowering: how its data consistency is written; ``none`` where it has none.
        takes_parameters: numbers of the scan that its input ``parameters`` holds, in their order.
        tells_uncertainty: whether it gives, behind the image, the error to be expected of each pixel.
        multiple_of: what the sizes k1 and k0 of the inputs must be multiples of.
        fixed_size: the one size ``(k1, k0)`` of images that it takes; None where it takes them of any.
    """

    task: Task
    n_frames: int | None = None
    lowering: AnyLowering = "none"
    takes_parameters: tuple[Parameter, ...] = ()
    tells_uncertainty: bool = False

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple_of = config.multiple_of
        self.fixed_size = config.fixed_size

    @abstractmethod
    def offered(self) -> tuple[TensorSpec, ...]:
        """What `forward` is called with, in its order; an engine takes of these what the output depends on."""

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What `forward` takes, from a batch of training samples.

        What samples do not hold is made of them as they are: the film that a network begins with, where the task does
        not bring that of the whole film, of which a sample is a part.
        """
        exact = self.exact() if self.lowering == "columns" else None
        known = known_in(batch, self.lowering, self.takes_parameters)
        if exact is not None:
            known = replace(known, exact=partial(exact.solved, batch))
        return inputs_of((spec.name for spec in self.offered()), known)

    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `forward` gives: one tensor, whose channels are those of these, one after the other."""
        axes = self.offered()[0].axes
        image = TensorSpec(name="image", axes=axes)
        if not self.tells_uncertainty:
            return (image,)
        return (image, TensorSpec(name="uncertainty", axes=(axes[0], 1, *axes[2:])))

    def split(self, output: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The image of what `forward` gave, and its other outputs by their names."""
        sizes = [int(spec.axes[1]) for spec in self.outputs()]
        image, *others = torch.split(output, sizes, dim=1)
        names = [spec.name for spec in self.outputs()[1:]]
        return image, dict(zip(names, others, strict=True))

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

    def solved(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Its inputs beside the image, from a batch of training samples: their systems are factorised here."""
        maps, image = numbers_of(batch["maps"]), numbers_of(batch["image"])
        weight = (self.weight * batch["noise"].square()).clamp(*self.limits)
        system = ColumnSystem(maps, batch["mask"][..., 0] > 0, weight)
        support = (batch["maps"].square().sum((1, 2)) > 0).to(batch["maps"]).unsqueeze(1)
        return planes(system.solve(image)), system.kept(), support


class Body(nn.Module):
    """Part of a network that computes in the precision of its weights, and takes and gives float32.

    ``body.to(torch.bfloat16)`` lowers the precision of it and of nothing else.
    """
