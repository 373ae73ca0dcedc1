"""Measures of volumes: all slices of one, stacked, with one fit and one peak, as fastMRI has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scanside.metrics import Mask, Real
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.scores import Measuring, Score, measure_volume

__all__ = ["Volumes"]


@dataclass(frozen=True, eq=False)
class _Slice:
    """A case, and the magnitudes that were made of it by candidate."""

    case: Case
    images: Mapping[str, npt.NDArray[np.float32]]


@dataclass(eq=False)
class Volumes:
    """Collects slices, and measures the volumes that they make.

    A film is a volume of its own, and so is a slice that belongs to none. Slices of another matrix are another
    volume.

    Attributes:
        measuring: how and where.
    """

    measuring: Measuring
    _slices: dict[tuple[str, tuple[int, ...]], list[_Slice]] = field(default_factory=dict)

    def add(self, case: Case, images: Mapping[str, torch.Tensor]) -> None:
        """Keep a case and its images ``(y, x)``, real or complex, by candidate."""
        key = (case.volume or case.name, case.whole.shape)
        kept = {name: np.abs(image.numpy()).astype(np.float32) for name, image in images.items()}
        self._slices.setdefault(key, []).append(_Slice(case, kept))

    def scores(self) -> list[Score]:
        """Measures of every volume of which a candidate made all slices.

        Raises:
            ScanError: a reference is zero everywhere.
            NonFiniteError: a value is NaN or infinite.
        """
        return [one for title, slices in self._titled() for one in self._scores(title, slices)]

    def cases(self) -> dict[str, list[str]]:
        """Names of the cases of each volume."""
        return {title: [one.case.name for one in slices] for title, slices in self._titled()}

    def incomplete(self) -> dict[str, list[str]]:
        """By candidate, the volumes of which it made some slices only."""
        found: dict[str, list[str]] = {}
        for title, slices in self._titled():
            for name in dict.fromkeys(name for one in slices for name in one.images):
                if not all(name in one.images for one in slices):
                    found.setdefault(name, []).append(title)
        return found

    def _titled(self) -> Iterator[tuple[str, list[_Slice]]]:
        names = [name for name, _ in self._slices]
        for (name, shape), slices in self._slices.items():
            yield (f"{name} {shape[-2]}×{shape[-1]}" if names.count(name) > 1 else name), slices

    def _scores(self, title: str, slices: list[_Slice]) -> Iterator[Score]:
        cases = [one.case for one in slices]
        whole = _scaled(cases, [case.whole for case in cases])
        inside = _scaled(cases, [case.inside for case in cases])
        masks = [self.measuring.masks(case) for case in cases]
        nowhere = [np.zeros_like(case.roi) for case in cases]
        regions = {
            name: _masks(cases, [of.get(name, none) for of, none in zip(masks, nowhere, strict=True)])
            for name in dict.fromkeys(name for of in masks for name in of)
        }
        roi = _masks(cases, [case.roi for case in cases])
        strata = _shared([case.strata for case in cases])
        conditions = _means([case.conditions for case in cases])
        for name in slices[0].images:
            if all(name in one.images for one in slices):
                pixels = _scaled(cases, [one.images[name] for one in slices])
                values = measure_volume(pixels, whole, inside, roi, regions, self.measuring.definition)
                yield Score(name, title, strata, values, conditions=conditions)


def _scaled(cases: Sequence[Case], images: Sequence[npt.NDArray[Any]]) -> Real:
    """``(z, y, x)`` in one unit; frames of a film follow each other."""
    pairs = zip(cases, images, strict=True)
    return np.concatenate([_stack(image).astype(np.float64) * case.scale for case, image in pairs])


def _masks(cases: Sequence[Case], masks: Sequence[Mask]) -> Mask:
    """``(z, y, x)``; of a film the same in all frames."""
    pairs = zip(cases, masks, strict=True)
    return np.concatenate([np.broadcast_to(mask, _stack(case.whole).shape) for case, mask in pairs])


def _stack(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(y, x)`` or ``(time, y, x)`` as ``(z, y, x)``."""
    return image if image.ndim == 3 else image[None]


def _shared(strata: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Those that all slices have alike."""
    return {name: value for name, value in strata[0].items() if all(one.get(name) == value for one in strata)}


def _means(conditions: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of the conditions that all slices have."""
    names = [name for name in conditions[0] if all(name in one for one in conditions)]
    return {name: float(np.mean([one[name] for one in conditions])) for name in names}
