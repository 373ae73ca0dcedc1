"""Compressed sensing of samples that do not lie on a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from scanside.errors import ConfigError
from scanside.items import Image, Samples
from scanside.outline import Outline, lacking_maps
from scanside.recon.compressed_sensing.descent import largest_eigenvalue
from scanside.recon.noncartesian.sense import NonCartesianSense
from scanside.scan import Scan
from scanside.stage import Stage
from scanside.stages._images import image_of_samples
from scanside.stages._samples import Density, density_of, flat_points, require_finite
from scanside.stages._sparsity import SparsityConfig, sparse_image

__all__ = ["NonCartesianPics"]

_MARGIN = 1.05  # power iteration comes to the largest eigenvalue from below


class NonCartesianPics(Stage[Samples, Image]):
    """Solves for the image whose coil views fit the samples and that is sparse, with maps of ``centre-maps``.

    It minimises ½ ‖W^½ (A x − y)‖² + Σ weight · penalty(x), W being the density compensation or nothing, and the
    penalties those of ``pics``. The normal operator is a product on twice the grid.

    Lustig, Donoho, Pauly, Magn Reson Med 2007;58:1182. Fessler et al., IEEE Trans Signal Process 2005;53:3393.
    """

    class Config(SparsityConfig):
        """Settings.

        Attributes:
            weighting: ``density`` weighs samples by their density compensation, which converges within few
                iterations; ``none`` counts every sample alike, as BART's ``pics`` does.
            density: see ``gridding``.
        """

        weighting: Literal["density", "none"] = "density"
        density: Density = "auto"

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Coil maps of a stage before."""
        return outline.with_maps_for("compressed sensing", "centre-maps")

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: Samples) -> Iterator[Image]:
        """Make one image."""
        if item.coil_maps is None:
            raise ConfigError(lacking_maps("compressed sensing", "centre-maps"))
        config = self.config
        weights = density_of(item, config.density).flatten() if config.weighting == "density" else None
        operator = NonCartesianSense(item.coil_maps, flat_points(item), weights)
        right = operator.adjoint(item.data.flatten(1))
        require_finite(right, item)
        meta = item.meta.copy()
        solution = sparse_image(
            self._scan,
            "noncartesian-pics",
            config,
            operator.normal,
            right,
            meta,
            lipschitz=_MARGIN * largest_eigenvalue(operator.normal, right) or 1.0,
        )
        require_finite(solution, item)
        yield image_of_samples(self._scan, item.replace(meta=meta), solution)
