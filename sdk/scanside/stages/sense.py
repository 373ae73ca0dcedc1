"""Iterative SENSE."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.recon.sense import cg_sense
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._images import images_of

__all__ = ["Sense"]


class Sense(Stage[KSpace, Image]):
    """Solves for the image whose coil views fit the acquired lines, for any undersampling of phase encoding.

    It minimises ‖F S x − y‖² + l2 ‖x‖² by conjugate gradients, with coil maps from an earlier stage. Meta
    attributes tell iterations and residual; a solution that has not converged is one with a warning.

    Pruessmann et al.: Advances in sensitivity encoding with arbitrary k-space trajectories, Magn Reson Med
    2001;46:638.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            l2: Tikhonov weight, relative to a largest possible eigenvalue of 1.
            tolerance: residual relative to the right-hand side at which it stops.
            max_iterations: where it stops anyway.
        """

        l2: float = Field(0.01, ge=0)
        tolerance: float = Field(1e-4, gt=0, lt=1)
        max_iterations: int = Field(50, ge=1)

    config: Config

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: KSpace) -> Iterator[Image]:
        """Reconstruct the images of one k-space."""
        if item.coil_maps is None:
            raise ConfigError("SENSE needs coil maps, but no stage before it made them: add 'coil-maps'")
        result = cg_sense(
            item.data,
            item.coil_maps,
            item.mask,
            l2=self.config.l2,
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        residual = float(result.residuals[-1].max())
        if not bool(result.converged.all()):
            self._scan.warn(
                f"CG-SENSE stopped after {result.iterations} iterations before the residual reached the tolerance "
                f"{self.config.tolerance:g}: raise sense.max_iterations, sense.tolerance or sense.l2"
            )
        meta = item.meta.copy()
        meta["SenseIterations"] = [str(result.iterations)]
        meta["SenseResidual"] = [f"{residual:.3g}"]
        yield from images_of(item.replace(meta=meta), result.solution)
