"""What stages have in common that fit images to the acquired lines, as the coils see them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch

from scanside.errors import ConfigError
from scanside.items import Calibration, Image, KSpace
from scanside.mrd.meta import Meta
from scanside.outline import Outline, lacking_maps
from scanside.recon.acquired import Acquired, SeenMaps, acquired
from scanside.recon.column_cache import changes
from scanside.recon.combine import combine_sets, combine_with_maps
from scanside.recon.fourier import spatial_dims, to_kspace
from scanside.recon.partial_fourier import Band, pocs
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._agreement import MapCheck
from scanside.stages._axes import readout_of
from scanside.stages._images import images_of
from scanside.stages.partial_fourier import axis_name, one_sided, with_a_phase

__all__ = ["FitImages", "FitImagesConfig"]


class FitImagesConfig(StageConfig):
    """Settings of every such stage.

    Attributes:
        partial_fourier: ``pocs`` completes an asymmetric echo and partial phase encoding, ``none`` leaves the
            solution as it is, which loses resolution.
    """

    partial_fourier: Literal["pocs", "none"] = "pocs"


class FitImages(Stage[Calibration | KSpace, Image]):
    """From k-space with coil maps to images: the solution, what it lacks beyond partial bands, and headers.

    Attributes:
        what: the method, for the text of errors.
    """

    what: ClassVar[str]
    config: FitImagesConfig

    def foresee(self, outline: Outline) -> Outline:
        """Coil maps of a stage before."""
        return outline.with_maps_for(self.what)

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is known of its maps."""
        self._scan = scan
        self._check = MapCheck()
        self._seen: tuple[torch.Tensor, int, SeenMaps] | None = None

    def close(self) -> None:
        """Forget the scan's maps."""
        self._seen = None
        self._check = MapCheck()

    def process(self, item: Calibration | KSpace) -> Iterator[Image]:
        """Reconstruct the images of one k-space; or prepare for them, when the calibration lines are there."""
        if isinstance(item, Calibration):
            self.begin(item)
            return
        if item.coil_maps is None:
            raise ConfigError(lacking_maps(self.what))
        if (agreement := self._check.of(item)) is not None:
            meta = item.meta.copy()
            meta["ScansideMaps"] = agreement.meta
            item = item.replace(meta=meta)
            if agreement.flaw is not None:
                self._scan.warn(agreement.flaw)
        assert item.coil_maps is not None
        yield from self.images(item, self.acquired(item, item.coil_maps))

    def begin(self, item: Calibration) -> None:
        """Prepare for the images of a k-space whose calibration lines are there; nothing by default."""

    def acquired(self, item: KSpace, maps: torch.Tensor) -> Acquired:
        """What was acquired of a k-space, with its maps; what is prepared of these serves repetitions."""
        readout = readout_of(item)
        if item.second_maps is not None or maps.shape[:-4].numel() > 1 or maps.shape[-3] > 1:
            return acquired(item.data, maps, item.mask, readout, second=item.second_maps)
        kept = self._seen
        if kept is None or kept[0] is not maps or kept[1] != changes(maps):
            self._seen = kept = (maps, changes(maps), SeenMaps(maps))
        return acquired(item.data, maps, item.mask, readout, kept[2])

    def images(self, item: KSpace, data: Acquired) -> Iterator[Image]:
        """The images of a k-space that has maps, and of what was acquired of it."""
        assert item.coil_maps is not None
        meta = item.meta.copy()
        solution = self.solved(item, data, meta)
        bands = one_sided(item) if self.config.partial_fourier == "pocs" else {}
        bands, flaws = with_a_phase(item, bands)
        for flaw in flaws:
            self._scan.warn(flaw)
        if bands:
            solution = _completed(solution, item, bands)
            meta["ScansidePartialFourier"] = ["pocs", *(axis_name(dim) for dim in bands)]
        if item.second_maps is not None:
            solution = combine_sets(solution)
        yield from images_of(self._scan, item.replace(meta=meta), solution)

    @abstractmethod
    def solved(self, item: KSpace, data: Acquired, meta: Meta) -> torch.Tensor:
        """What fits the acquired lines: ``(*other, z, y, x)``, ``(2, *other, z, y, x)`` of two sets of maps.

        Args:
            item: k-space that has maps.
            data: what was acquired of it.
            meta: is told how it went.
        """


def _completed(images: torch.Tensor, item: KSpace, bands: Mapping[int, Band]) -> torch.Tensor:
    """The images with what lies beyond the bands, from the symmetry of k-space.

    The coils' views are completed, not the combined image: the acquired band ends sharply there alone.

    Args:
        images: ``(*other, z, y, x)``, or ``(2, *other, z, y, x)`` of two sets of maps.
        item: with these maps.
        bands: by axis.
    """
    maps, second = item.coil_maps, item.second_maps
    assert maps is not None
    dims = spatial_dims(maps)
    by_set = [(maps, images)] if second is None else [(maps, images[0]), (second, images[1])]
    kspace = to_kspace(torch.stack([one * image.unsqueeze(-4) for one, image in by_set]).sum(0), dims)
    for dim, (first, last) in bands.items():
        kspace.narrow(dim, 0, first).zero_()
        kspace.narrow(dim, last + 1, kspace.shape[dim] - last - 1).zero_()
    completed = pocs(kspace, bands, dims)
    if second is None:
        return combine_with_maps(completed, maps)
    return torch.stack([combine_with_maps(completed, one) for one in (maps, second)])
