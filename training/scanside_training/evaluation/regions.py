"""Where measures are taken beside the whole image and the object: what somebody marked, drew, or segmented.

Contrast is the difference of the means of two regions, and CNR its magnitude over the noise, the root mean square of
both standard deviations: Song et al., *Automated region detection based on the contrast-to-noise ratio in
near-infrared tomography*, Appl Opt 43:1053-1062 (2004), with equal weights.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from scanside.errors import ConfigError, ShapeError
from scanside.metrics import Mask, Real
from scanside_training.data.boxes import region_of
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case

__all__ = ["AnyRegion", "Boxes", "Contrast", "Marked", "Segmentation", "contrast_and_cnr"]

_GAP, _RING = 2, 6
"""Pixels around a region that belong to neither, and to which its surroundings reach."""


class Marked(Settings):
    """What somebody marked in the data's slices, such as the boxes of fastMRI+; cases without have no figure."""

    kind: Literal["marked"] = "marked"

    def mask(self, case: Case) -> Mask | None:
        """``(y, x)``; None where nothing is marked."""
        if "marked" not in case.sample:
            return None
        marked = case.sample["marked"][0].numpy() > 0
        return marked if marked.any() else None


class Boxes(Settings):
    """The same rectangles in every image."""

    kind: Literal["boxes"] = "boxes"
    boxes: tuple[tuple[int, int, int, int], ...] = Field(min_length=1)
    """First row, first column, rows and columns of each."""

    def mask(self, case: Case) -> Mask | None:
        """``(y, x)``.

        Raises:
            ShapeError: a box reaches out of the image.
        """
        n_rows, n_columns = case.roi.shape
        for row, column, rows, columns in self.boxes:
            if (
                min(row, column) < 0
                or min(rows, columns) < 1
                or row + rows > n_rows
                or column + columns > n_columns
            ):
                raise ShapeError(
                    f"the box {(row, column, rows, columns)} (row, column, rows, columns) does not lie within the "
                    f"{n_rows} × {n_columns} pixels of {case.name}"
                )
        return region_of(np.array(self.boxes, np.int64), (n_rows, n_columns)).numpy()


class Segmentation(Settings):
    """One label of segmentations, for data that are read from files."""

    kind: Literal["segmentation"] = "segmentation"
    files: dict[str, Path] = Field(min_length=1)
    """By subject, a ``.npy`` file of labels ``(y, x)``, or ``(slice, y, x)``."""
    label: int = Field(default=1, ge=1)

    def mask(self, case: Case) -> Mask | None:
        """``(y, x)``; None where this subject has no file or this slice no such label.

        Raises:
            ConfigError: the file is not there, or it holds volumes and the case has no number in one.
            ShapeError: the labels are those of another matrix.
        """
        path = self.files.get(case.strata.get("subject", ""))
        if path is None:
            return None
        labels = _labels(path)
        if labels.ndim == 3:
            if case.recorded is None or case.recorded.slice >= len(labels):
                raise ConfigError(
                    f"{path} has the labels of {len(labels)} slices, and {case.name} is none of them: give "
                    "(y, x) for one slice, or a volume for files with several"
                )
            labels = labels[case.recorded.slice]
        if labels.shape != case.roi.shape:
            raise ShapeError(
                f"the labels of {path} have {labels.shape} pixels, and {case.name} has {case.roi.shape}"
            )
        found: Mask = labels == self.label
        return found if found.any() else None


AnyRegion = Annotated[Marked | Boxes | Segmentation, Field(discriminator="kind")]


class Contrast(Settings):
    """Two regions whose difference is looked at."""

    of: str
    """Name of the one region."""
    against: str | None = None
    """Name of the other; by default what lies three to six pixels around the one, within the object."""

    def masks(self, regions: dict[str, Mask], roi: Mask) -> tuple[Mask, Mask] | None:
        """Both regions; None where an image lacks one of them."""
        if self.of not in regions:
            return None
        one = regions[self.of]
        if self.against is not None:
            return (one, regions[self.against]) if self.against in regions else None
        grown = [ndimage.binary_dilation(one, iterations=n) for n in (_GAP, _RING)]
        around = grown[1] & ~grown[0] & roi
        return (one, around) if around.any() else None


def contrast_and_cnr(image: Real, one: Mask, other: Mask) -> tuple[float, float | None]:
    """Difference of the means of two regions, and the same over the noise in them.

    Args:
        image: ``(y, x)`` magnitudes.
        one: a region, same shape.
        other: another.

    Returns:
        In the image's unit, and without one; None where both regions are even.
    """
    difference = float(image[one].mean() - image[other].mean())
    noise = float(np.sqrt(0.5 * (image[one].var() + image[other].var())))
    return difference, abs(difference) / noise if noise else None


@cache
def _labels(path: Path) -> npt.NDArray[np.int64]:
    if not path.is_file():
        raise ConfigError(f"there is no segmentation {path}")
    labels = np.load(path, allow_pickle=False)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iub":
        raise ShapeError(
            f"{path} has the shape {labels.shape} of {labels.dtype}: labels are whole, (y, x) or (slice, y, x)"
        )
    return np.asarray(labels, np.int64)
