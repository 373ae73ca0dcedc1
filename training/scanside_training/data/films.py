"""From a film to a training sample: the frames of an imaginary scan that undersamples each of them otherwise.

Frames are scanned as `scanside_training.data.simulation` scans slices. Where the object lies, its contrast and phase,
and the coils are the same in all frames; lines and noise differ.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scanside.recon.film_start import film_start
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.scaling import film_scale
from scanside_training.data.appearance import random_appearance
from scanside_training.data.calibration import espirit_maps
from scanside_training.data.coils import random_maps
from scanside_training.data.placement import random_scan_of
from scanside_training.data.sampling import random_frame_masks
from scanside_training.data.simulation import (
    DynamicTask,
    SampleShape,
    SimulationConfig,
    complex_of,
    object_of,
    real_pairs,
    some_columns,
    white,
)

__all__ = ["film_window", "simulate_film"]


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


def simulate_film(
    config: SimulationConfig,
    film: Tensor,
    shape: SampleShape,
    rng: np.random.Generator,
    measured: Tensor | None = None,
) -> dict[str, Tensor]:
    """Scan a film.

    Args:
        config: what may be drawn; its task is a `DynamicTask`.
        film: ``(t, y, x)``, real or complex, of any size.
        shape: coils and matrix.
        rng: draws everything.
        measured: ``config.coils.load()``.

    Returns:
        float32 tensors, all intensities divided by ``scale``:
        ``image``: ``Aᴴ y`` of each frame, ``(2, time, k1, k0)``;
        ``target``: what should come out, the same shape: the noise-free coil images combined with the maps that the
        network gets;
        ``maps``: ``(coil, 2, k1, k0)``, the same for all frames;
        ``mask``: ``(time, k1, 1)``, 1 where a line was acquired, the centre of k-space at ``k1 // 2``;
        ``roi``: ``(1, k1, k0)``, 1 inside the object, the same for all frames;
        ``scale``: ``()``, `scanside.recon.scaling.film_scale` of ``Aᴴ y``;
        ``noise``: ``()``, standard deviation of the noise's real and imaginary part per coil and voxel;
        ``low_rank_sparse``: the film that networks begin with, like ``image``, where the task says so.

    Raises:
        ConfigError: the central lines are more than the acceleration leaves.
    """
    task = config.task
    assert isinstance(task, DynamicTask)
    grid = (shape.k1, shape.k0)
    frames = complex_of(film_window(film, task.time, rng).to(torch.promote_types(film.dtype, torch.float32)))
    object_ = random_scan_of(config.placement, random_appearance(config.appearance, frames, rng), grid, rng)
    maps = random_maps(config.coils, measured, shape.n_coils, grid, rng)
    noise = float(film_scale(object_)) / math.exp(rng.uniform(*np.log(config.snr)))
    lines, n_acs = random_frame_masks(task.masks, shape.k1, task.time, rng)
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
    begun = {} if task.start is None else {task.start: film_start(image / scale, maps, mask[..., 0])}
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
