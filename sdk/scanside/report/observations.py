"""What a run shows between its stages: coil maps and sampled lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scanside.items import Item, KSpace

if TYPE_CHECKING:
    import torch

__all__ = ["Observations"]

_KEPT = 4
"""Maps of this many slices are kept: they are as large as a coil image each."""


@dataclass(slots=True)
class Observations:
    """Keeps what a report shows and an image does not hold; give it to a replay as ``observe``.

    Attributes:
        coil_maps: ``(coil, z, y, x)`` complex64 on the CPU, by slice, for the first few slices.
        maps_from: label of the stage that made the maps.
        n_kspaces: k-spaces that were assembled.
    """

    coil_maps: dict[int, npt.NDArray[np.complex64]] = field(default_factory=dict)
    maps_from: str = ""
    n_kspaces: int = 0

    def __call__(self, label: str, item: Item) -> None:
        """Look at one item that a stage gave."""
        if not isinstance(item, KSpace):
            return
        if label.partition("#")[0] == "accumulate":
            self.n_kspaces += 1
        if item.coil_maps is None:
            return
        slice_ = int(item.counters.get("slice", 0))
        if slice_ not in self.coil_maps and len(self.coil_maps) < _KEPT:
            self.coil_maps[slice_] = _on_cpu(item.coil_maps)
            self.maps_from = self.maps_from or label


def _on_cpu(maps: torch.Tensor) -> npt.NDArray[np.complex64]:
    copied: npt.NDArray[np.complex64] = maps.detach().cpu().numpy().copy()
    return copied
