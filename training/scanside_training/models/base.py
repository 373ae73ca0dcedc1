"""What all models have in common."""

from __future__ import annotations

from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict

from scanside.recon.consistency import Lowering, film_sampling_inputs
from scanside.recon.film_start import Start, film_start

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
