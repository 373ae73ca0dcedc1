"""Fourier reconstruction and coil combination."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.recon.combine import combine_with_maps, root_sum_of_squares
from scanside.recon.fourier import to_image
from scanside.recon.resize import crop_or_pad
from scanside.stage import Stage, StageConfig
from scanside.stages._images import images_of

__all__ = ["Fourier"]


class Fourier(Stage[KSpace, Image]):
    """Transforms k-space into coil images and combines them into one image.

    The readout is cut to the field of view of the images between the transforms, so that oversampling that is
    still there costs little. The image is in the scaling of an orthonormal transform.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            combine: ``rss``, the root sum of squares (a magnitude), or ``maps``, the matched filter with the coil
                maps that an earlier stage made (complex, and with the best signal-to-noise ratio).
        """

        combine: Literal["rss", "maps"] = "rss"

    config: Config

    def process(self, item: KSpace) -> Iterator[Image]:
        """Reconstruct the images of one k-space."""
        fov = item.extent_mm
        n_x = round(item.data.shape[-1] * item.encoding.recon.field_of_view_mm[0] / fov[0])
        maps = item.coil_maps
        coils = to_image(item.data, (-1,))
        if n_x < coils.shape[-1]:
            fov = (fov[0] * n_x / coils.shape[-1], *fov[1:])
            maps = None if maps is None else crop_or_pad(maps, (n_x,), (-1,))
            coils = crop_or_pad(coils, (n_x,), (-1,))
        coils = to_image(coils, (-3, -2))
        yield from images_of(item.replace(field_of_view_mm=fov), self._combine(coils, maps))

    def _combine(self, coils: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
        if self.config.combine == "rss":
            return root_sum_of_squares(coils)
        if maps is None:
            raise ConfigError(
                "fourier.combine is 'maps', but no stage before it made coil maps: add 'coil-maps'"
            )
        return combine_with_maps(coils, maps)
