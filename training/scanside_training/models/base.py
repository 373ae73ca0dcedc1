"""What all models have in common."""

from __future__ import annotations

from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict

from scanside.recon.consistency import Lowering, film_sampling_inputs

__all__ = ["Batch", "Model", "ModelConfig", "film_inputs"]

Batch = dict[str, torch.Tensor]


class ModelConfig(BaseModel):
    """Settings of a model; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(Protocol):
    """A network with the little that trainers and exporters need to know of it.

    Attributes:
        task: ``image`` (image in, image out), ``unrolled`` (image, maps and sampling in, image out) or ``dynamic``
            (the same for all frames of a film at once; its networks have `n_frames` too).
        multiple_of: what the sizes k1 and k0 of the inputs must be multiples of.
    """

    task: str
    multiple_of: int

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What ``forward`` takes, from a batch of training samples."""
        ...


def film_inputs(lowering: Lowering, batch: Batch) -> tuple[torch.Tensor, ...]:
    """What networks for films with data consistency take: image, maps, noise and the lowering's own inputs."""
    sampling = film_sampling_inputs(lowering, batch["mask"])
    return (batch["image"], batch["maps"], batch["noise"].view(-1, 1, 1, 1), *sampling)
