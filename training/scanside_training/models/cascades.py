"""Unrolled networks whose data consistency is solved exactly, outside of them, for masks along k1.

``argmin ‖A x − y‖² + λ ‖x − z‖²`` is ``(Aᴴ A + λ)⁻¹ Aᴴ y + λ (Aᴴ A + λ)⁻¹ z``: what the data say, and what they leave
of the network's image z. Both depend on the scan alone: they are inputs (`scanside.engines.columns`), and of data
consistency a matrix product for each column of the image is left. Coils go into them through ``Σ_c conj(S_c) S_cᵀ``
alone, so that one network serves any number of coils.
"""

from __future__ import annotations

import torch
from torch import nn

from scanside_training.models.consistency import apply_to_columns

__all__ = ["ExactCascades", "exact_cascades"]


def exact_cascades(
    networks: nn.ModuleList,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    n_cascades: int,
    memory_channels: int,
    *,
    openness: bool,
) -> torch.Tensor:
    """Networks and exact data consistency in turn.

    Args:
        networks: one for all cascades, or one for each.
        inputs: ``Aᴴ y`` ``(B, 2, k1, k0)``, scaled; ``(Aᴴ A + λ)⁻¹ Aᴴ y``, likewise; real and imaginary part of
            ``λ (Aᴴ A + λ)⁻¹`` for each column ``(B, 2, k0, k1, k1)``; ``(B, 1, k1, k0)``, 1 where any coil sees
            something, else 0.
        n_cascades: how often they alternate.
        memory_channels: that pass from cascade to cascade.
        openness: whether the networks see how much of each voxel the data leave open.

    Returns:
        ``(B, 2, k1, k0)`` float32.
    """
    image, fitted, kept, support = inputs
    x, change = fitted, image
    memory = x.new_zeros(x.shape[0], memory_channels, *x.shape[2:])
    more: tuple[torch.Tensor, ...] = ()
    if openness:
        level = _level(fitted, support)
        more = (level * _openness(kept) * support,)
        support = support * level.sign()  # of nothing there is no image
    for cascade in range(n_cascades):
        network = networks[cascade % len(networks)]
        wanted, memory = network(x, change, memory, *more)
        x = fitted + apply_to_columns(kept, wanted)
        change = x - wanted
    return x * support


class ExactCascades(nn.Module):
    """The exact form of a network that is trained with its data consistency solved in steps.

    Args:
        networks: of it.
        log_weights: of it; not used, as λ is in the inputs, but then names are those of the weights' file.
        n_cascades: how often networks and data consistency alternate.
        memory: channels that pass from cascade to cascade.
    """

    def __init__(
        self, networks: nn.ModuleList, log_weights: nn.Parameter, n_cascades: int, memory: int
    ) -> None:
        super().__init__()
        self.networks, self.log_weights = networks, log_weights
        self._n_cascades, self._memory = n_cascades, memory

    def forward(
        self, image: torch.Tensor, fitted: torch.Tensor, kept: torch.Tensor, support: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct, from the inputs of `exact_cascades`."""
        inputs = (image, fitted, kept, support)
        return exact_cascades(self.networks, inputs, self._n_cascades, self._memory, openness=False)


def _level(image: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Root of the mean square of an image where coils see something, ``(B, 1, 1, 1)``.

    What networks see of the openness is on the scale of the image.
    """
    # Sums alone: in ONNX the axes of a mean are computed, and parsers want constants.
    energy, pixels = (one.sum((1, 2, 3), keepdim=True) for one in (image.square(), support))
    return (energy / pixels.clamp_min(1)).sqrt()


def _openness(kept: torch.Tensor) -> torch.Tensor:
    """``(B, 1, k1, k0)``: 0 where the data say all, 1 where they say nothing."""
    rows = torch.arange(kept.shape[-1], device=kept.device)
    share = (kept[:, 0] * (rows[:, None] == rows)).sum(-1)  # the diagonal, which OpenVINO does not have
    return share.mT.unsqueeze(1).clamp_min(0).sqrt()
