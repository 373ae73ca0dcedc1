"""How strong Nyquist ghosts are, in each image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from scanside.items import Image
from scanside.recon.ghost import ghost_level
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig

__all__ = ["MeasureGhosts"]


class MeasureGhosts(Stage[Image, Image]):
    """Writes the level of the Nyquist ghost, as a share of the signal, into the image (``ScansideGhost``).

    Images pass unchanged; of volumes the strongest slice counts. Images with stronger ghosts than the limit are
    counted (metric ``ghost.above_limit``) and the operator is told. The measure and its paper:
    `scanside.recon.ghost.ghost_level`. It belongs before ``finish``, where images span the encoded field of view.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            limit: share of the signal above which the operator is told.
        """

        limit: float = Field(0.05, gt=0)

    config: Config

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: Image) -> Iterator[Image]:
        """Measure one image."""
        magnitude = np.asarray(item.data.detach().abs().cpu(), np.float64)
        levels = [
            level
            for level in map(ghost_level, magnitude.reshape(-1, *magnitude.shape[-2:]))
            if level is not None
        ]
        if item.what != "image" or not levels:
            yield item
            return
        level = max(levels)
        meta = item.meta.copy()
        meta["ScansideGhost"] = [f"{level:.4f}"]
        if level > self.config.limit:
            self._scan.count("ghost.above_limit")
            self._scan.warn(
                f"Nyquist ghosts reach {100 * level:.1f} % of the signal in slice {int(item.header['slice'])}, more "
                f"than {100 * self.config.limit:g} %: the phases of forward and reversed echoes do not agree"
            )
        yield item.replace(meta=meta)
