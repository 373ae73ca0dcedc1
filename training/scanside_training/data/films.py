"""Task whose samples are made from films: the frames of an imaginary scan that undersamples each of them otherwise.

Frames are scanned as `scanside_training.data.slices` scans slices. Where the object lies, its contrast and phase,
and the coils are the same in all frames; lines and noise differ.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from scanside.recon.film_start import Start, film_start
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.scaling import film_scale
from scanside_training.data.appearance import random_appearance
from scanside_training.data.calibration import espirit_maps
from scanside_training.data.coils import random_maps
from scanside_training.data.placement import random_scan_of
from scanside_training.data.sampling import FrameMaskConfig, MaskConfig, random_frame_masks
from scanside_training.data.simulation import (
    Drawn,
    Sample,
    TaskConfig,
    complex_of,
    object_of,
    real_pairs,
    some_columns,
    white,
)

__all__ = ["DynamicTask", "film_window"]


def film_window(film: Tensor, time: int, rng: np.random.Generator) -> Tensor:
    """Consecutive frames of a beat, which closes: behind its last frame comes the first.

    Args:
        film: ``(t, y, x)``.
        time: how many frames; may be more than the film has.
        rng: draws the first one.

    Returns:
        ``(time, y, x)``.
    """
    first = int(rng.integers(len(film)))
    return film[(first + torch.arange(time)) % len(film)]


class DynamicTask(TaskConfig):
    """The network gets the zero-filled frames of a film, and of those that apply the scan's operator coil maps and
    masks.
    """

    takes: ClassVar = "films"

    kind: Literal["dynamic"] = "dynamic"
    time: int = Field(default=12, ge=2)
    """Frames of a sample: consecutive ones of a beat, from any of it on; the beat closes."""
    masks: FrameMaskConfig = FrameMaskConfig()
    """Which lines each frame acquires; ``simulation.masks`` is for single images."""
    start: Start | None = None
    """The film that networks begin with, where they take one: made of the whole film, before columns are left out."""

    @property
    def n_frames(self) -> int:
        """Frames of a sample."""
        return self.time

    def masks_of(self, masks: MaskConfig) -> FrameMaskConfig:
        """Its own."""
        return self.masks

    def lines_of(self, masks: MaskConfig, n: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """The lines of every frame, ``(frame, k1)``."""
        return random_frame_masks(self.masks, n, self.time, rng)[0]

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a film."""
        config, shape, rng, grid = drawn.config, drawn.shape, drawn.rng, drawn.grid
        frames = complex_of(
            film_window(pixels, self.time, rng).to(torch.promote_types(pixels.dtype, torch.float32))
        )
        object_ = random_scan_of(
            config.placement, random_appearance(config.appearance, frames, rng), grid, rng
        )
        maps = random_maps(config.coils, drawn.measured, shape.n_coils, grid, rng)
        noise = float(film_scale(object_)) / math.exp(rng.uniform(*np.log(config.snr)))
        lines, n_acs = random_frame_masks(self.masks, shape.k1, self.time, rng)
        mask = torch.from_numpy(lines)[:, :, None]

        coils = maps * object_[:, None]
        hybrid = to_kspace(coils, (-2,))
        hybrid += noise * white(tuple(hybrid.shape), rng)
        hybrid *= mask[:, None]
        if shape.n_coils > 1 and rng.random() < config.espirit.probability:
            # As at the scanner: the mean over time of the lines that all frames have.
            first = shape.k1 // 2 - n_acs // 2
            still = hybrid[:, :, first : first + n_acs].mean(0)
            maps = espirit_maps(config.espirit, to_kspace(still, (-1,)), grid)
        target = (maps.conj() * coils).sum(1)
        image = (maps.conj() * to_image(hybrid, (-2,))).sum(1)
        scale = film_scale(image)
        roi = object_of(target.abs().square().mean(0).sqrt())
        columns = some_columns(config.readout_crop, roi, rng)
        begun = {} if self.start is None else {self.start: film_start(image / scale, maps, mask[..., 0])}
        return {
            **{name: _planes(start[..., columns]) for name, start in begun.items()},
            "image": _planes(image[..., columns] / scale),
            "target": _planes(target[..., columns] / scale),
            "maps": real_pairs(maps[..., columns]),
            "mask": mask.float(),
            "roi": roi[None, :, columns].float(),
            "scale": scale,
            "noise": noise / scale,
        }


def _planes(film: Tensor) -> Tensor:
    """Complex ``(time, k1, k0)`` as float32 ``(2, time, k1, k0)``."""
    return torch.stack((film.real, film.imag))
