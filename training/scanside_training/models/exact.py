"""Unrolled networks whose data consistency is solved exactly, outside of them, for masks along k1.

``argmin ‖A x − y‖² + λ ‖x − z‖²`` is ``(Aᴴ A + λ)⁻¹ Aᴴ y + λ (Aᴴ A + λ)⁻¹ z``: what the data say, and what they leave
of the network's image z. Both depend on the scan alone: they are inputs (`scanside.engines.columns`), and of data
consistency a matrix product for each column of the image is left. Coils go into them through ``Σ_c conj(S_c) S_cᵀ``
alone, so that one network serves any number of coils.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from scanside.errors import ConfigError
from scanside.recon.columns import ColumnSystem
from scanside_training.models.base import Batch
from scanside_training.models.consistency import apply_to_columns, numbers_of
from scanside_training.models.rules import ProximalConfig
from scanside_training.models.unrolled import CascadesConfig, Unrolled

__all__ = ["Exact", "ExactConfig", "ExactUnrolled"]


WEIGHT_LIMITS = (5e-4, 1.0)
"""Smallest and largest λ: below, rounding of fp32 tells in exact solutions; above, the data hardly count."""


class _Cascades(nn.Module):
    """Networks and exact data consistency in turn.

    Args:
        networks: one for all cascades, or one for each.
        n_cascades: how often they alternate.
        memory: channels that pass from cascade to cascade.
        openness: whether the networks see how much of each voxel the data leave open.
    """

    def __init__(self, networks: nn.ModuleList, n_cascades: int, memory: int, *, openness: bool) -> None:
        super().__init__()
        self.networks = networks
        self._n_cascades, self._memory, self._openness = n_cascades, memory, openness

    def forward(
        self, image: torch.Tensor, fitted: torch.Tensor, kept: torch.Tensor, support: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, k1, k0)`` ``Aᴴ y``, scaled.
            fitted: ``(B, 2, k1, k0)`` ``(Aᴴ A + λ)⁻¹ Aᴴ y``.
            kept: ``(B, 2, k0, k1, k1)`` real and imaginary part of ``λ (Aᴴ A + λ)⁻¹`` for each column.
            support: ``(B, 1, k1, k0)``, 1 where any coil sees something, else 0.

        Returns:
            ``(B, 2, k1, k0)`` float32.
        """
        x, change = fitted, image
        memory = x.new_zeros(x.shape[0], self._memory, *x.shape[2:])
        more: tuple[torch.Tensor, ...] = ()
        if self._openness:
            level = _level(fitted, support)
            more = (level * _openness(kept) * support,)
            support = support * level.sign()  # of nothing there is no image
        for cascade in range(self._n_cascades):
            network = self.networks[cascade % len(self.networks)]
            wanted, memory = network(x, change, memory, *more)
            x = fitted + apply_to_columns(kept, wanted)
            change = x - wanted
        return x * support


class ExactUnrolled(_Cascades):
    """The exact form of a trained `Unrolled`: what its steps converge to, and what training does
    (`scanside_training.models.consistency.ProximalSolver`).

    Args:
        network: with given maps and conjugate gradients; parameters are shared, under the same names.

    Raises:
        ConfigError: it estimates its maps, or has another rule of data consistency.
    """

    def __init__(self, network: Unrolled) -> None:
        config = network.config
        if config.sensitivities is not None or not isinstance(config.consistency, ProximalConfig):
            raise ConfigError(
                "only unrolled networks with given maps and data consistency by conjugate gradients "
                f"(consistency.kind 'cg') have an exact form, not '{config.consistency.kind}'"
                + ("" if config.sensitivities is None else " with maps of their own")
            )
        super().__init__(network.networks, config.n_cascades, config.memory, openness=False)
        self.config = config
        self.multiple_of = network.multiple_of
        # Not used: λ is in the inputs. With it the names are those of the weights' file.
        self.log_weights = network.log_weights


class ExactConfig(CascadesConfig):
    """Multi-coil reconstruction with exact data consistency, for masks along k1.

    Attributes:
        weight: λ / noise² of data consistency, 1 / the squared error that the network's image is thought to have.
    """

    kind: Literal["exact"] = "exact"
    memory: int = Field(4, ge=0)
    weight: float = Field(40.0, gt=0)

    def build(self) -> Exact:
        """The network with fresh weights."""
        return Exact(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)


class Exact(_Cascades):
    """Task ``unrolled``; its networks see, beside the image, how much of each voxel the data leave open.

    Where many coils and lines leave nothing open, data consistency lets nothing of a correction through.
    """

    task = "unrolled"

    def __init__(self, config: ExactConfig) -> None:
        super().__init__(config.networks(more=1), config.n_cascades, config.memory, openness=True)
        self.config = config
        self.multiple_of = config.multiple_of

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

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What `forward` takes, from a batch of training samples: their systems are factorised here."""
        maps, image = numbers_of(batch["maps"]), numbers_of(batch["image"])
        weight = (self.config.weight * batch["noise"].square()).clamp(*WEIGHT_LIMITS)
        system = ColumnSystem(maps, batch["mask"][..., 0] > 0, weight)
        fitted = torch.view_as_real(system.solve(image)).movedim(-1, 1).contiguous()
        support = (batch["maps"].square().sum((1, 2)) > 0).to(fitted).unsqueeze(1)
        return batch["image"], fitted, system.kept(), support


def _level(image: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Root of the mean square of an image where coils see something, ``(B, 1, 1, 1)``.

    What networks see of the openness is on the scale of the image.
    """
    # Sums alone: in ONNX the axes of a mean are computed, and parsers want constants.
    energy, pixels = (one.sum((1, 2, 3), keepdim=True) for one in (image.square(), support))
    return (energy / pixels.clamp_min(1)).sqrt()


def _openness(kept: torch.Tensor) -> torch.Tensor:
    """``(B, 1, k1, k0)``: 0 where the data say all, 1 where they say nothing."""
    share = torch.diagonal(kept[:, 0], dim1=-2, dim2=-1)
    return share.mT.unsqueeze(1).clamp_min(0).sqrt()
