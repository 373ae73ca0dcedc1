"""Columns of an image in a stage: where a k-space is solved by them, and its systems."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import torch

from scanside.items import Calibration, KSpace
from scanside.recon.column_cache import ColumnCache
from scanside.recon.columns import MAX_ROWS, ColumnSystem, takes
from scanside.stages._axes import readout_of

__all__ = ["Columns"]


class Columns:
    """Systems ``Aᴴ A + λ`` of the k-spaces of a scan, kept for repetitions and begun early."""

    def __init__(self) -> None:
        self._cache = ColumnCache()

    def cannot(self, item: KSpace) -> str | None:
        """Why a k-space is not solved by columns; None where it is."""
        n2, n1, n0 = item.data.shape[-3:]
        if n2 > 1:
            return f"lines were sampled along two axes ({n2} partitions)"
        if not takes(n1):
            return f"the image has {n1} rows, and no more than {MAX_ROWS} are solved so"
        readout = readout_of(item)
        if readout is not None and readout.indices(n0)[:2] != (0, n0):
            return (
                f"samples {readout.start} to {readout.stop - 1} of {n0} of a readout were acquired, as of an "
                "asymmetric echo"
            )
        return None

    def begin(self, item: Calibration, weight: float) -> None:
        """Factorise beside, where maps and lines of the k-space to come are known and it is solved by columns."""
        kspace = item.kspace
        if kspace.coil_maps is None or item.lines is None or self.cannot(kspace) is not None:
            return
        self.begin_with(kspace.coil_maps, item.lines, weight)

    def begin_with(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> Future[ColumnSystem]:
        """The system of maps ``(coil, 1, y, x)``, a mask ``(1, k1)`` and λ, made beside unless it is there."""
        return self._cache.begin(maps[:, 0], mask.reshape(-1), weight)

    def system(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
        """The system of maps ``(coil, y, x)``, a mask ``(k1,)`` and λ; errors as of `scanside.recon.columns`."""
        return self._cache.get(maps, mask, weight)

    def solve(self, item: KSpace, right: torch.Tensor, weights: float | Sequence[float]) -> torch.Tensor:
        """The images ``(*other, 1, y, x)`` of a k-space for a right-hand side of the same shape.

        Args:
            item: a k-space with maps.
            right: the right-hand side.
            weights: λ, the same for all images, or that of each.
        """
        assert item.coil_maps is not None
        maps = item.coil_maps.expand(*item.mask.shape[:-2], *item.coil_maps.shape[-4:])
        solution = torch.zeros_like(right)
        frames = list(np.ndindex(*item.mask.shape[:-2]))
        each = [weights] * len(frames) if isinstance(weights, float) else weights
        for frame, weight in zip(frames, each, strict=True):
            if not bool(item.data[frame].any()):
                continue  # of nothing acquired there is nothing to solve
            solution[frame] = self.system(maps[frame][:, 0], item.mask[frame].reshape(-1), weight).solve(
                right[frame]
            )
        return solution

    def close(self) -> None:
        """Forget a scan's systems."""
        self._cache.close()
