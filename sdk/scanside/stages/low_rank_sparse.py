"""Low-rank plus sparse reconstruction of films."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.outline import Outline, lacking_maps
from scanside.recon.low_rank_sparse import largest_singular_value, low_rank_plus_sparse
from scanside.recon.scaling import film_scale
from scanside.recon.sense import SenseOperator
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._axes import readout_of
from scanside.stages._films import check_film, without_gaps
from scanside.stages._finite import check_finite
from scanside.stages._images import images_of

__all__ = ["ReconstructLowRankSparse"]


class ReconstructLowRankSparse(Stage[KSpace, Image]):
    """Solves for the film of all frames of a window together: a background of low rank, and motion that is sparse.

    It minimises ``½ ‖A (L + S) − y‖² + λ_L ‖L‖_* + λ_S ‖T S‖₁`` with coil maps from an earlier stage, T being the
    Fourier transform along time. Both weights are relative to the images of the acquired lines, so that they do not
    depend on the gain or the size of a scan. Meta attributes tell iterations and the rank of the background; a film
    that has not converged is one with a warning.

    Long windows serve it best: more frames tell background and motion apart better. It takes seconds for each.

    Otazo, Candès, Sodickson, Magn Reson Med 2015;73:1125.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            low_rank: λ_L, relative to the largest singular value of the images ``Aᴴ y``.
            sparse: λ_S, relative to the brightness of the images ``Aᴴ y``: the 99th percentile of their root mean
                square along time.
            tolerance: it stops when the film changes by less than this part of itself.
            max_iterations: where it stops anyway.
        """

        low_rank: float = Field(0.01, ge=0)
        sparse: float = Field(0.01, ge=0)
        tolerance: float = Field(2e-3, gt=0, lt=1)
        max_iterations: int = Field(100, ge=1)

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Frames that lack lines, others each, and coil maps of a stage before."""
        outline = outline.with_maps_for("low-rank plus sparse reconstruction")
        if without_gaps(outline):
            return outline.doubted("no frame lacks a line between others: there is nothing to solve for")
        if outline.lines is not None and len(outline.lines) == 1:
            return outline.doubted("all frames have the same lines: they cannot tell motion from aliasing")
        return outline

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: KSpace) -> Iterator[Image]:
        """Reconstruct the film of one window."""
        check_film(item, "low-rank plus sparse reconstruction")
        if item.coil_maps is None:
            raise ConfigError(lacking_maps("low-rank plus sparse reconstruction"))
        operator = SenseOperator(item.coil_maps, item.mask, readout_of(item))
        start = operator.adjoint(item.data)
        check_finite(start, item, item.reference)
        result = low_rank_plus_sparse(
            operator.normal,
            start,
            low_rank=self.config.low_rank * largest_singular_value(start),
            sparse=self.config.sparse * float(film_scale(start.flatten(-3, -2))),
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        check_finite(result.film, item)
        if not result.converged:
            self._scan.warn(
                f"low-rank plus sparse reconstruction stopped after {result.iterations} iterations while the film "
                f"still changed by {float(result.changes[-1]):.2g} of itself: raise "
                "low-rank-sparse.max_iterations or low-rank-sparse.tolerance"
            )
        meta = item.meta.copy()
        meta["LowRankSparseIterations"] = [str(result.iterations)]
        meta["LowRankSparseRank"] = [str(result.rank)]
        yield from images_of(self._scan, item.replace(meta=meta), result.film)
