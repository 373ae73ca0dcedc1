"""Rectangles that somebody marked in slices, such as findings."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Boxes", "no_boxes", "region_of"]

Boxes: TypeAlias = npt.NDArray[np.int64]
"""``(n, 4)``: first row, first column, rows and columns of each, in pixels of the slice as it is stored."""


def no_boxes() -> Boxes:
    """Those of a slice in which nothing is marked."""
    return np.zeros((0, 4), np.int64)


def region_of(boxes: Boxes, shape: tuple[int, int]) -> Tensor:
    """What the boxes cover together.

    Args:
        boxes: of one slice.
        shape: its pixels (y, x).

    Returns:
        ``shape``, booleans.
    """
    region = torch.zeros(shape, dtype=torch.bool)
    for row, column, rows, columns in boxes.tolist():
        region[row : row + rows, column : column + columns] = True
    return region
