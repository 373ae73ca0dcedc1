"""Gridding: an image of samples anywhere in k-space, in one step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from scanside.context import Context
from scanside.errors import ConfigError
from scanside.items import Image, Samples
from scanside.recon.combine import combine_with_maps, root_sum_of_squares
from scanside.recon.noncartesian.nufft import require_library
from scanside.recon.noncartesian.stack import transform_of
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._images import image_of_samples
from scanside.stages._samples import Density, density_of, flat_points, require_finite

__all__ = ["Gridding"]


class Gridding(Stage[Samples, Image]):
    """Multiplies samples with their density compensation and transforms them to coil images, which are combined.

    Where k-space is undersampled streaks remain: ``noncartesian-sense`` takes them away. The image is in the scaling
    of an orthonormal transform, as Cartesian ones are.

    Jackson, Meyer, Nishimura, Macovski, IEEE Trans Med Imaging 1991;10:473; the transform is finufft's.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            combine: ``rss``, the root sum of squares, or ``maps``, with the coil maps that ``centre-maps`` made.
            density: ``auto`` takes rings and sectors of spokes or spiral arms of a slice, and the iteration of Pipe
                and Menon otherwise; ``pipe-menon`` takes that always.
        """

        combine: Literal["rss", "maps"] = "rss"
        density: Density = "auto"

    config: Config

    def prepare(self, context: Context) -> None:
        """See that the NUFFT is installed, before a scan waits for it."""
        require_library(context.torch_device)

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: Samples) -> Iterator[Image]:
        """Make one image."""
        if self.config.combine == "maps" and item.coil_maps is None:
            raise ConfigError(
                "gridding.combine is 'maps', but no stage before it made coil maps: add 'centre-maps'"
            )
        weights = density_of(item, self.config.density)
        transform = transform_of(flat_points(item), item.shape)
        coils = transform.adjoint(item.data.flatten(1) * weights.flatten())
        coils = coils.reshape(len(coils), *item.matrix[::-1])
        if self.config.combine == "maps":
            assert item.coil_maps is not None
            image = combine_with_maps(coils, item.coil_maps)
        else:
            image = root_sum_of_squares(coils).to(torch.float32)
        require_finite(image, item)
        yield image_of_samples(self._scan, item, image)
