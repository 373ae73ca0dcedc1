"""Knees that nobody was scanned for, seen from the side, with or without a finding whose place is known.

They have the parts by which a finding is told from what is always bright: marrow with a dark rim, cartilage, fluid in
the joint, a kneecap, muscle and fat. A finding is a small bright blob in the marrow near the joint, as oedema is in
fat-suppressed images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scanside_training.data.generated import blob, texture

__all__ = ["KneeSlice", "knee"]

_FEMUR, _TIBIA, _PATELLA = (
    ((-0.36, 0.05), (0.36, 0.3)),
    ((0.42, 0.0), (0.32, 0.27)),
    ((-0.12, -0.46), (0.14, 0.09)),
)
"""Centre (y, x) and extent, as parts of half the image."""

Field2 = npt.NDArray[np.float64]


class KneeSlice(NamedTuple):
    """A slice of a knee.

    Attributes:
        pixels: ``(y, x)`` float32, between 0 and about 1.
        finding: ``(y, x)``, where the finding lies; False everywhere where there is none.
    """

    pixels: npt.NDArray[np.float32]
    finding: npt.NDArray[np.bool_]


def knee(size: int, n_slices: int, rng: np.random.Generator, *, finding: bool) -> list[KneeSlice]:
    """Slices of one knee, one after the other; a finding lies in one of them.

    Args:
        size: edge of a slice in pixels.
        n_slices: number of slices.
        rng: draws the knee.
        finding: whether there is one.
    """
    shift, stretch = rng.normal(0, 0.03, 2), rng.uniform(0.9, 1.1, 2)
    contrast = rng.uniform(0.85, 1.15, 6)
    where = int(rng.integers(n_slices)) if finding else -1
    return [_slice(size, rng, shift, stretch, contrast, place == where) for place in range(n_slices)]


def _slice(
    size: int, rng: np.random.Generator, shift: Field2, stretch: Field2, contrast: Field2, finding: bool
) -> KneeSlice:
    axis = np.linspace(-1, 1, size)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    y, x = (y - shift[0]) * stretch[0], (x - shift[1]) * stretch[1]

    def covered(distance: Field2) -> Field2:
        """0 outside, 1 inside, soft over two pixels."""
        return np.asarray(np.clip(distance * size / 4 + 0.5, 0, 1))

    skin = blob(y, x, (0.0, 0.0), (0.86, 0.66), rng)
    image = 0.8 * contrast[0] * covered(skin)
    image += covered(skin - 0.08) * (0.35 * contrast[1] - image)
    marrow = np.zeros_like(image)
    for center, extent in (_FEMUR, _TIBIA, _PATELLA):
        bone = blob(y, x, center, extent, rng)
        image += covered(bone + 0.06) * (0.6 * contrast[2] - image)  # cartilage
        image += covered(bone + 0.02) * (0.05 - image)  # the rim, which gives no signal
        image += covered(bone - 0.02) * (0.3 * contrast[3] - image)
        if center != _PATELLA[0]:
            marrow = np.maximum(marrow, covered(bone - 0.1))
    fluid = 0.03 * (1 - np.hypot((y - 0.05) / 0.03, x / rng.uniform(0.2, 0.32)))
    image += covered(fluid) * (0.9 * contrast[4] - image)
    place = np.zeros(image.shape, np.bool_)
    if finding:
        near = np.argwhere((marrow > 0.9) & (skin > 0.15) & (np.abs(y - 0.05) < 0.42))
        row, column = near[rng.integers(len(near))]
        center = (float(y[row, column]), float(x[row, column]))
        lesion = blob(y, x, center, (rng.uniform(0.06, 0.1), rng.uniform(0.06, 0.1)), rng)
        image += covered(lesion) * (0.85 * contrast[5] - image)
        place = lesion > 0
    image *= covered(skin)
    grain = np.exp(0.06 * texture(size, 1.5, rng))
    return KneeSlice(np.asarray(image * grain, np.float32), place)
