"""How much of the calibration lines coil maps explain, by place.

A coarse image of each coil is made of the calibration lines. Its part along the maps of a voxel is explained by
them; the rest is noise, whose energy is known, and what the maps do not know of: tissue of another place that lies
there too, another position of the coils, or tissue where the maps are zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from scanside.errors import ShapeError
from scanside.recon.filters import hann
from scanside.recon.noise_level import noise_level

__all__ = ["Explained", "explained", "second_where_needed"]

_WIDEST = 24  # so many calibration lines of an axis tell all that maps can follow
_PER_LINE = 2.0  # coarse voxels for each calibration line of an axis
_AROUND = 5  # coarse voxels of an axis over which energies are averaged
_REACH = 7  # and so many for which one with signal speaks
_SURE = 5.0  # energies of so many standard deviations of the noise are none of it
_LEAST_SHARE = 2e-3
"""A second set serves where it explains more than this part of what a voxel with tissue holds.

Coarse images are blurred: of tissue that ends just inside of the field of view, a part that is smaller shows beyond.
"""


@dataclass(frozen=True)
class Explained:
    """Energies of calibration lines on a coarse grid ``(z, y, x)``, noise taken off.

    Attributes:
        signal: what there is.
        left: what of it maps do not explain, on average over the neighbourhood; 0 where noise may be all of it.
        places: for each axis (z, y, x), the voxels of the image that the coarse ones lie on.
        tissue: the energy of a voxel with tissue.
    """

    signal: torch.Tensor
    left: torch.Tensor
    places: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    tissue: float

    @property
    def share(self) -> float:
        """The part of the energy that maps explain; 1 of nothing."""
        signal = float(self.signal.clamp(min=0).sum())
        return max(1 - float(self.left.sum()) / signal, 0.0) if signal > 0 else 1.0

    @property
    def worst(self) -> tuple[float, tuple[int, int, int]]:
        """The largest unexplained energy, relative to that of a voxel with tissue, and its voxel (z, y, x)."""
        at = int(self.left.argmax())
        index = torch.unravel_index(torch.tensor(at), self.left.shape)
        z, y, x = (int(places[i]) for places, i in zip(self.places, index, strict=True))
        return float(self.left.flatten()[at]) / self.tissue if self.tissue > 0 else 0.0, (z, y, x)


def explained(block: torch.Tensor, maps: torch.Tensor, second: torch.Tensor | None = None) -> Explained:
    """Compare coil maps with calibration lines.

    Args:
        block: ``(*other, coil, k2, k1, k0)`` complex64 calibration lines without gaps around the centre of k-space.
        maps: ``(*other, coil, z, y, x)``, zero where nothing is expected.
        second: of the same shape, orthogonal to them: a second set.

    Raises:
        ShapeError: lines and maps do not belong together.
    """
    coarse = _Coarse(block, maps.shape)
    n_explained, along = torch.zeros_like(coarse.total), torch.zeros_like(coarse.total)
    for one in (maps,) if second is None else (maps, second):
        here = coarse.of(one)
        along += _along(here, coarse.images)
        n_explained += (here != 0).any(-4)
    left = coarse.total - along - (coarse.n_coils - n_explained) * coarse.noise
    # Coarse images are blurred: what they show just outside of where maps end may come from inside.
    seen = n_explained > 0
    window, half = _window(seen.shape, _AROUND), _half(seen.shape, _AROUND)
    blurred = ~seen & (functional.max_pool3d(seen[None].float(), window, 1, half)[0] > 0)
    left = torch.where(blurred, 0, left)
    return Explained(
        signal=coarse.signal.sum(0),
        left=coarse.beyond_noise(left, coarse.n_coils),
        places=coarse.places,
        tissue=coarse.tissue,
    )


def second_where_needed(block: torch.Tensor, maps: torch.Tensor, second: torch.Tensor) -> torch.Tensor | None:
    """A second set only where calibration lines have signal that the first one does not explain.

    An eigenvalue near 1 tells what sensitivities could be there; where no tissue has them, a second image would be
    noise. It makes the whole image noisier, too, as it is solved for together with the first.

    Args:
        block: as `explained`.
        maps: the first set.
        second: the second one.

    Returns:
        The second set, zero where it is not needed; None where that is everywhere.

    Raises:
        ShapeError: as `explained`.
    """
    coarse = _Coarse(block, maps.shape)
    of_second = coarse.of(second)
    has_second = (of_second != 0).any(-4).float()
    # The maps were made of these very lines: in strong noise, all noise of a voxel may lie along them.
    along = _along(of_second, coarse.images) - has_second * coarse.n_coils * coarse.noise
    needed = coarse.beyond_noise(along, coarse.n_coils, has_second) > _LEAST_SHARE * coarse.tissue
    if not bool(needed.any()):
        return None
    window, half = _window(needed.shape, _REACH), _half(needed.shape, _REACH)
    spread = functional.max_pool3d(needed[None].float(), window, 1, half)
    where = functional.interpolate(spread[None], second.shape[-3:], mode="nearest")[0, 0] > 0
    kept = second * where
    return kept if bool(kept.any()) else None


class _Coarse:
    """Coarse coil images ``(other, coil, z, y, x)`` of a calibration block, their energy and their noise."""

    def __init__(self, block: torch.Tensor, shape: torch.Size) -> None:
        if block.ndim < 4 or block.shape[-4] != shape[-4] or block.shape[:-4].numel() % shape[:-4].numel():
            raise ShapeError(
                f"calibration lines {tuple(block.shape)} and coil maps {tuple(shape)} do not belong together"
            )
        block = block.reshape(-1, *block.shape[-4:])
        self.n_coils = block.shape[1]
        lines = block[0].flatten(1, 2)
        level = float(noise_level(lines, torch.ones(lines.shape[1], dtype=torch.bool)))
        self.noise = 2 * level**2  # of a coil's voxel
        self.images, places = block, []
        for axis in (-3, -2, -1):
            to_voxels, at = _to_voxels(shape[axis], min(block.shape[axis], _WIDEST), block)
            n, m = to_voxels.shape[1], self.images.shape[axis]
            middle = self.images.narrow(axis, m // 2 - n // 2, n).movedim(axis, -1)
            self.images = (middle @ to_voxels.mT).movedim(-1, axis)
            self.noise *= float(to_voxels.abs().square().sum(1)[0])
            places.append(at)
        self.places = (places[0], places[1], places[2])
        self.total = self.images.abs().square().sum(-4)
        self.signal = self.total - self.n_coils * self.noise
        energies = self.signal.clamp(min=0)
        weight = float(energies.sum())
        self.tissue = float(energies.square().sum()) / weight if weight > 0 else 0.0

    def of(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps ``(*other, coil, z, y, x)`` at the coarse voxels."""
        z, y, x = self.places
        here = maps[..., z[:, None, None], y[:, None], x]
        return here.reshape(-1, *here.shape[-4:])

    def beyond_noise(self, energies: torch.Tensor, n: int, share: torch.Tensor | None = None) -> torch.Tensor:
        """Energies ``(other, z, y, x)`` of `n` coils averaged over the neighbourhood, 0 where noise may be all.

        Args:
            energies: whose noise was taken off.
            n: how many coils they are the sum of.
            share: which voxels count; by default all.
        """
        shape = energies.shape[-3:]
        window, half = _window(shape, _AROUND), _half(shape, _AROUND)
        counted = torch.ones_like(energies) if share is None else share
        total, count = (
            functional.avg_pool3d(values[None], window, 1, half, count_include_pad=False)[0]
            for values in (energies * (counted > 0), (counted > 0).float())
        )
        mean = (total / count.clamp(min=1e-6)).mean(0) * (counted > 0).any(0)
        return torch.where(mean > _SURE * math.sqrt(n) * self.noise, mean, 0)


def _along(maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Energy ``(other, z, y, x)`` of coil images along maps of any length."""
    along: torch.Tensor = torch.linalg.vecdot(maps, images, dim=-4)
    power = maps.abs().square().sum(-4)
    return along.abs().square() / torch.where(power > 0, power, 1)


def _to_voxels(n: int, n_lines: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The transform ``(voxel, line)`` from lines to every few voxels of an axis of `n`, and which voxels these are.

    Lines that are fewer than the voxels are faded out at the ends.
    """
    step = max(1, int(n / (_PER_LINE * n_lines))) if n > n_lines else 1
    voxels = torch.arange(step // 2, n, step)
    line = torch.arange(n_lines, dtype=torch.float64) - n_lines // 2
    transform = torch.exp(2j * torch.pi / n * (voxels[:, None] - n // 2) * line) / math.sqrt(n)
    if n_lines < n:
        transform = transform * hann(n_lines, 0, n_lines - 1).double()
    return transform.to(like), voxels.to(like.device)


def _window(shape: torch.Size, edge: int) -> list[int]:
    """The edges of a neighbourhood: none along an axis of few voxels."""
    return [edge if n >= edge else 1 for n in shape[-3:]]


def _half(shape: torch.Size, edge: int) -> list[int]:
    return [n // 2 for n in _window(shape, edge)]
