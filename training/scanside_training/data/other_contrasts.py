"""Scans whose slices were imaged before with another contrast, which the network sees beside them."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scanside.engines.roles import contrast_role
from scanside.errors import ConfigError
from scanside.recon.scaling import image_scale
from scanside_training.data.appearance import random_appearance
from scanside_training.data.placement import random_scan_of
from scanside_training.data.resample import Placement, sample_at
from scanside_training.data.scanned import ScannedSlice
from scanside_training.data.simulation import Drawn, complex_of
from scanside_training.data.slices import ImageToImage, scan_of

__all__ = ["OtherContrastsTask", "misplaced"]


class OtherContrastsTask(ImageToImage):
    """As ``image``; the network also sees magnitude images of other contrasts, which lie nearly as the scan does."""

    takes: ClassVar = "contrasts"

    kind: Literal["other-contrasts"] = "other-contrasts"
    names: tuple[str, ...] = Field(default=("t1",), min_length=1)
    """Of the source's contrasts behind the first, in their order; the network's inputs are ``contrast:NAME``."""
    shift: float = Field(default=0.7, ge=0)
    """Standard deviation of what the patient has moved by in each direction, in pixels of the slices."""
    rotation_deg: float = Field(default=0.5, ge=0)
    """The same of the rotation in the plane."""

    def scanned(self, pixels: Tensor, drawn: Drawn) -> tuple[ScannedSlice, dict[str, Tensor]]:
        """The scan, and images of the other contrasts in its field of view.

        Raises:
            ConfigError: slices have fewer contrasts than are named.
        """
        if len(pixels) <= len(self.names):
            raise ConfigError(
                f"slices have {len(pixels)} contrasts, of which the first is scanned, and the task names "
                f"{len(self.names)} others ({', '.join(self.names)}): name no more, or add weightings to the source"
            )
        config, rng = drawn.config, drawn.rng
        own = random_appearance(config.appearance, complex_of(pixels[0]), rng)
        others = [
            complex_of(
                misplaced(one, self.shift * rng.standard_normal(2), self.rotation_deg * rng.standard_normal())
            )
            for one in pixels[1 : 1 + len(self.names)]
        ]
        placed = random_scan_of(config.placement, torch.stack((own, *others)), drawn.grid, rng)
        images = (one.abs() for one in placed[1:])
        seen = {
            contrast_role(name): image / image_scale(image)
            for name, image in zip(self.names, images, strict=True)
        }
        return scan_of(placed[0], drawn), seen


def misplaced(image: Tensor, shift: np.ndarray[tuple[int], np.dtype[np.float64]], angle_deg: float) -> Tensor:
    """A slice ``(y, x)`` of a patient who has moved by a shift (y, x) in pixels and a rotation about the middle."""
    height, width = image.shape
    moved = Placement(
        pixels=(1.0, 1.0),
        angle=math.radians(angle_deg),
        center=(height // 2, width // 2),
        offset=(float(shift[0]), float(shift[1])),
    )
    return sample_at(image[None].float(), moved.points((height, width)))[0]
