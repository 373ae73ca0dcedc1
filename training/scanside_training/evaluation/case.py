"""One image to reconstruct, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from scanside.metrics import Mask, Real
from scanside_training.evaluation.problem import Problem
from scanside_training.models import Batch

__all__ = ["Case", "Cases", "Recorded"]


@dataclass(frozen=True, eq=False)
class Recorded:
    """Where a case lies in a file, for what reads files.

    Attributes:
        path: ISMRMRD file of the fully sampled scan.
        lines: ``(k1,)`` bool, the lines that are kept of it.
        slice: counter of the slice.
        index: number of the image among those of the slice.
    """

    path: Path
    lines: npt.NDArray[np.bool_]
    slice: int
    index: int


@dataclass(frozen=True, eq=False)
class Case:
    """One undersampled image with its truth.

    Attributes:
        name: short, and no other case's.
        strata: values by which tables are divided, such as ``{"acceleration": "4", "subject": "5"}``.
        whole: ``(y, x)`` magnitude, the reference over the whole image.
        inside: ``(y, x)`` magnitude, the reference inside the object.
        roi: ``(y, x)``, where the object is.
        problem: what was acquired, with coil maps; None where only an image is known.
        sample: what networks get in training, without a batch axis, where the case was simulated.
        recorded: the file that holds it, where there is one.
    """

    name: str
    strata: Mapping[str, str]
    whole: Real
    inside: Real
    roi: Mask
    problem: Problem | None = None
    sample: Batch = field(default_factory=dict)
    recorded: Recorded | None = None


class Cases(Protocol):
    """A data set: iterating makes its cases one by one, and any of them can be made alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Case: ...

    def __iter__(self) -> Iterator[Case]: ...
