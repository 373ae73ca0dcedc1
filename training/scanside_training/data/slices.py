"""Tasks whose samples are made from slices: the scan's operator given to the network, or an image alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scanside.errors import ConfigError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import level_of, noise_level
from scanside.recon.resize import crop_or_pad
from scanside.recon.scaling import image_scale
from scanside.recon.sense import cg_sense
from scanside_training.data.appearance import random_appearance
from scanside_training.data.boxes import region_of
from scanside_training.data.calibration import coarse_maps, espirit_maps, on_grid, refined
from scanside_training.data.coils import random_maps
from scanside_training.data.kept_maps import Calibration
from scanside_training.data.placement import random_pose
from scanside_training.data.sampling import random_mask, random_plane_mask
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
    "combined",
    "encoded",
    "grid_of",
    "measured_shape",
    "outermost",
    "scan_of",
    "scanned",
    "undersampled_plane",
    "unrolled_sample",
]

_OUTERMOST = 1 / 16


@dataclass(frozen=True)
class ScannedSlice:
    """A slice as an imaginary scanner acquired it, before columns are left out; intensities are the slice's own.

    Attributes:
        hybrid: ``(coil, k1, k0)`` complex, k-space along k1, 0 where nothing was acquired, and image along k0; where
            the mask is over both axes, k-space along both.
        maps: ``(coil, k1, k0)`` complex, those that the network gets.
        mask: ``(k1, 1)``, which lines were acquired, or ``(k1, k0)``, which samples of two phase encodings were.
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
        return combined(to_image(self.hybrid, encoded(self.mask)), self.maps)

    @property
    def kspace(self) -> Tensor:
        """``y``, complex ``(coil, k1, k0)``, k-space along both axes."""
        return self.hybrid if len(encoded(self.mask)) == 2 else to_kspace(self.hybrid, (-1,))


def combined(coils: Tensor, maps: Tensor) -> Tensor:
    """``Σ_coil conj(map) · image_coil``: from ``(coil, k1, k0)`` twice to ``(k1, k0)``."""
    return (maps.conj() * coils).sum(0)


def encoded(mask: Tensor) -> tuple[int, ...]:
    """The axes along which a mask ``(k1, 1 or k0)`` leaves something out."""
    return (-2,) if mask.shape[-1] == 1 else (-2, -1)


def scanned(pixels: Tensor, drawn: Drawn) -> ScannedSlice:
    """Scan a slice ``(y, x)``, real or complex, of any size; or undersample k-space that was measured.

    That is ``(coil, k1, x)`` where masks are of lines; ``(coil, k1, k0)``, or ``(2, coil, k1, k0)`` with coil maps,
    where they are over two phase encodings.
    """
    config, rng = drawn.config, drawn.rng
    if pixels.ndim > 2:
        return (
            undersampled(pixels, drawn) if config.masks.plane is None else undersampled_plane(pixels, drawn)
        )
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
    if config.masks.plane is None:
        acquired, n_acs = random_mask(config.masks, shape.k1, rng)
        mask, block = torch.from_numpy(acquired)[:, None], (n_acs, shape.k0)
    else:
        acquired, block = random_plane_mask(config.masks.plane, grid, rng)
        mask = torch.from_numpy(acquired)

    hybrid = to_kspace(coils, encoded(mask)) * mask
    hybrid[:, acquired] += noise * white(tuple(hybrid[:, acquired].shape), rng)
    if shape.n_coils > 1 and rng.random() < config.espirit.probability:
        central = crop_or_pad(hybrid, block)
        acs = central if config.masks.plane is not None else to_kspace(central, (-1,))
        maps = espirit_maps(config.espirit, acs, grid)
    return ScannedSlice(hybrid, maps, mask, combined(coils, maps), noise)


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
    measured = torch.from_numpy(hybrid.numpy().any((0, 2)))
    lines, n_acs = _some_lines(config, measured, rng)

    acs = to_kspace(crop_or_pad(hybrid, (n_acs, grid[1])), (-1,))
    maps, noise = _calibrated(drawn, acs, grid, lambda: noise_level(to_kspace(hybrid, (-1,)), measured))
    coils = to_image(hybrid, (-2,))
    marked = None
    if drawn.boxes is not None:
        marked = crop_or_pad(region_of(drawn.boxes, (n1, n0)), grid)
    mask = lines[:, None]
    return ScannedSlice(hybrid * mask, maps, mask, combined(coils, maps), noise, marked)


def undersampled_plane(pixels: Tensor, drawn: Drawn) -> ScannedSlice:
    """Leave samples of a slice with two measured phase encodings out, as `undersampled` leaves lines out.

    Where the matrix is no multiple of what networks halve, it is extended along both axes by samples that nobody
    measured.

    Args:
        pixels: ``(coil, k1, k0)``, k-space, 0 where nothing was measured; ``(2, coil, k1, k0)`` with coil maps.
        drawn: what the sample is drawn from.

    Raises:
        ConfigError: nothing was measured.
    """
    config, rng = drawn.config, drawn.rng
    kspace, given = (pixels, None) if pixels.ndim == 3 else pixels
    grid = grid_of(config, kspace.shape[-2], kspace.shape[-1])
    kspace = crop_or_pad(kspace, grid)
    measured = torch.from_numpy(kspace.numpy().any(0))
    assert config.masks.plane is not None
    acquired, block = random_plane_mask(config.masks.plane, grid, rng, measured.numpy())

    def noise() -> Tensor:
        return level_of(kspace[:, outermost(measured)])

    if given is None:
        maps, level = _calibrated(drawn, crop_or_pad(kspace, block), grid, noise)
    else:
        maps, level = on_grid(given, grid), float(noise())
    mask = torch.from_numpy(acquired)
    marked = None if drawn.boxes is None else torch.zeros(grid, dtype=torch.bool)
    return ScannedSlice(kspace * mask, maps, mask, combined(to_image(kspace), maps), level, marked)


def outermost(measured: Tensor) -> Tensor:
    """The sixteenth of the samples of a plane ``(k1, k0)`` that lie farthest from the centre, relative to its extent.

    As `scanside.recon.noise_level` has it of readouts: there is hardly any signal.
    """
    places = torch.nonzero(measured)
    distance = (places - torch.tensor(measured.shape) // 2).abs() / (torch.tensor(measured.shape) / 2)
    n = math.ceil(_OUTERMOST * len(places))
    chosen = places[torch.linalg.vector_norm(distance, dim=1).argsort(descending=True, stable=True)[:n]]
    found = torch.zeros_like(measured)
    found[chosen[:, 0], chosen[:, 1]] = True
    return found


def _calibrated(
    drawn: Drawn, acs: Tensor, grid: tuple[int, int], noise: Callable[[], Tensor]
) -> tuple[Tensor, float]:
    """Coil maps ``(coil, *grid)`` from a measured scan's calibration lines, and its noise; dear parts may be kept."""
    config = drawn.config.espirit
    if len(acs) == 1:
        return torch.ones(1, *grid, dtype=acs.dtype), float(noise())

    def estimate() -> Calibration:
        return Calibration(coarse_maps(config, acs, grid), float(noise()))

    if drawn.kept is None:
        found = estimate()
    else:
        # ESPIRiT takes no more lines than these: all that differs between the masks of a scan.
        lines = [min(n, config.calibration) for n in acs.shape[-2:]]
        settings = config.model_dump(mode="json", exclude={"probability", "kept_gb"})
        found = drawn.kept.get({"espirit": settings, "calibration": lines, "grid": grid}, estimate)
    return refined(config, found.maps, acs, grid), found.noise


def measured_shape(config: SimulationConfig, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(coil, k1, k0) of the samples of a measured scan ``(*, coil, k1, k0)``.

    Raises:
        ConfigError: as `grid_of`.
    """
    n_coils, n1, n0 = shape[-3:]
    grid = grid_of(config, n1, n0)
    return n_coils, grid[0], config.readout_crop or grid[1]


def grid_of(config: SimulationConfig, n1: int, n0: int) -> tuple[int, int]:
    """The matrix of samples of a measured scan: lines that nobody measured added, columns at the edges cut off.

    Of two phase encodings no column is cut off, and both are extended.

    Raises:
        ConfigError: nothing would be left, or less than a sample's columns.
    """
    n1 = -(-n1 // config.multiple) * config.multiple
    if config.masks.plane is not None:
        return n1, -(-n0 // config.multiple) * config.multiple
    grid = n1, n0 - n0 % config.multiple
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

    takes_plane_masks: ClassVar = True

    kind: Literal["unrolled"] = "unrolled"

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice."""
        return unrolled_sample(drawn.config, scanned(pixels, drawn), drawn.rng)[0]


class ImageToImage(TaskConfig):
    """What tasks share in which the network gets an image, and puts out an image."""

    takes_plane_masks: ClassVar = True

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
        # Of two phase encodings the solver is told as of a volume with one sample along its readout.
        planes = len(encoded(scan.mask)) == 2
        kspace, maps = (one[..., None] if planes else one[:, None] for one in (scan.kspace, scan.maps))
        result = cg_sense(
            kspace,
            maps,
            scan.mask if planes else scan.mask.mT,
            l2=self.l2,
            tolerance=self.tolerance,
            max_iterations=self.iterations,
        )
        return result.solution.reshape(scan.maps.shape[1:])


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
