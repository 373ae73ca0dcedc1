"""The frames of a film as a batch of images, which is how 2-D networks and data consistency see them."""

from __future__ import annotations

import torch

from scanside.recon.consistency import Lowering
from scanside_training.models.base import Batch
from scanside_training.models.consistency import NormalOperator

__all__ = ["as_images", "film_operator", "fold", "unfold"]


def fold(film: torch.Tensor) -> torch.Tensor:
    """``(B, channel, time, k1, k0)`` to ``(B · time, channel, k1, k0)``."""
    return film.transpose(1, 2).flatten(0, 1)


def unfold(frames: torch.Tensor, time: int) -> torch.Tensor:
    """``(B · time, channel, k1, k0)`` to ``(B, channel, time, k1, k0)``."""
    return frames.reshape(-1, time, *frames.shape[1:]).transpose(1, 2)


def film_operator(
    lowering: Lowering, maps: torch.Tensor, sampling: tuple[torch.Tensor, ...]
) -> NormalOperator:
    """``Aᴴ A`` of all frames, for images ``(B · time, 2, k1, k0)``.

    Args:
        lowering: how Fourier transforms are computed.
        maps: ``(B, coil, 2, k1, k0)``, the same for all frames.
        sampling: what `scanside.recon.consistency.film_sampling_inputs` makes; also a weighted mean of it over time.
    """
    frames, *shared = sampling
    if len(maps) > 1:  # those of one film serve all of its frames as they are
        maps = maps.unsqueeze(1).expand(-1, frames.shape[1], -1, -1, -1, -1).flatten(0, 1)
    return NormalOperator(lowering, maps, (frames.flatten(0, 1), *shared))


def as_images(output: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, Batch]:
    """What images are judged by, for films: every frame is an image. A batch of images stays as it is.

    Args:
        output: ``(B, channel, time, k1, k0)``.
        batch: ``target`` like the output; maps ``(B, 1, k1, k0)``, such as ``roi``, hold for all frames.

    Returns:
        The output ``(B · time, channel, k1, k0)``, and target, region and weights to match.
    """
    if output.ndim != 5 or batch["target"].shape != output.shape:
        return output, batch
    time = output.shape[2]
    maps: Batch = {
        key: batch[key].repeat_interleave(time, dim=0) for key in ("roi", "weight") if key in batch
    }
    return fold(output), {"target": fold(batch["target"]), **maps}
