"""One image or film to reconstruct, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from scanside.metrics import Mask, Real
from scanside_training.evaluation.problem import Problem
from scanside_training.models import Batch

__all__ = ["Case", "Cases", "Recorded", "spread"]


@dataclass(frozen=True, eq=False)
class Recorded:
    """Where a case lies in a file, for what reads files.

    Attributes:
        path: ISMRMRD file of the scan.
        lines: ``(k1,)`` bool, the lines that are kept of a fully sampled scan; None where all that it holds is.
        slice: counter of the slice.
        index: number of the image among those of the slice.
    """

    path: Path
    lines: npt.NDArray[np.bool_] | None
    slice: int
    index: int


@dataclass(frozen=True, eq=False)
class Case:
    """One undersampled image with its truth, or a film.

    Attributes:
        name: short, and no other case's.
        strata: values by which tables are divided, such as ``{"acceleration": "4", "subject": "5"}``.
        whole: ``(y, x)`` magnitude, the reference over the whole image; of a film ``(time, y, x)``.
        inside: the same shape, the reference inside the object.
        roi: ``(y, x)``, where the object is, in all frames of a film.
        problem: what was acquired, with coil maps; None of a film, and where only an image is known.
        sample: what networks get in training, without a batch axis, where the case was simulated.
        recorded: the file that holds it, where there is one.
        identities: of the subject and the recording, as records of trainings tell what was seen.
        conditions: numbers of the scan that measures may be drawn over, such as ``{"snr": 32.5, "acs": 24}``.
        volume: name of the volume that it is a slice of; by default it is one of its own.
        scale: factor that brings reference and images to the unit of all slices of the volume.
    """

    name: str
    strata: Mapping[str, str]
    whole: Real
    inside: Real
    roi: Mask
    problem: Problem | None = None
    sample: Batch = field(default_factory=dict)
    recorded: Recorded | None = None
    identities: frozenset[str] = frozenset()
    conditions: Mapping[str, float] = field(default_factory=dict)
    volume: str = ""
    scale: float = 1.0

    @cached_property
    def fingerprint(self) -> str:
        """Tells the references of the case from all others: 16 hexadecimal digits."""
        arrays = (self.whole, self.inside, self.roi)
        digest = sha256(repr([one.shape for one in arrays]).encode())
        for one in arrays:
            digest.update(np.ascontiguousarray(one).tobytes())
        return digest.hexdigest()[:16]

    @property
    def is_film(self) -> bool:
        """Whether it has frames."""
        return self.whole.ndim == 3

    @property
    def n_images(self) -> int:
        """Frames of a film, else one."""
        return len(self.whole) if self.is_film else 1


class Cases(Protocol):
    """A data set: iterating makes its cases one by one, and any of them can be made alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Case: ...

    def __iter__(self) -> Iterator[Case]: ...


def spread(n: int, wanted: int) -> set[int]:
    """Numbers of some of n cases, spread evenly; all of them where more are wanted."""
    return {int((i + 0.5) * n / wanted) for i in range(min(n, wanted))} if wanted < n else set(range(n))
