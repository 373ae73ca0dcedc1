"""How noise spreads through linear reconstructions: its standard deviation in each voxel, and the g-factor.

The acquired samples are taken to be prewhitened: independent, with a variance of 1 in the real and in the imaginary
part, in the scaling of an orthonormal Fourier transform.

Kellman, McVeigh, *Image reconstruction in SNR units*, MRM 54:1439 (2005). Pruessmann et al., *SENSE: sensitivity
encoding for fast MRI*, MRM 42:952 (1999). Breuer et al., *General formulation for quantitative g-factor calculation
in GRAPPA reconstructions*, MRM 62:739 (2009).
"""

from __future__ import annotations

import math

import torch

from scanside.errors import ShapeError
from scanside.recon import grappa
from scanside.recon.columns import ColumnSystem

__all__ = ["g_factor", "grappa_deviation", "matched_deviation", "sense_deviation"]


def g_factor(deviation: torch.Tensor, maps: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """How much more noise an image has than undersampling alone explains.

    That is ``σ / (σ_full √R)``, with the deviation ``σ_full`` of the matched filter on all lines of the smallest
    rectangle around the acquired ones, of which there are R times as many: lines beyond it hold no noise, as in
    partial Fourier.

    Args:
        deviation: ``(z, y, x)``, σ.
        maps: ``(coil, z, y, x)`` coil sensitivities.
        sampled: ``(k2, k1)`` bool, which lines were acquired.

    Returns:
        ``(z, y, x)``, zero where no coil sees anything.
    """
    n_lines, n_acquired = sampled.numel(), int(sampled.sum())
    n_around = (
        math.prod(int(lines.max() - lines.min()) + 1 for lines in sampled.nonzero().T) if n_acquired else 1
    )
    power = (maps.real.square() + maps.imag.square()).sum(-4)
    return deviation * (power * (n_lines * n_acquired)).sqrt() / n_around


def matched_deviation(maps: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Standard deviation of the real part of the matched filter's image, of lines of which none were filled.

    Args:
        maps: ``(coil, z, y, x)`` coil sensitivities.
        sampled: ``(k2, k1)`` bool, which lines were acquired.

    Returns:
        ``(z, y, x)``, zero where no coil sees anything.
    """
    power = (maps.real.square() + maps.imag.square()).sum(-4)
    return torch.where(
        power > 0, sampled.sum() / sampled.numel() / torch.where(power > 0, power, 1), 0
    ).sqrt()


def sense_deviation(system: ColumnSystem) -> torch.Tensor:
    """Standard deviation of a SENSE image's real part: exact, its regularisation included.

    With ``K = λ (N + λ)⁻¹`` the covariance ``(N + λ)⁻¹ N (N + λ)⁻¹`` of the solution is ``(K - K²) / λ``.

    Args:
        system: of the image's maps, lines and weight λ.

    Returns:
        ``(*other, 1, y, x)``, zero where no coil sees anything.
    """
    kept = system.kept()
    diagonal = kept.select(-4, 0).diagonal(dim1=-2, dim2=-1)
    squares = kept.square().sum(-1).sum(-3)
    variance = (diagonal - squares).clamp_min(0) / system.weight[..., None, None]
    return variance.sqrt().mT.unsqueeze(-3)


def grappa_deviation(
    weights: grappa.GrappaWeights, sampled: torch.Tensor, maps: torch.Tensor
) -> torch.Tensor:
    """Standard deviation of the real part of a GRAPPA image that was combined by the matched filter.

    Every acquired line gives its noise to its own place in k-space and, through the weights, to the filled lines
    around it. Lines whose neighbours were filled alike spread it alike, and are computed together; so acquired
    calibration lines and the ends of the band count as what they are.

    Args:
        weights: of one image, ``values`` being ``(target, source)``.
        sampled: ``(k2, k1)`` bool, which lines were acquired.
        maps: ``(coil, z, y, x)`` coil sensitivities.

    Returns:
        ``(z, y, x)``, zero where no coil sees anything.

    Raises:
        ShapeError: weights, lines and maps do not fit, or the lines do not form a regular lattice.
    """
    n_coils, n2, n1, n0 = maps.shape
    if weights.values.ndim != 2 or weights.n_coils != n_coils or sampled.shape != (n2, n1):
        raise ShapeError(
            f"GRAPPA weights {tuple(weights.values.shape)} for {weights.n_coils} coils and a mask "
            f"{tuple(sampled.shape)} do not fit coil maps {tuple(maps.shape)}: expected (target, source), (k2, k1) "
            "and (coil, z, y, x)"
        )
    offsets, kernels = grappa.kernels_by_offset(
        weights
    )  # (offset, 2) and (offset, target coil, source coil, k0)
    patterns, counts = _patterns(*grappa.sources_and_filled(weights, sampled), offsets)
    patterns = torch.cat((patterns, torch.zeros_like(patterns[:1])))
    counts = torch.cat((counts, sampled.sum()[None] - counts.sum()))  # calibration lines beside the lattice

    power = (maps.real.square() + maps.imag.square()).sum(0)
    matched = maps.conj() / torch.where(power > 0, power, 1)
    z, y, x = (torch.arange(n, device=maps.device) - n // 2 for n in (n2, n1, n0))
    turns = offsets[:, 0, None, None] * z[:, None] / n2 + offsets[:, 1, None, None] * y / n1
    ramps = torch.exp(2j * torch.pi * turns.double()).to(maps)
    w0 = kernels.shape[-1]
    shifts = torch.arange(w0, device=maps.device) - w0 // 2
    along_x = torch.exp(-2j * torch.pi * (x[:, None] * shifts).double() / n0).to(maps)

    variance = maps.real.new_zeros(n2, n1, n0)
    patterns = patterns.to(maps)
    for column in range(n0):
        here = matched[..., column]
        mixing = kernels @ along_x[column]  # (offset, target coil, source coil)
        spread = torch.einsum("tzy,ots->oszy", here, mixing) * ramps[:, None]
        whole = here + torch.einsum("po,oszy->pszy", patterns, spread)
        energy = (whole.real.square() + whole.imag.square()).sum(1)
        variance[..., column] = torch.einsum("p,pzy->zy", counts.to(energy), energy)
    return (variance / (n1 * n2)).sqrt()


def _patterns(
    sources: torch.Tensor, filled: torch.Tensor, offsets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What lines that are read have around them: ``(pattern, offset)``, which lines were filled; and their number."""
    targets = sources.nonzero()[:, None] + offsets.to(sources.device)
    inside = ((targets >= 0) & (targets < torch.tensor(filled.shape, device=targets.device))).all(-1)
    k2, k1 = (targets * inside[..., None]).unbind(-1)
    around = filled[k2, k1] & inside
    patterns, counts = torch.unique(around, dim=0, return_counts=True)
    return patterns, counts
