"""The inputs of a network's exact form, from what the engine stage, evaluations and probes have at hand.

The solution of ``argmin ‖A x − y‖² + λ ‖x − z‖²`` is ``(Aᴴ A + λ)⁻¹ Aᴴ y + λ (Aᴴ A + λ)⁻¹ z``. The network knows
neither maps nor mask: it is given the first term (``fitted``) and the matrices in front of z (``kept``, one for each
readout column), which `scanside.recon.columns` makes once for maps, mask and λ.
"""

from __future__ import annotations

import torch

from scanside.engines.manifest import ColumnsForm
from scanside.recon.columns import ColumnSystem, on_grid
from scanside.recon.stacked import StackedMaps

__all__ = ["column_inputs", "column_inputs_of_two", "column_weight"]


def column_weight(form: ColumnsForm, noise: torch.Tensor | float) -> float:
    """λ for a level of noise, within the limits of the training, on the grid of `scanside.recon.columns.on_grid`.

    Args:
        form: that says how noise is weighed.
        noise: standard deviation of its real part in a coil's voxels, on the scale of the image.
    """
    weight = form.weight * float(noise) ** 2
    return on_grid(min(max(weight, form.smallest), form.largest))


def column_inputs(
    image: torch.Tensor, maps: torch.Tensor, system: ColumnSystem
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the network takes beside ``Aᴴ y``.

    Args:
        image: ``(k1, k0)`` complex ``Aᴴ y``, scaled.
        maps: ``(coil, k1, k0)`` complex.
        system: ``Aᴴ A + λ`` of these maps.

    Returns:
        ``fitted`` ``(1, 2, k1, k0)``, ``kept`` ``(1, 2, k0, k1, k1)``, ``support`` ``(1, 1, k1, k0)``.
    """
    return _planes(system.solve(image)), system.kept()[None], _support(maps)


def column_inputs_of_two(
    images: torch.Tensor, maps: StackedMaps, system: ColumnSystem
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the network takes beside ``Aᴴ y`` where there is a second set of maps, which it does not know of.

    The second image is eliminated: of the joint problem, with the same λ for both, the network sees what is left for
    the first one, whose operator is the Schur complement ``N₁₁ − N₁₂ (N₂₂ + λ)⁻¹ N₂₁``. Its ``fitted`` and ``kept``
    are the first part of those of both sets.

    Args:
        images: ``(2, k1, k0)`` complex ``Aᴴ y`` of both sets, scaled.
        maps: both sets.
        system: ``Aᴴ A + λ`` of both.

    Returns:
        As `column_inputs`.
    """
    n1 = images.shape[-2]
    fitted = maps.apart(system.solve(maps.stacked(images)))[0]
    return _planes(fitted), system.kept_of_first(n1)[None], _support(maps.first)


def _support(maps: torch.Tensor) -> torch.Tensor:
    return (maps.abs().square().sum(0) > 0).to(torch.float32)[None, None]


def _planes(image: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(image).movedim(-1, 0).contiguous()[None]
