"""Measures of single images and of films, and their mean and spread by strata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import ShapeError
from scanside.metrics import Mask, Real, fitted
from scanside_training.detail import detail
from scanside_training.evaluation.case import Case
from scanside_training.measures import measure
from scanside_training.perceived import LEAST, perceived

__all__ = ["MEASURES", "Score", "Summary", "divisions", "score", "summaries"]

MEASURES = (
    *("psnr", "ssim", "psnr_inside", "ssim_inside", "nmse", "nmse_inside", "mse"),
    *("nrmse", "hfen", "vif", "haarpsi", "kept", "invented"),
)
"""In the order of tables."""

ALL = "all"
"""The stratum of everything."""

_BORDER = 3  # half of SSIM's window: where nothing of the object is farther inside, it has no SSIM


@dataclass(frozen=True)
class Score:
    """Measures of one image, or means over the frames of a film.

    Attributes:
        candidate: whose.
        case: of which.
        strata: of the case.
        values: by measure; those inside are missing where there is no object, and those that
            look at structure where the image is too small.
        learned: whether the candidate was trained on this subject or recording.
        told: what the candidate told of its image, by kind.
    """

    candidate: str
    case: str
    strata: Mapping[str, str]
    values: Mapping[str, float]
    learned: bool = False
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """One row of a table.

    Attributes:
        candidate: whose.
        stratum: what the images have in common, ``all`` for nothing.
        value: of the stratum.
        n: number of images.
        means: by measure.
        deviations: standard deviations over the images, by measure; 0 for a single one.
    """

    candidate: str
    stratum: str
    value: str
    n: int
    means: Mapping[str, float]
    deviations: Mapping[str, float]


def score(
    candidate: str,
    case: Case,
    image: torch.Tensor,
    seen: frozenset[str] = frozenset(),
    told: Mapping[str, Sequence[str]] | None = None,
) -> Score:
    """Compare an image with the case's references, each after the best scalar fit; a film frame by frame.

    Args:
        candidate: who made it.
        case: with the references.
        image: ``(y, x)`` real or complex, or a film ``(time, y, x)``.
        seen: what the candidate was trained on, see `scanside_training.evaluation.leaks`.
        told: what it told of the image.

    Raises:
        ShapeError: it has another shape than the reference.
        NonFiniteError: a value is NaN or infinite.
        ScanError: the reference is zero everywhere.
    """
    pixels = image.detach().cpu().numpy()
    learned = bool(case.identities & seen)
    if not case.is_film:
        values = _values(pixels, case.whole, case.inside, case.roi)
        return Score(candidate, case.name, case.strata, values, learned, told or {})
    if pixels.shape != case.whole.shape:
        raise ShapeError(f"a film of {pixels.shape} cannot be compared with one of {case.whole.shape}")
    frames = [
        _values(frame, whole, inside, case.roi)
        for frame, whole, inside in zip(pixels, case.whole, case.inside, strict=True)
    ]
    values = {name: float(np.mean([one[name] for one in frames])) for name in frames[0]}
    return Score(candidate, case.name, case.strata, values, learned, told or {})


def _values(pixels: npt.NDArray[Any], whole: Real, inside: Real, roi: Mask) -> dict[str, float]:
    values = dict(measure(pixels, whole)._asdict())
    values["nrmse"] = values["nmse"] ** 0.5
    if min(whole.shape) >= LEAST:
        scaled, truth = fitted(pixels, whole)
        values |= {**perceived(scaled, truth), **detail(scaled, truth)}
    if _usable(roi, inside):
        values |= {f"{name}_inside": value for name, value in measure(pixels, inside, roi)._asdict().items()}
    return values


def summaries(scores: Sequence[Score]) -> list[Summary]:
    """Mean and standard deviation for each candidate: over all images, and over those of each stratum.

    Strata that are the same for all images, or divide them as another one does, are left out.
    """
    candidates = list(dict.fromkeys(one.candidate for one in scores))
    rows = [_summary(candidate, ALL, "", scores) for candidate in candidates]
    for stratum, value in divisions(scores):
        chosen = [one for one in scores if one.strata.get(stratum) == value]
        present = {one.candidate for one in chosen}
        rows += [
            _summary(candidate, stratum, value, chosen) for candidate in candidates if candidate in present
        ]
    return rows


def divisions(scores: Iterable[Score]) -> Iterator[tuple[str, str]]:
    """Strata with more than one value, and each with its values; of strata that divide images alike, the first."""
    found: dict[str, dict[str, set[str]]] = {}
    for one in scores:
        for stratum, value in one.strata.items():
            found.setdefault(stratum, {}).setdefault(value, set()).add(one.case)
    seen: set[frozenset[frozenset[str]]] = set()
    for stratum, values in found.items():
        division = frozenset(map(frozenset, values.values()))
        if len(values) > 1 and division not in seen:
            seen.add(division)
            yield from ((stratum, value) for value in sorted(values, key=_order))


def _order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _summary(candidate: str, stratum: str, value: str, scores: Iterable[Score]) -> Summary:
    own = [one.values for one in scores if one.candidate == candidate]
    columns = {name: [values[name] for values in own if name in values] for name in MEASURES}
    present = {name: np.array(column) for name, column in columns.items() if column}
    return Summary(
        candidate,
        stratum,
        value,
        len(own),
        {name: float(column.mean()) for name, column in present.items()},
        {name: float(column.std(ddof=1)) if len(column) > 1 else 0.0 for name, column in present.items()},
    )


def _usable(roi: Mask, reference: Real) -> bool:
    inner = roi[_BORDER:-_BORDER, _BORDER:-_BORDER]
    return bool(inner.any() and reference[roi].any())
