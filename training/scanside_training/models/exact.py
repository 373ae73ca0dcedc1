"""Unrolled networks that are trained with exact data consistency alone (`scanside_training.models.cascades`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field

from scanside.engines.manifest import TensorSpec
from scanside.engines.shapes import columns_specs
from scanside_training.models.base import ExactForm, Network
from scanside_training.models.cascades import exact_cascades
from scanside_training.models.unrolled import CascadesConfig

__all__ = ["Exact", "ExactConfig"]


WEIGHT_LIMITS = (5e-4, 1.0)
"""Smallest and largest λ: below, rounding of fp32 tells in exact solutions; above, the data hardly count."""


class ExactConfig(CascadesConfig):
    """Multi-coil reconstruction with exact data consistency, for masks along k1.

    Attributes:
        weight: λ / noise² of data consistency, 1 / the squared error that the network's image is thought to have.
    """

    kind: Literal["exact"] = "exact"
    memory: int = Field(4, ge=0)
    weight: float = Field(40.0, gt=0)

    @property
    def takes_lines_alone(self) -> bool:
        """Columns of the image have nothing to do with each other where whole lines are acquired, and only there."""
        return True

    def build(self) -> Exact:
        """The network with fresh weights."""
        return Exact(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)


class Exact(Network):
    """Task ``unrolled``; its networks see, beside the image, how much of each voxel the data leave open.

    Where many coils and lines leave nothing open, data consistency lets nothing of a correction through.
    """

    task = "unrolled"
    lowering = "columns"
    config: ExactConfig

    def __init__(self, config: ExactConfig) -> None:
        super().__init__(config)
        self.networks = config.networks(more=1)

    def adopted(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of this network from those of an `Unrolled` one of the same size.

        What its networks do not see, how much the data leave open, counts for nothing at first, so that training goes
        on from the other's exact form, with a λ / noise² that is now fixed. Weights of its own kind stay as they are.
        """
        adopted = {name: tensor for name, tensor in weights.items() if name != "log_weights"}
        for name, own in self.state_dict().items():
            other = adopted.get(name)
            if other is not None and other.ndim > 1 and other.shape[1] == own.shape[1] - 1:
                adopted[name] = torch.cat((other, torch.zeros_like(other[:, :1])), dim=1)
        return adopted

    def offered(self) -> tuple[TensorSpec, ...]:
        """What its data consistency needs ready made."""
        return columns_specs()

    def exact(self) -> ExactForm:
        """Itself."""
        return ExactForm(self, self.config.weight, WEIGHT_LIMITS)

    def forward(
        self, image: torch.Tensor, fitted: torch.Tensor, kept: torch.Tensor, support: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct, from the inputs of `scanside_training.models.cascades.exact_cascades`."""
        config, inputs = self.config, (image, fitted, kept, support)
        return exact_cascades(self.networks, inputs, config.n_cascades, config.memory, openness=True)
