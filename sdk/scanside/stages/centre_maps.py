"""Coil sensitivity maps from the centre of k-space that spokes and spirals sample densely."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from scanside.context import Context
from scanside.errors import CalibrationError
from scanside.items import Samples
from scanside.outline import Outline
from scanside.recon.espirit import espirit_sets, fitting_kernel
from scanside.recon.noncartesian.centre import centre_on_grid
from scanside.recon.noncartesian.nufft import require_library
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._samples import flat_points, require_finite

__all__ = ["CentreMaps"]


class CentreMaps(Stage[Samples, Samples]):
    """Estimates coil sensitivities by ESPIRiT from the centre of k-space, brought onto a grid.

    Maps serve all images of a slice that have the same coils, unless each is to have its own. A single coil is taken
    to see everything alike.

    Uecker et al., Magn Reson Med 2014;71:990.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            calibration: edge of the block of k-space around the centre, in samples of the image's grid.
            kernel: edge of ESPIRiT's patch in samples.
            threshold: singular values below this part of the largest are dropped.
            crop: maps are 0 where the eigenvalue lies below this.
            calibrate: ``first``, the first image of a slice serves all; ``each``, every image has its own.
        """

        calibration: int = Field(24, ge=8)
        kernel: int = Field(6, ge=2)
        threshold: float = Field(0.0316, ge=0, lt=1)
        crop: float = Field(0.8, ge=0, le=1)
        calibrate: Literal["first", "each"] = "first"

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Any samples, which have maps then."""
        return replace(outline, coil_maps=True)

    def prepare(self, context: Context) -> None:
        """See that the NUFFT is installed, before a scan waits for it."""
        require_library(context.torch_device)

    def open(self, scan: Scan) -> None:
        """A new scan: no maps are known."""
        self._scan = scan
        self._known: dict[tuple[int, ...], torch.Tensor] = {}

    def process(self, item: Samples) -> Iterator[Samples]:
        """Give the samples their maps."""
        key = (item.encoding.index, item.counters.get("slice", 0), len(item.data))
        if self.config.calibrate == "each" or key not in self._known:
            self._known[key] = self._maps(item)
        yield item.replace(coil_maps=self._known[key])

    def close(self) -> None:
        """Forget the maps."""
        self._known = {}

    def _maps(self, item: Samples) -> torch.Tensor:
        n_coils, grid = len(item.data), item.matrix[::-1]
        if n_coils == 1:
            return item.data.new_ones(1, *grid)
        config = self.config
        require_finite(item.data, item)  # iterations would end at zero
        block = centre_on_grid(item.data.flatten(1), flat_points(item), item.shape, config.calibration)
        block = block.reshape(n_coils, *([1] if len(item.shape) == 2 else []), *block.shape[1:])
        kernel = fitting_kernel(block, grid, config.kernel, config.calibration)
        maps, _ = espirit_sets(
            block,
            grid,
            kernel=kernel,
            calibration=config.calibration,
            threshold=config.threshold,
            crop=config.crop,
        )
        if not bool(maps.any()):
            raise CalibrationError(
                "no coil maps came of the centre of k-space: it holds no signal that coils share; look at the "
                "trajectory's unit (gather.unit), or lower centre-maps.crop"
            )
        return maps
