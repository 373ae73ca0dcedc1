"""fastMRI's knees and brains, with the boxes of fastMRI+."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from scanside_training.data.annotations import Place, boxes_of
from scanside_training.data.boxes import Boxes
from scanside_training.data.measured_folders import MeasuredFolder
from scanside_training.data.measured_slices import MeasuredSlices
from scanside_training.data.sources import SliceSource

__all__ = ["FastMri"]


class FastMri(MeasuredFolder):
    """A folder of fastMRI's knees or brains, such as ``multicoil_train``."""

    dataset: ClassVar = "fastmri"

    kind: Literal["fastmri"] = "fastmri"
    annotations: Path | None = None
    """Table of fastMRI+ (``knee.csv`` or ``brain.csv``), whose boxes samples then bring as ``marked``."""
    labels: tuple[str, ...] = ()
    """Those of the table that count, such as ``Meniscus Tear``; all by default."""

    @model_validator(mode="after")
    def _labels_of_a_table(self) -> FastMri:
        if self.labels and self.annotations is None:
            raise ValueError("labels are those of a table of boxes: name it (annotations), or leave them out")
        return self

    def boxes(self, slices: SliceSource) -> Sequence[Boxes] | None:
        """See `SourceConfig.boxes`.

        Raises:
            ConfigError: the table cannot be read, or does not belong to the files.
        """
        if self.annotations is None:
            return None
        assert isinstance(slices, MeasuredSlices)
        # Boxes are drawn on images as they are stored, whose rows run along the readout.
        stored = [
            Place(path.stem, place.slice, size[1], size[0])
            for (path, place), size in zip(slices.places, slices.sizes, strict=True)
        ]
        found = boxes_of(self.annotations, stored, self.labels)
        shifts = (np.array([offset, 0, 0, 0]) for offset in slices.offsets)
        return [boxes[:, [1, 0, 3, 2]] + shift for boxes, shift in zip(found, shifts, strict=True)]
