"""Fourier reconstruction and coil combination."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.losses import lattice_gaps
from scanside.mrd.header import Space
from scanside.outline import Outline
from scanside.recon.combine import combine_sets, combine_with_maps, root_sum_of_squares
from scanside.recon.fourier import to_image
from scanside.recon.resize import crop_or_pad, resample_fov, same_voxel
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._finite import check_finite
from scanside.stages._images import images_of

__all__ = ["Fourier"]

Extent = tuple[float, float, float]
"""Field of view along (x, y, z) in mm."""


class Fourier(Stage[KSpace, Image]):
    """Transforms k-space into coil images and combines them into one image.

    The readout is cut to the field of view of the images between the transforms, so that oversampling that is
    still there costs little. Where the header's recon space has other voxels than the encoded one, coil images are
    interpolated to it before a root sum of squares. The image is in the scaling of an orthonormal transform.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            combine: ``rss``, the root sum of squares (a magnitude), or ``maps``, the matched filter with the coil
                maps that an earlier stage made (complex, and with the best signal-to-noise ratio).
        """

        combine: Literal["rss", "maps"] = "rss"

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Lines without gaps between them."""
        if outline.lines is None or not (gaps := int(lattice_gaps(outline.lines[0], (1, 1)).sum())):
            return outline
        came = int(outline.lines[0].sum())
        return outline.doubted(
            f"{gaps} lines are missing between the {came} of a k-space, and stay zero: tissue folds over or blurs"
        )

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: KSpace) -> Iterator[Image]:
        """Reconstruct the images of one k-space."""
        fov = item.extent_mm
        n_x = round(item.data.shape[-1] * item.encoding.recon.field_of_view_mm[0] / fov[0])
        sets = [maps for maps in (item.coil_maps, item.second_maps) if maps is not None]
        coils = to_image(item.data, (-1,))
        if n_x < coils.shape[-1]:
            fov = (fov[0] * n_x / coils.shape[-1], *fov[1:])
            sets = [crop_or_pad(maps, (n_x,), (-1,)) for maps in sets]
            coils = crop_or_pad(coils, (n_x,), (-1,))
        coils = to_image(coils, (-3, -2))
        if self.config.combine == "rss":
            coils, fov = _in_recon_voxels(coils, fov, item.encoding.recon)
            combined = root_sum_of_squares(coils)
        else:
            combined = self._matched(coils, sets)
        check_finite(combined, item)
        yield from images_of(self._scan, item.replace(field_of_view_mm=fov), combined)

    def _matched(self, coils: torch.Tensor, sets: list[torch.Tensor]) -> torch.Tensor:
        if not sets:
            raise ConfigError(
                "fourier.combine is 'maps', but no stage before it made coil maps: add 'coil-maps'"
            )
        images = [combine_with_maps(coils, maps) for maps in sets]
        return images[0] if len(images) == 1 else combine_sets(torch.stack(images))


def _in_recon_voxels(coils: torch.Tensor, fov: Extent, recon: Space) -> tuple[torch.Tensor, Extent]:
    """Coil images, and their extent, with the voxels of the recon space: magnitudes must not be interpolated.

    A magnitude has twice the bandwidth of what it was made from, so later it would lose detail and ring. Complex
    combinations are interpolated as well once they are one image.
    """
    extent = list(fov)
    for axis, dim in enumerate((-1, -2, -3)):
        n, voxel = coils.shape[dim], recon.voxel_mm[axis]
        if not same_voxel(extent[axis] / n, voxel):
            extent[axis], matrix = recon.field_of_view_mm[axis], recon.matrix[axis]
            coils = resample_fov(coils, [fov[axis]], [extent[axis]], [matrix], [dim])
    return coils, (extent[0], extent[1], extent[2])
