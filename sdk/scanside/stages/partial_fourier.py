"""Partial Fourier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field

from scanside.items import AxisRange, KSpace
from scanside.mrd.header import Encoding
from scanside.recon import partial_fourier
from scanside.recon.fourier import spatial_dims, to_kspace
from scanside.recon.partial_fourier import Band, classify, sampled_band
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._finite import check_finite

__all__ = ["PartialFourier", "axis_name", "one_sided", "partial_bands", "planned_band", "with_a_phase"]


class PartialFourier(Stage[KSpace, KSpace]):
    """Completes k-space that reaches further on one side of its centre than on the other.

    That is partial Fourier along k1 and k2, and an asymmetric echo along k0. A band that is symmetric about the
    centre, be it all of k-space or reduced resolution, passes unchanged. The band itself must have no gaps: where
    undersampling left some, `grappa` comes first.

    Every coil is completed on its own, so that coil maps and combination work on the result as on any k-space.
    Acquired lines stay as they are with ``pocs``; ``homodyne`` weights them. Meta attributes name method and axes.

    POCS: Haacke, Lindskog, Lin, J Magn Reson 1991;92:126. Homodyne detection: Noll, Nishimura, Macovski, IEEE
    Trans Med Imaging 1991;10:154.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            method: ``pocs`` serves any number of partial axes, ``homodyne`` the one of them of which most is
                missing, ``zero-fill`` leaves k-space as it is.
            iterations: of POCS.
        """

        method: Literal["zero-fill", "homodyne", "pocs"] = "pocs"
        iterations: int = Field(5, ge=1)

    config: Config

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: KSpace) -> Iterator[KSpace]:
        """Complete one k-space."""
        bands = {} if self.config.method == "zero-fill" else partial_bands(item)
        bands, flaws = with_a_phase(item, bands)
        for flaw in flaws:
            self._scan.warn(flaw)
        if bands and _has_gaps(item):
            self._scan.warn(
                "partial Fourier is left zero-filled: the acquired band still has gaps from undersampling; put "
                "'grappa' before 'partial-fourier'"
            )
            bands = {}
        if not bands:
            yield item
            return
        if self.config.method == "homodyne" and len(bands) > 1:
            dim = max(bands, key=lambda axis: _missing_share(bands[axis], item.data.shape[axis]))
            others = ", ".join(axis_name(axis) for axis in bands if axis != dim)
            self._scan.warn(
                f"homodyne detection completes {axis_name(dim)} only and {others} stays zero-filled: set "
                "partial-fourier.method to 'pocs', which completes several axes"
            )
            bands = {dim: bands[dim]}
        yield self._completed(item, bands)

    def _completed(self, item: KSpace, bands: dict[int, Band]) -> KSpace:
        dims = spatial_dims(item.data)
        if self.config.method == "homodyne":
            ((dim, band),) = bands.items()
            image = partial_fourier.homodyne(item.data, dim, band, dims)
        else:
            image = partial_fourier.pocs(item.data, bands, dims, n_iterations=self.config.iterations)
        check_finite(image, item)
        meta = item.meta.copy()
        meta["ScansidePartialFourier"] = [self.config.method, *(axis_name(dim) for dim in bands)]
        ranges = None
        if item.ranges is not None:
            k0, k1, k2 = (_both_sides(item, axis, bands) for axis in range(3))
            ranges = (k0, k1, k2)
        return item.replace(data=to_kspace(image, dims), ranges=ranges, meta=meta)


def partial_bands(item: KSpace) -> dict[int, Band]:
    """The sampled band of every axis that was sampled on one side only, by axis counted from the end."""
    bands = {-2: sampled_band(item.mask), -3: sampled_band(item.mask, -2)}
    if item.ranges is not None:
        bands[-1] = (item.ranges[0].first, item.ranges[0].last)
    sizes = {dim: item.data.shape[dim] for dim in bands}
    return {
        dim: band
        for dim, band in bands.items()
        if sizes[dim] > 1 and classify(*band, sizes[dim] // 2, sizes[dim]) == "partial"
    }


def one_sided(item: KSpace) -> dict[int, Band]:
    """The axes that were sampled on one side only, as planned, and what was sampled of them.

    A random pattern may spare one end by chance. It is no partial Fourier where the header's limits reach that end.
    """
    bands = partial_bands(item)
    for k in (1, 2):
        n = item.data.shape[-1 - k]
        planned = planned_band(item.encoding, k, n)
        if planned is not None and classify(*planned, n // 2, n) != "partial":
            bands.pop(-1 - k, None)
    return bands


def planned_band(encoding: Encoding, k: int, n: int) -> Band | None:
    """First and last of n rows along k1 or k2 (`k` = 1 or 2) that the header's limits allow; None without these."""
    limit = encoding.limits.get(f"kspace_encode_step_{k}")
    if limit is None:
        return None
    shift = n // 2 - limit.center
    return limit.minimum + shift, limit.maximum + shift


def with_a_phase(item: KSpace, bands: dict[int, Band]) -> tuple[dict[int, Band], list[str]]:
    """The partial axes that can be completed, and why others cannot: no line on the shorter side tells the phase.

    Args:
        item: the k-space.
        bands: of its partial axes.
    """
    known = {dim: band for dim, band in bands.items() if band[0] < item.data.shape[dim] // 2 < band[1]}
    flaws = [
        f"partial Fourier along {axis_name(dim)} is left zero-filled, with less resolution: no line was acquired on "
        "one side of the centre of k-space, so that the phase is unknown"
        for dim in bands.keys() - known.keys()
    ]
    return known, flaws


def _has_gaps(item: KSpace) -> bool:
    """Whether undersampling left lines of the band empty: accelerated, and no line that did not come was filled."""
    if item.encoding.acceleration == (1, 1):
        return False
    k1, k2 = sampled_band(item.mask), sampled_band(item.mask, -2)
    within = (..., slice(k2[0], k2[1] + 1), slice(k1[0], k1[1] + 1))
    unsampled = ~item.mask[within]
    if not bool(unsampled.any()):
        return False
    lines = item.data[(*within, slice(None))].movedim(-4, -2)[unsampled]
    return not bool(torch.count_nonzero(lines))


def _both_sides(item: KSpace, axis: int, bands: dict[int, Band]) -> AxisRange:
    """Range along (k0, k1, k2)[axis] once the shorter side reaches as far as the longer one."""
    assert item.ranges is not None
    sampled, n = item.ranges[axis], item.data.shape[-1 - axis]
    if -1 - axis not in bands:
        return sampled
    reach = max(n // 2 - sampled.first, sampled.last - n // 2)
    return AxisRange(max(n // 2 - reach, 0), min(n // 2 + reach, n - 1), sampled.center)


def _missing_share(band: Band, n: int) -> float:
    return 1 - (band[1] - band[0] + 1) / n


def axis_name(dim: int) -> str:
    """Name of a k-space axis that is counted from the end: k0, k1 or k2."""
    return f"k{-1 - dim}"
