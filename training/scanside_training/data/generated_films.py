"""Films of one beat of what nobody was scanned for: chests with a heart, and heaps of shapes that move.

A chest is the phantom of `scanside.simulate` as another individual: its size, position, contrast, shape and the plane
through it vary, as does the pace of its beat within the beat. All films close: behind the last frame comes the first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from scanside.simulate import PhantomConfig
from scanside.simulate.phantoms import ObjectState, Phantom, make_phantom
from scanside.simulate.phantoms.cardiac import HEART_CENTER_MM, LONG_AXIS
from scanside_training.data.generated import heap, rotation, texture
from scanside_training.data.resample import sample_at

__all__ = ["films_of"]

Film = npt.NDArray[np.float32]
Field = npt.NDArray[np.float64]

_FOV_MM = (230.0, 400.0)


def films_of(
    kind: Literal["shapes", "cardiac"], count: int, n_frames: int, size: int, rng: np.random.Generator
) -> list[Film]:
    """Films ``(n_frames, size, size)`` of one individual, intensities between 0 and about 1.

    Args:
        kind: which object.
        count: number of films: of planes through a chest.
        n_frames: frames of the beat.
        size: edge of a frame in pixels.
        rng: draws the object.
    """
    if kind == "shapes":
        return [_moving_heap(n_frames, size, rng) for _ in range(count)]
    weighting: Literal["t1", "t2", "pd"] = ("t1", "t2", "pd")[rng.integers(3)]
    phantom = make_phantom(PhantomConfig(kind="cardiac", weighting=weighting, seed=int(rng.integers(2**31))))
    stretch = rng.uniform(0.88, 1.12, 3)
    return [_chest(phantom, n_frames, size, stretch, rng) for _ in range(count)]


def _chest(phantom: Phantom, n_frames: int, size: int, stretch: Field, rng: np.random.Generator) -> Film:
    axis = (np.arange(size) - size // 2) * (rng.uniform(*_FOV_MM) / size)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    plane = np.stack([x, y, np.zeros_like(x)])
    if rng.random() < 0.6:  # along the short axis, more or less
        plane = np.einsum("ij,j...->i...", _across(LONG_AXIS), plane)
    tilt = rotation(rng.normal(0, (0.2, 0.2, 0.6)))
    points = np.einsum("ij,j...->i...", tilt, plane) * stretch[:, None, None]
    points += (np.array(HEART_CENTER_MM) + rng.normal(0, 18, 3))[:, None, None]
    # The deformation is that of the individual in this plane: few mm over several cm.
    points += np.stack([4 * texture(size, 4.0, rng, cutoff=6) for _ in range(3)])
    # Tissue is never as even as a phantom's.
    grain = np.exp(rng.uniform(0.02, 0.08) * texture(size, rng.uniform(1.0, 2.0), rng))
    frames = [
        phantom.evaluate(points.astype(np.float32), ObjectState(beat=float(beat)))[0]
        for beat in _paced(n_frames, rng)
    ]
    # Breathing and the beat itself move what is around the heart a little.
    return _warped(np.stack(frames) * grain, rng.uniform(0.0, 1.5), rng)


def _moving_heap(n_frames: int, size: int, rng: np.random.Generator) -> Film:
    still = heap(size, rng)
    return _warped(np.repeat(still[None], n_frames, axis=0), rng.uniform(2.0, 8.0) * size / 192, rng)


def _paced(n_frames: int, rng: np.random.Generator) -> Field:
    """Phases of the beat at the frames: systole takes more or less of it, and the first frame is anywhere."""
    time = np.arange(n_frames) / n_frames
    pace = rng.uniform(-0.12, 0.12)
    return np.asarray((time + pace * np.sin(2 * np.pi * time) + rng.random()) % 1.0)


def _warped(frames: npt.NDArray[np.floating], pixels: float, rng: np.random.Generator) -> Film:
    """Frames ``(t, y, x)`` bent by smooth displacements of so many pixels that come and go with the beat."""
    n_frames, size = len(frames), frames.shape[-1]
    time = 2 * np.pi * np.arange(n_frames) / n_frames
    shifts = np.zeros((n_frames, size, size, 2))
    for order in (1, 2):
        field = np.stack([texture(size, 3.0, rng, cutoff=5) for _ in range(2)], axis=-1)
        course = np.sin(order * time + rng.uniform(0, 2 * np.pi)) / order
        shifts += pixels * course[:, None, None, None] * field
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    grid = torch.from_numpy(np.stack((rows, columns), axis=-1) + shifts).float()
    images = torch.from_numpy(np.asarray(frames, np.float32))
    bent = [sample_at(image[None], points)[0] for image, points in zip(images, grid, strict=True)]
    return torch.stack(bent).clamp_min(0).numpy()


def _across(axis: Field) -> Field:
    """Rotation ``(3, 3)`` that turns z into an axis."""
    first = np.cross((0.0, 1.0, 0.0), axis)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first), axis], axis=1)
