"""Measured scans of which lines or samples are left out; coils, noise and phase stay as they are.

Of the image of lines only those columns are made that a sample holds: what needs the whole of it, maps, noise and
where the object is, hangs on the calibration lines alone, and is kept from one sample of the slice to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from scanside.errors import ConfigError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import level_of, noise_level
from scanside.recon.resize import crop_or_pad
from scanside.recon.scaling import image_scale
from scanside_training.data.boxes import region_of
from scanside_training.data.calibration import coarse_maps, on_grid, reference_coil, refined
from scanside_training.data.kept_maps import Calibration
from scanside_training.data.sampling import random_mask, random_plane_mask
from scanside_training.data.scanned import Columns, ScannedSlice, combined
from scanside_training.data.simulation import Drawn, SimulationConfig, object_of

__all__ = ["MeasuredScan", "grid_of", "measured_shape", "outermost", "undersampled", "undersampled_plane"]

_OUTERMOST = 1 / 16
_SCALED_BY = 4
"""In training the scale is that of every so-manyth column: its difference from that of all is far below what the
gain of scans differs by. Networks are judged by that of all."""


@dataclass(frozen=True, eq=False)
class MeasuredScan:
    """A measured scan with lines left out, whose image is made by columns.

    Attributes:
        hybrid: ``(coil, k1, k0)`` complex, all lines that were measured, k-space along k1 and image along k0.
        mask: ``(k1, 1)``, which of the lines count as acquired.
        calibration: what was estimated of it.
        marked: ``(k1, k0)`` booleans, what somebody marked in the slice; None where the data have no marks.
        scaled_by: the scale is that of every so-manyth column.
    """

    hybrid: Tensor
    mask: Tensor
    calibration: Calibration
    marked: Tensor | None = None
    scaled_by: int = 1

    @property
    def noise(self) -> float:
        """Standard deviation of the noise's real and imaginary part per coil and voxel."""
        return self.calibration.noise

    @property
    def region(self) -> Tensor:
        """``(k1, k0)`` booleans, where the object is."""
        return self.calibration.region

    @cached_property
    def scale(self) -> Tensor:
        """That of ``Aᴴ y``."""
        some = slice(None, None, self.scaled_by)
        return image_scale(self._adjoint(some, self.maps(some)))

    def columns(self, chosen: slice) -> Columns:
        """Columns of the image: see `scanside_training.data.scanned.Scan`."""
        maps = self.maps(chosen)
        target = combined(to_image(self.hybrid[..., chosen], (-2,)), maps)
        return Columns(self._adjoint(chosen, maps), target, maps)

    def only(self, lines: Tensor) -> MeasuredScan:
        """The same scan with some of its lines ``(k1,)``."""
        return replace(self, mask=lines[:, None])

    def whole(self) -> ScannedSlice:
        """The scan with its image in all columns."""
        image = self.columns(slice(None))
        return ScannedSlice(
            self.hybrid * self.mask, image.maps, self.mask, image.target, self.noise, self.marked
        )

    def maps(self, chosen: slice) -> Tensor:
        """Coil maps ``(coil, k1, n)`` of some columns."""
        return _maps(self.calibration, (self.hybrid.shape[-2], self.hybrid.shape[-1]), chosen)

    def _adjoint(self, chosen: slice, maps: Tensor) -> Tensor:
        return combined(to_image(self.hybrid[..., chosen] * self.mask, (-2,)), maps)


def undersampled(hybrid: Tensor, drawn: Drawn) -> MeasuredScan:
    """Leave lines of a measured scan out.

    Lines beyond those that were measured are no lines: they count for no acceleration. Where the matrix is no
    multiple of what networks halve, it is extended by such lines, and columns at the edges are cut off.

    Args:
        hybrid: ``(coil, k1, x)``, k-space along k1, 0 where nothing was measured, and image along the readout. It is
            quickest where lines lie side by side in memory.
        drawn: what the sample is drawn from.
    """
    config = drawn.config
    n1, n0 = hybrid.shape[-2:]
    grid = grid_of(config, n1, n0)
    hybrid = crop_or_pad(hybrid.mT, grid[::-1]).mT  # where lines are added, too, they lie in memory as before
    measured = torch.from_numpy(hybrid.numpy().any((0, 2)))
    lines, n_acs = _some_lines(config, measured, drawn.rng)
    block = _calibration_lines(drawn, n_acs, int(measured.sum())), grid[1]

    def estimate() -> Calibration:
        acs = to_kspace(crop_or_pad(hybrid, block), (-1,))
        noise = noise_level(to_kspace(hybrid, (-1,)), measured)
        return _estimated(config, acs, to_image(hybrid, (-2,)), float(noise))

    marked = None
    if drawn.boxes is not None:
        marked = crop_or_pad(region_of(drawn.boxes, (n1, n0)), grid)
    every = 1 if drawn.judging else _SCALED_BY
    return MeasuredScan(hybrid, lines[:, None], _kept(drawn, block, grid, estimate), marked, every)


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
    acquired, edges = random_plane_mask(config.masks.plane, grid, rng, measured.numpy())
    images = to_image(kspace)

    def noise() -> float:
        return float(level_of(kspace[:, outermost(measured)]))

    if given is None:
        rows, columns = (_calibration_lines(drawn, edge, n) for edge, n in zip(edges, grid, strict=True))

        def estimate() -> Calibration:
            return _estimated(config, crop_or_pad(kspace, (rows, columns)), images, noise())

        found = _kept(drawn, (rows, columns), grid, estimate)
        maps, level = _maps(found, grid, slice(None)), found.noise
    else:
        maps, level = on_grid(given, grid), noise()
    mask = torch.from_numpy(acquired)
    marked = None if drawn.boxes is None else torch.zeros(grid, dtype=torch.bool)
    return ScannedSlice(kspace * mask, maps, mask, combined(images, maps), level, marked)


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


def _calibration_lines(drawn: Drawn, n_acs: int, n: int) -> int:
    """How many of the ACS lines, of so many lines that can be acquired, maps are estimated from.

    Networks are judged with those of all of them, as the stream has them.
    """
    masks = drawn.config.masks.plane or drawn.config.masks
    espirit = drawn.config.espirit
    if drawn.judging:
        return min(n_acs, espirit.calibration)
    return espirit.lines_of(n_acs, masks.fewest_acs(n), masks.most_acs(n))


def _kept(
    drawn: Drawn, block: tuple[int, int], grid: tuple[int, int], estimate: Callable[[], Calibration]
) -> Calibration:
    """What `estimate` finds from the calibration block of a scan, or found before."""
    if drawn.kept is None:
        return estimate()
    config = drawn.config.espirit
    # ESPIRiT takes no more lines than these: all that differs between the masks of a scan.
    lines = [min(n, config.calibration) for n in block]
    settings = config.model_dump(mode="json", exclude={"probability", "kept_gb", "widths"})
    return drawn.kept.get({"espirit": settings, "calibration": lines, "grid": grid}, estimate)


def _estimated(config: SimulationConfig, acs: Tensor, images: Tensor, noise: float) -> Calibration:
    """What is estimated from a scan's calibration block ``(coil, *block)`` and its images ``(coil, k1, k0)``."""
    grid = images.shape[-2], images.shape[-1]
    maps = torch.ones_like(acs[:, :1, :1]) if len(acs) == 1 else coarse_maps(config.espirit, acs, grid)
    found = Calibration(maps, reference_coil(config.espirit, acs), noise, torch.zeros(grid, dtype=torch.bool))
    return found._replace(region=object_of(combined(images, _maps(found, grid, slice(None)))))


def _maps(calibration: Calibration, grid: tuple[int, int], columns: slice) -> Tensor:
    """Coil maps ``(coil, k1, n)`` of some columns of an image; lines lie side by side in memory."""
    return refined(calibration.maps.mT, calibration.virtual, grid[::-1], columns).mT


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
