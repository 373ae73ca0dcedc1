"""What all models have in common."""

from __future__ import annotations

from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict

__all__ = ["Batch", "Model", "ModelConfig"]

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
