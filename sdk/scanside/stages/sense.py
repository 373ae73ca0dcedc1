"""Iterative SENSE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field

from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.recon.combine import combine_with_maps
from scanside.recon.fourier import spatial_dims, to_kspace
from scanside.recon.partial_fourier import Band, classify, pocs
from scanside.recon.sense import cg_sense
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._finite import check_finite
from scanside.stages._images import images_of
from scanside.stages.partial_fourier import axis_name, partial_bands, with_a_phase

__all__ = ["Sense"]


class Sense(Stage[KSpace, Image]):
    """Solves for the image whose coil views fit the acquired lines, for any undersampling of phase encoding.

    It minimises ‖F S x − y‖² + l2 ‖x‖² by conjugate gradients, with coil maps from an earlier stage. Meta
    attributes tell iterations and residual; a solution that has not converged is one with a warning.

    Only what was acquired is fitted: lines that were left out by undersampling or partial Fourier, and samples
    that an asymmetric echo lacks, count as unknown. Of what lies beyond one end of the acquired band the coils alone
    tell little, and the fit has no phase constraint: that part is completed afterwards, by POCS on the k-space
    of the solution as the coils see it.

    Pruessmann et al.: Advances in sensitivity encoding with arbitrary k-space trajectories, Magn Reson Med
    2001;46:638.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            l2: Tikhonov weight, relative to the largest eigenvalue that the problem can have, 1: what coils and lines
                determine with an eigenvalue λ comes out as λ / (λ + l2) of itself. So 0.002 takes off a fifth of a
                percent where sampling is full and a tenth where λ = 0.02, as at high acceleration; and noise grows
                no further than to 1 / (2 √l2) of its level, elevenfold. In simulated scans (R = 2 to 4 in 2-D and
                2 × 2 in 3-D, noise of 0.5 to 2 % of the tissue's signal) the error was mostly within 3 % of that
                with the best value, at worst 19 % above it; noisier scans gain from up to 0.01.
            tolerance: residual relative to the right-hand side at which it stops.
            max_iterations: where it stops anyway.
            partial_fourier: ``pocs`` completes an asymmetric echo and partial phase encoding, ``none`` leaves the
                solution as it is, which loses resolution.
        """

        l2: float = Field(0.002, ge=0)
        tolerance: float = Field(1e-4, gt=0, lt=1)
        max_iterations: int = Field(100, ge=1)
        partial_fourier: Literal["pocs", "none"] = "pocs"

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
            readout=None if item.ranges is None else slice(item.ranges[0].first, item.ranges[0].last + 1),
            l2=self.config.l2,
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        # Conjugate gradients stop at once where the data are no numbers: the residuals tell.
        check_finite(result.residuals, item)
        check_finite(result.solution, item)
        residual = float(result.residuals[-1].max())
        if not bool(result.converged.all()):
            self._scan.warn(
                f"CG-SENSE stopped after {result.iterations} iterations before the residual reached the tolerance "
                f"{self.config.tolerance:g}: raise sense.max_iterations, sense.tolerance or sense.l2"
            )
        meta = item.meta.copy()
        meta["SenseIterations"] = [str(result.iterations)]
        meta["SenseResidual"] = [f"{residual:.3g}"]
        solution = result.solution
        bands = _one_sided(item) if self.config.partial_fourier == "pocs" else {}
        bands, flaws = with_a_phase(item, bands)
        for flaw in flaws:
            self._scan.warn(flaw)
        if bands:
            solution = _completed(solution, item.coil_maps, bands)
            meta["ScansidePartialFourier"] = ["pocs", *(axis_name(dim) for dim in bands)]
        yield from images_of(self._scan, item.replace(meta=meta), solution)


def _one_sided(item: KSpace) -> dict[int, Band]:
    """The axes that were sampled on one side only, and what was sampled of them.

    A random pattern may spare one end by chance. It is no partial Fourier where the header's limits reach that end.
    """
    bands = partial_bands(item)
    for k in (1, 2):
        n, limit = item.data.shape[-1 - k], item.encoding.limits.get(f"kspace_encode_step_{k}")
        if limit is None:
            continue
        shift = n // 2 - limit.center
        if classify(limit.minimum + shift, limit.maximum + shift, n // 2, n) != "partial":
            bands.pop(-1 - k, None)
    return bands


def _completed(image: torch.Tensor, maps: torch.Tensor, bands: Mapping[int, Band]) -> torch.Tensor:
    """The image ``(*other, z, y, x)`` with what lies beyond the bands, from the symmetry of k-space.

    The coils' views of it are completed, not the combined image: the acquired band ends sharply there alone.
    """
    dims = spatial_dims(maps)
    kspace = to_kspace(maps * image.unsqueeze(-4), dims)
    for dim, (first, last) in bands.items():
        kspace.narrow(dim, 0, first).zero_()
        kspace.narrow(dim, last + 1, kspace.shape[dim] - last - 1).zero_()
    return combine_with_maps(pocs(kspace, bands, dims), maps)
