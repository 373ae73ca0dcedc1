"""Images with a known place in the patient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.items import Image
from scanside.mrd.dtypes import IMAGE_TYPES
from scanside.mrd.messages import ImageMessage

MakeImage = Callable[..., Image]


@pytest.fixture
def make_image() -> MakeImage:
    """Makes an image ``(z, y, x)`` with directions in its header."""

    def make(
        pixels: npt.NDArray[np.generic],
        *,
        directions: tuple[tuple[float, float, float], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        voxel_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
        kind: str = "magnitude",
        **counters: int,
    ) -> Image:
        message = ImageMessage.from_array(pixels[None])
        header = message.header
        for name, direction in zip(("read_dir", "phase_dir", "slice_dir"), directions, strict=True):
            header[name] = direction
        header["field_of_view"] = np.multiply(voxel_mm, pixels.shape[::-1])
        header["image_type"] = IMAGE_TYPES[kind]
        header["image_series_index"] = 1
        for name, value in counters.items():
            header[name] = value
        return Image(torch.from_numpy(pixels[None].copy()), header)

    return make
