"""Columns of an image in a stage: where a k-space is solved by them, and its systems."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias
from weakref import ReferenceType, ref

import numpy as np
import torch

from scanside.items import Calibration, KSpace
from scanside.recon.column_cache import ColumnCache, changes
from scanside.recon.columns import ColumnSystem
from scanside.recon.stacked import StackedMaps, rows_seen
from scanside.stages._axes import readout_of

__all__ = ["Columns", "Solve"]

_NEAR = 4.0  # weights whose ratio is smaller are reached by iterations sooner than by a factorisation
_ASKED = 16
_MOST_ROWS = 383

Solve: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From a right-hand side, and the one that the other system solves, ``(1, y, x)``, to a solution."""


class Columns:
    """Systems ``Aᴴ A + λ`` of the k-spaces of a scan, kept for repetitions and begun early.

    Args:
        most_rows: larger images (k1) are not solved so: where one image is all that is wanted, iterations take less
            memory, and less time.
    """

    def __init__(self, most_rows: int = _MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._cache = ColumnCache()
        self._asked: deque[tuple[ReferenceType[Future[ColumnSystem]], float]] = deque(maxlen=_ASKED)
        self._solved: tuple[ColumnSystem, torch.Tensor, int, torch.Tensor] | None = None

    def cannot(self, item: KSpace) -> str | None:
        """Why a k-space is not solved by columns; None where it is."""
        n2, n1, n0 = item.data.shape[-3:]
        if n2 > 1:
            return f"lines were sampled along two axes ({n2} partitions)"
        if n1 > self._most_rows:
            return f"the image has {n1} rows, and no more than {self._most_rows} are solved so"
        if item.second_maps is not None and (n := n1 + len(rows_seen(item.second_maps))) > self._most_rows:
            return f"both sets of maps have {n} rows, and no more than {self._most_rows} are solved so"
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
        stacked = StackedMaps.of(kspace.coil_maps, kspace.second_maps)
        self._cache.begin(stacked.maps, stacked.lines(item.lines.reshape(-1)), weight)

    def system(self, maps: StackedMaps, mask: torch.Tensor, weight: float) -> ColumnSystem:
        """The system of maps, a mask ``(k1,)`` and λ; errors as of `scanside.recon.columns`."""
        return self._cache.get(maps.maps, maps.lines(mask), weight)

    def solve(self, item: KSpace, right: torch.Tensor, weight: float) -> torch.Tensor:
        """The images ``(*other, 1, y, x)`` of a k-space, or ``(2, *other, 1, y, x)`` of two sets of maps.

        Args:
            item: the k-space, with maps.
            right: the right-hand side, of the same shape.
            weight: λ.
        """
        assert item.coil_maps is not None
        other = item.mask.shape[:-2]
        first, second = (
            None if maps is None else maps.expand(*other, *maps.shape[-4:])
            for maps in (item.coil_maps, item.second_maps)
        )
        assert first is not None
        solution = torch.zeros_like(right)
        for frame in np.ndindex(*other):
            here = frame if second is None else (slice(None), *frame)
            if not bool(right[here].any()) and not bool(item.data[frame].any()):
                continue  # of nothing acquired there is nothing to solve
            maps = StackedMaps.of(first[frame], None if second is None else second[frame])
            system = self.system(maps, item.mask[frame].reshape(-1), weight)
            found = maps.apart(system.solve(maps.stacked(right[here].squeeze(-3)))).unsqueeze(-3)
            solution[here] = found
            if second is None:
                self._solved = system, right[frame], changes(right), found
        return solution

    def second(self, maps: torch.Tensor, mask: torch.Tensor, weights: tuple[float, float]) -> Solve:
        """What solves for a second weight, with maps ``(coil, 1, y, x)`` and a mask ``(1, k1)``.

        The system of the first weight is at hand. Where the second is near to it, a few iterations from there take
        less time than a factorisation: that is done beside when the same is wanted again, as in repetitions. Else it
        is begun at once. All of this gives the same images, to the tolerance of `ColumnSystem.solve_near`.

        Args:
            maps: coil sensitivities.
            mask: the sampled lines.
            weights: the first and the second one.
        """
        first, second = weights
        given = maps[:, 0], mask.reshape(-1)
        system = self._cache.find(*given, second)
        if system is None:
            at_hand = self._cache.find(*given, first)
            ratio = max(first / second, second / first)
            if at_hand is not None and ratio < _NEAR and (ref(at_hand), second) not in self._asked:
                self._asked.append((ref(at_hand), second))
                near = at_hand.result()
                return lambda right, other: near.solve_near(second, right[0], self._known(near, other))[None]
            system = self._cache.begin(*given, second)
        begun = system
        return lambda right, _: begun.result().solve(right)

    def _known(self, system: ColumnSystem, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A right-hand side ``(1, y, x)`` and its solution: the one that was just made, where it is that."""
        if self._solved is not None:
            by, given, n_changes, solution = self._solved
            same = given.data_ptr() == right.data_ptr() and n_changes == changes(given) == changes(right)
            if by is system and same:
                return right[0], solution[0]
        return right[0], system.solve(right[0])

    def close(self) -> None:
        """Forget a scan's systems."""
        self._solved = None
        self._cache.close()
        self._asked.clear()
