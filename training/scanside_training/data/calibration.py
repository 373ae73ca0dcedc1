"""Coil maps from simulated calibration lines, quick enough to be made for every training sample."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from scanside.recon.coil_maps import virtual_coil, zero_phase_in
from scanside.recon.espirit import espirit
from scanside_training.data.resample import cubic
from scanside_training.data.settings import Probability, Settings

__all__ = ["EspiritConfig", "coarse_maps", "espirit_maps", "on_grid", "reference_coil", "refined"]


class EspiritConfig(Settings):
    """Coil maps as a network gets them at the scanner: by ESPIRiT from noisy calibration lines."""

    probability: Probability = 0.7
    """How often; otherwise the network gets the true maps."""
    kernel: int = Field(default=6, ge=2)
    """Edge of a patch in samples."""
    calibration: int = Field(default=24, ge=2)
    """Longest edge of the block that is used, in samples."""
    threshold: float = Field(default=0.0316, ge=0, lt=1)
    """Singular values below this part of the largest belong to the null space."""
    crop: float = Field(default=0.8, ge=0, le=1)
    """Maps are 0 where the eigenvalue lies below, as at the scanner: what lies there is in neither image nor target.
    On simulated scans 0.8 takes less than 0.3 % of the energy and 0.1 % of the pixels of the object."""
    spacing: float = Field(default=4.0, ge=1)
    """Pixels between the points at which maps are computed; they are interpolated in between."""
    kept_gb: float = Field(default=20.0, ge=0)
    """What maps of measured scans may take on the disk, below ``$SCANSIDE_CACHE``, once they are estimated; with 0
    none are kept."""
    widths: int = Field(default=4, ge=1)
    """Of measured scans in training: from so many widths of the ACS block at most maps are estimated, so that those
    that are kept serve again. The others are cut to the next narrower one, as if so few lines had been acquired.
    Validation and test take every line."""

    def lines_of(self, n_acs: int, fewest: int, most: int) -> int:
        """How many of the ACS lines maps of a measured scan are estimated from, in training.

        Args:
            n_acs: lines of the block.
            fewest: the least that masks draw.
            most: the most that they draw.
        """
        drawn = max(most, fewest) + 1 - fewest
        taken = (fewest + step * drawn // self.widths for step in range(self.widths))
        return min(max(width for width in taken if width <= max(n_acs, fewest)), self.calibration)


def espirit_maps(config: EspiritConfig, acs: Tensor, shape: tuple[int, int]) -> Tensor:
    """Maps by ESPIRiT on a coarse grid, interpolated.

    Args:
        config: its parameters.
        acs: complex64 ``(coil, k1, k0)``, a block of k-space without gaps.
        shape: pixels (y, x) of the maps.

    Returns:
        ``(coil, y, x)`` with ``Σ_coil |map|² = 1``, or 0 where there is no object. Their phase is such that the
        principal component of the coils has zero phase, as `scanside.recon.espirit` has it.

    Raises:
        CalibrationError: the block is too small for the kernel.
    """
    return refined(coarse_maps(config, acs, shape), reference_coil(config, acs), shape)


def coarse_maps(config: EspiritConfig, acs: Tensor, shape: tuple[int, int]) -> Tensor:
    """The maps of `espirit_maps` before they are `refined`: the dear part of it.

    Returns:
        ``(coil, y, x)``, one point for every ``config.spacing`` pixels.
    """
    few = math.ceil(shape[0] / config.spacing), math.ceil(shape[1] / config.spacing)
    return espirit(
        acs[:, None],
        (1, *few),
        kernel=config.kernel,
        calibration=config.calibration,
        threshold=config.threshold,
        crop=config.crop,
    )[:, 0]


def reference_coil(config: EspiritConfig, acs: Tensor) -> Tensor:
    """The virtual coil ``(coil,)`` that sees the maps of a block ``(coil, k1, k0)`` with zero phase."""
    return virtual_coil(_middle(acs[:, None], config.calibration)).flatten()


def refined(coarse: Tensor, virtual: Tensor, shape: tuple[int, int], rows: slice | None = None) -> Tensor:
    """`coarse_maps` on the pixels of the image.

    Args:
        coarse: the maps.
        virtual: the block's `reference_coil`.
        shape: pixels (y, x) of the image.
        rows: those along y that are wanted; all by default.
    """
    maps = on_grid(coarse, shape, rows)
    # Interpolation turns phases where they vary fast; the convention is restored pixel by pixel.
    return zero_phase_in(virtual[:, None, None, None], maps[:, None])[:, 0]


def on_grid(maps: Tensor, shape: tuple[int, int], rows: slice | None = None) -> Tensor:
    """Maps on another grid over the same field of view, interpolated and normalised again.

    Args:
        maps: ``(coil, y, x)``, ``Σ_coil |map|² = 1`` or 0.
        shape: pixels (y, x) of that grid.
        rows: those along y that are wanted; all by default.
    """
    # Voxel N//2 is the centre of the field of view on both grids.
    y, x = (
        (torch.arange(n) - n // 2) * (n_before / n) + n_before // 2
        for n, n_before in zip(shape, maps.shape[-2:], strict=True)
    )
    maps = cubic(maps, y if rows is None else y[rows], x)
    power = (maps.real.square() + maps.imag.square()).sum(0)
    # Half of the norm is left midway between a point that has maps and one that has none.
    return maps * torch.where(power > 0.25, power.clamp_min(0.25).rsqrt(), 0.0)


def _middle(block: Tensor, longest: int) -> Tensor:
    for axis in (-2, -1):
        n = min(block.shape[axis], longest)
        block = block.narrow(axis, block.shape[axis] // 2 - n // 2, n)
    return block
