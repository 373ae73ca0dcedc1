"""Tasks whose samples are made from slices: the scan's operator given to the network, or an image alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scanside.recon.fourier import to_kspace
from scanside.recon.resize import crop_or_pad
from scanside.recon.scaling import image_scale
from scanside.recon.sense import cg_sense
from scanside_training.data.appearance import random_appearance
from scanside_training.data.boxes import region_of
from scanside_training.data.calibration import espirit_maps
from scanside_training.data.coils import random_maps
from scanside_training.data.measured_scan import undersampled, undersampled_plane
from scanside_training.data.placement import random_pose
from scanside_training.data.sampling import random_mask, random_plane_mask
from scanside_training.data.scanned import Scan, ScannedSlice, combined, encoded
from scanside_training.data.simulation import (
    Drawn,
    Sample,
    SimulationConfig,
    TaskConfig,
    complex_of,
    real_pairs,
    some_columns,
    white,
)

__all__ = ["ImageTask", "ImageToImage", "UnrolledTask", "scan_of", "scanned", "unrolled_sample"]


def scanned(pixels: Tensor, drawn: Drawn) -> Scan:
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


def unrolled_sample(config: SimulationConfig, scan: Scan, rng: np.random.Generator) -> tuple[Sample, slice]:
    """What networks that apply the scan's operator get of a scan, and the columns of the image that it holds."""
    scale = scan.scale
    chosen, common = _common(config, scan, scale, rng)
    columns = scan.columns(chosen)
    sample = {
        **common,
        "image": real_pairs(columns.image / scale),
        "target": real_pairs(columns.target / scale),
        "maps": real_pairs(columns.maps),
    }
    return sample, chosen


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
        scale = image_scale(image)
        columns, common = _common(drawn.config, scan, scale, drawn.rng)
        planes = _magnitude if self.channels == "magnitude" else real_pairs
        images = {"image": image, "target": scan.target}
        seen = {role: one[None, :, columns] for role, one in beside.items()}
        return common | seen | {name: planes(one[:, columns] / scale) for name, one in images.items()}

    def scanned(self, pixels: Tensor, drawn: Drawn) -> tuple[ScannedSlice, dict[str, Tensor]]:
        """The scan, and images ``(k1, k0)`` that the network sees beside its own, by their roles."""
        return scanned(pixels, drawn).whole(), {}

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
    config: SimulationConfig, scan: Scan, scale: Tensor, rng: np.random.Generator
) -> tuple[slice, Sample]:
    """Columns of a sample, and what samples of all tasks hold."""
    region = scan.region
    columns = some_columns(config.readout_crop, region, rng)
    common = {
        "mask": scan.mask.float(),
        "roi": region[None, :, columns].float(),
        "scale": scale,
        "noise": scan.noise / scale,
    }
    if scan.marked is not None:
        common["marked"] = scan.marked[None, :, columns].float()
    return columns, common


def _magnitude(values: Tensor) -> Tensor:
    """``(1, k1, k0)``."""
    return values.abs()[None]
