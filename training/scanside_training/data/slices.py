"""Tasks whose samples are made from slices: the scan's operator given to the network, or an image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scanside.errors import ConfigError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import noise_level
from scanside.recon.resize import crop_or_pad
from scanside.recon.scaling import image_scale
from scanside.recon.sense import cg_sense
from scanside_training.data.appearance import random_appearance
from scanside_training.data.boxes import region_of
from scanside_training.data.calibration import espirit_maps
from scanside_training.data.coils import random_maps
from scanside_training.data.placement import random_pose
from scanside_training.data.sampling import random_mask
from scanside_training.data.simulation import (
    Drawn,
    Sample,
    SimulationConfig,
    TaskConfig,
    complex_of,
    object_of,
    real_pairs,
    some_columns,
    white,
)

__all__ = [
    "ImageTask",
    "ImageToImage",
    "ScannedSlice",
    "UnrolledTask",
    "scan_of",
    "scanned",
    "unrolled_sample",
]


@dataclass(frozen=True)
class ScannedSlice:
    """A slice as an imaginary scanner acquired it, before columns are left out; intensities are the slice's own.

    Attributes:
        hybrid: ``(coil, k1, k0)`` complex, k-space along k1, 0 where nothing was acquired, and image along k0.
        maps: ``(coil, k1, k0)`` complex, those that the network gets.
        mask: ``(k1, 1)``, which lines were acquired.
        target: ``(k1, k0)`` complex, the noise-free coil images combined with the maps.
        noise: standard deviation of the noise's real and imaginary part per coil and voxel.
        marked: ``(k1, k0)`` booleans, what somebody marked in the slice; None where the data have no marks.
    """

    hybrid: Tensor
    maps: Tensor
    mask: Tensor
    target: Tensor
    noise: float
    marked: Tensor | None = None

    @property
    def adjoint(self) -> Tensor:
        """``Aᴴ y``, complex ``(k1, k0)``."""
        return (self.maps.conj() * to_image(self.hybrid, (-2,))).sum(0)


def scanned(pixels: Tensor, drawn: Drawn) -> ScannedSlice:
    """Scan a slice ``(y, x)``, real or complex, of any size; or undersample k-space ``(coil, k1, x)``."""
    config, rng = drawn.config, drawn.rng
    if pixels.ndim == 3:
        return undersampled(pixels, drawn)
    appearing = random_appearance(config.appearance, complex_of(pixels), rng)
    pose = random_pose(config.placement, appearing, drawn.grid, rng)
    scan = scan_of(pose.scan_of(appearing), drawn)
    if drawn.boxes is None:
        return scan
    return replace(scan, marked=pose.region_of(region_of(drawn.boxes, (pixels.shape[-2], pixels.shape[-1]))))


def scan_of(object_: Tensor, drawn: Drawn) -> ScannedSlice:
    """Scan an object that lies in the field of view already, complex ``(k1, k0)``."""
    config, shape, rng, grid = drawn.config, drawn.shape, drawn.rng, drawn.grid
    maps = random_maps(config.coils, drawn.measured, shape.n_coils, grid, rng)
    coils = maps * object_
    noise = float(image_scale(object_)) / math.exp(rng.uniform(*np.log(config.snr)))
    lines, n_acs = random_mask(config.masks, shape.k1, rng)
    mask = torch.from_numpy(lines)[:, None]

    hybrid = to_kspace(coils, (-2,)) * mask
    hybrid[:, lines] += noise * white((shape.n_coils, int(lines.sum()), shape.k0), rng)
    if shape.n_coils > 1 and rng.random() < config.espirit.probability:
        first = shape.k1 // 2 - n_acs // 2
        maps = espirit_maps(config.espirit, to_kspace(hybrid[:, first : first + n_acs], (-1,)), grid)
    return ScannedSlice(hybrid, maps, mask, (maps.conj() * coils).sum(0), noise)


def undersampled(hybrid: Tensor, drawn: Drawn) -> ScannedSlice:
    """Leave lines of a measured scan out; coils, noise and phase stay as they are.

    Lines beyond those that were measured are no lines: they count for no acceleration. Where the matrix is no
    multiple of what networks halve, it is extended by such lines, and columns at the edges are cut off.

    Args:
        hybrid: ``(coil, k1, x)``, k-space along k1, 0 where nothing was measured, and image along the readout.
        drawn: what the sample is drawn from.
    """
    config, rng = drawn.config, drawn.rng
    n1, n0 = hybrid.shape[-2:]
    grid = grid_of(config, n1, n0)
    hybrid = crop_or_pad(hybrid, grid)
    measured = (hybrid != 0).any(dim=0).any(dim=-1)
    lines, n_acs = _some_lines(config, measured, rng)

    coils = to_image(hybrid, (-2,))
    first = grid[0] // 2 - n_acs // 2
    if len(hybrid) > 1:
        acs = to_kspace(hybrid[:, first : first + n_acs], (-1,))
        maps = espirit_maps(config.espirit, acs, grid)
    else:
        maps = torch.ones_like(coils)
    noise = float(noise_level(to_kspace(hybrid, (-1,)), measured))
    marked = None
    if drawn.boxes is not None:
        marked = crop_or_pad(region_of(drawn.boxes, (n1, n0)), grid)
    mask = lines[:, None]
    return ScannedSlice(hybrid * mask, maps, mask, (maps.conj() * coils).sum(0), noise, marked)


def grid_of(config: SimulationConfig, n1: int, n0: int) -> tuple[int, int]:
    """The matrix of samples of a measured scan: lines that nobody measured added, columns at the edges cut off.

    Raises:
        ConfigError: nothing would be left, or less than a sample's columns.
    """
    grid = -(-n1 // config.multiple) * config.multiple, n0 - n0 % config.multiple
    wanted = config.readout_crop or config.multiple
    if grid[1] < wanted:
        raise ConfigError(
            f"a scan with {n0} columns has {grid[1]} of them in multiples of {config.multiple}, and samples are to "
            f"hold {wanted}: lower simulation.readout_crop, or leave the scan out"
        )
    return grid


def _some_lines(config: SimulationConfig, measured: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
    """Lines ``(k1,)`` out of those that were measured, around the centre, and the number of its ACS lines."""
    places = torch.nonzero(measured).flatten()
    first, last = int(places[0]), int(places[-1]) + 1
    drawn, n_acs = random_mask(config.masks, last - first, rng)
    lines = torch.zeros_like(measured)
    # The middle of what was measured need not be that of k-space, around which the ACS lines lie.
    lines[first:last] = torch.from_numpy(drawn).roll(len(measured) // 2 - first - (last - first) // 2)
    return lines & measured, n_acs


def unrolled_sample(
    config: SimulationConfig, scan: ScannedSlice, rng: np.random.Generator
) -> tuple[Sample, slice]:
    """What networks that apply the scan's operator get of a scan, and the columns of the image that it holds."""
    image = scan.adjoint
    columns, scale, common = _common(config, scan, image, rng)
    sample = {
        **common,
        "image": real_pairs(image[:, columns] / scale),
        "target": real_pairs(scan.target[:, columns] / scale),
        "maps": real_pairs(scan.maps[..., columns]),
    }
    return sample, columns


class UnrolledTask(TaskConfig):
    """The network gets ``Aᴴ y``, coil maps and mask, and applies the scan's operator itself."""

    kind: Literal["unrolled"] = "unrolled"

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice."""
        return unrolled_sample(drawn.config, scanned(pixels, drawn), drawn.rng)[0]


class ImageToImage(TaskConfig):
    """What tasks share in which the network gets an image, and puts out an image."""

    input: Literal["zero-filled", "cg-sense"] = "zero-filled"
    """How the image that goes in is made."""
    channels: Literal["magnitude", "complex"] = "magnitude"
    """One channel, or two (real, imaginary)."""
    iterations: int = Field(default=10, ge=1)
    """``cg-sense``: conjugate gradient steps at most."""
    tolerance: float = Field(default=1e-5, gt=0)
    """``cg-sense``: residual at which they stop, as that of the stage ``sense``."""
    l2: float = Field(default=0.002, ge=0)
    """``cg-sense``: Tikhonov weight, relative to the largest eigenvalue of ``Aᴴ A``."""

    @property
    def input_image(self) -> str:
        """What the image that goes in is."""
        return self.input

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice."""
        scan, beside = self.scanned(pixels, drawn)
        scan = self.disturbed(scan, drawn.rng)
        image = self._cg_sense(scan) if self.input == "cg-sense" else scan.adjoint
        columns, scale, common = _common(drawn.config, scan, image, drawn.rng)
        planes = _magnitude if self.channels == "magnitude" else real_pairs
        images = {"image": image, "target": scan.target}
        seen = {role: one[None, :, columns] for role, one in beside.items()}
        return common | seen | {name: planes(one[:, columns] / scale) for name, one in images.items()}

    def scanned(self, pixels: Tensor, drawn: Drawn) -> tuple[ScannedSlice, dict[str, Tensor]]:
        """The scan, and images ``(k1, k0)`` that the network sees beside its own, by their roles."""
        return scanned(pixels, drawn), {}

    def disturbed(self, scan: ScannedSlice, rng: np.random.Generator) -> ScannedSlice:
        """The scan whose image goes in, and its target: as it was acquired."""
        return scan

    def _cg_sense(self, scan: ScannedSlice) -> Tensor:
        result = cg_sense(
            to_kspace(scan.hybrid, (-1,))[:, None],
            scan.maps[:, None],
            scan.mask.mT,
            l2=self.l2,
            tolerance=self.tolerance,
            max_iterations=self.iterations,
        )
        return result.solution[0]


class ImageTask(ImageToImage):
    """The network gets an image, and puts out an image."""

    kind: Literal["image"] = "image"


def _common(
    config: SimulationConfig, scan: ScannedSlice, image: Tensor, rng: np.random.Generator
) -> tuple[slice, Tensor, Sample]:
    """Columns of a sample, the scale of its intensities, and what samples of all tasks hold."""
    scale = image_scale(image)
    roi = object_of(scan.target)
    columns = some_columns(config.readout_crop, roi, rng)
    common = {
        "mask": scan.mask.float(),
        "roi": roi[None, :, columns].float(),
        "scale": scale,
        "noise": scan.noise / scale,
    }
    if scan.marked is not None:
        common["marked"] = scan.marked[None, :, columns].float()
    return columns, scale, common


def _magnitude(values: Tensor) -> Tensor:
    """``(1, k1, k0)``."""
    return values.abs()[None]
