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
from scanside_training.evaluation.definitions import DEFINITIONS, Definition
from scanside_training.evaluation.edges import sharpness
from scanside_training.evaluation.regions import AnyRegion, Contrast, contrast_and_cnr
from scanside_training.measures import Measures, measure
from scanside_training.perceived import LEAST, perceived

__all__ = [
    "ALL",
    "MEASURES",
    "Measuring",
    "Score",
    "Summary",
    "divisions",
    "is_error",
    "measure_volume",
    "region_measures",
    "score",
    "subject_means",
    "summaries",
]

MEASURES = (
    *("psnr", "ssim", "psnr_inside", "ssim_inside", "nmse", "nmse_inside", "mse"),
    *("nrmse", "hfen", "vif", "haarpsi", "kept", "invented", "sharpness"),
)
"""In the order of tables; those of regions follow, as ``psnr@region``."""

ALL = "all"
"""The stratum of everything."""

_IN_REGIONS = ("psnr", "ssim", "nmse")
_ERRORS = ("mse", "nmse", "nrmse", "hfen", "invented")


def is_error(name: str) -> bool:
    """Whether a measure is better the smaller it is."""
    return name.partition("@")[0].removesuffix("_inside") in _ERRORS


@dataclass(frozen=True)
class Measuring:
    """How and where images are measured.

    Attributes:
        definition: of PSNR, SSIM and NMSE.
        regions: where beside the whole image and the object, by name.
        contrasts: between regions, by name.
    """

    definition: Definition = DEFINITIONS["scanside"]
    regions: Mapping[str, AnyRegion] = field(default_factory=dict)
    contrasts: Mapping[str, Contrast] = field(default_factory=dict)

    def masks(self, case: Case) -> dict[str, Mask]:
        """``(y, x)`` of each region that a case has.

        Raises:
            ConfigError: a file of a region is not there.
            ShapeError: a region does not fit the case.
        """
        found = {name: region.mask(case) for name, region in self.regions.items()}
        return {name: mask for name, mask in found.items() if mask is not None}


@dataclass(frozen=True)
class Score:
    """Measures of one image, or means over the frames of a film; or of a volume.

    Attributes:
        candidate: whose.
        case: of which; of a volume its name.
        strata: of the case.
        values: by measure; those inside are missing where there is no object, and those that
            look at structure where the image is too small.
        learned: whether the candidate was trained on this subject or recording.
        told: what the candidate told of its image, by kind.
        conditions: numbers of the scan.
        data: the fingerprint of the references.
    """

    candidate: str
    case: str
    strata: Mapping[str, str]
    values: Mapping[str, float]
    learned: bool = False
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    conditions: Mapping[str, float] = field(default_factory=dict)
    data: str = ""

    @property
    def subject(self) -> str | None:
        """Whose image it is; None where the data do not say."""
        return self.strata.get("subject")


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
    measuring: Measuring | None = None,
) -> Score:
    """Compare an image with the case's references; a film frame by frame.

    Args:
        candidate: who made it.
        case: with the references.
        image: ``(y, x)`` real or complex, or a film ``(time, y, x)``.
        seen: what the candidate was trained on, see `scanside_training.evaluation.leaks`.
        told: what it told of the image.
        measuring: how and where; by default after the best scalar fit, without regions of one's own.

    Raises:
        ShapeError: it has another shape than the reference, or a region does not fit.
        NonFiniteError: a value is NaN or infinite.
        ScanError: the reference is zero everywhere.
        ConfigError: a file of a region is not there.
    """
    measuring = measuring or Measuring()
    pixels = image.detach().cpu().numpy()
    learned = bool(case.identities & seen)
    regions = measuring.masks(case)
    if not case.is_film:
        values = _values(pixels, case.whole, case.inside, case.roi, regions, measuring)
    elif pixels.shape != case.whole.shape:
        raise ShapeError(f"a film of {pixels.shape} cannot be compared with one of {case.whole.shape}")
    else:
        frames = [
            _values(frame, whole, inside, case.roi, regions, measuring)
            for frame, whole, inside in zip(pixels, case.whole, case.inside, strict=True)
        ]
        shared = [name for name in frames[0] if all(name in one for one in frames)]
        values = {name: float(np.mean([one[name] for one in frames])) for name in shared}
    return Score(
        candidate, case.name, case.strata, values, learned, told or {}, case.conditions, case.fingerprint
    )


def measure_volume(
    pixels: npt.NDArray[Any],
    whole: Real,
    inside: Real,
    roi: Mask,
    regions: Mapping[str, Mask],
    definition: Definition,
) -> dict[str, float]:
    """Measures of a slice, or of a volume ``(z, y, x)`` as one: one fit, and one peak, the reference's maximum."""
    values = _named(measure(pixels, whole, fit=definition.fit, window=definition.window), "")
    values["nrmse"] = values["nmse"] ** 0.5
    if _usable(roi, inside, definition):
        values |= _named(
            measure(pixels, inside, roi, fit=definition.fit, window=definition.window), "_inside"
        )
    scaled = _scaled(pixels, whole, definition)[0]
    for name, region in regions.items():
        if _usable(region, whole, definition):
            found = measure(scaled, whole, region, fit=False, window=definition.window)
            values |= {f"{each}@{name}": getattr(found, each) for each in _IN_REGIONS}
    return values


def _values(
    pixels: npt.NDArray[Any],
    whole: Real,
    inside: Real,
    roi: Mask,
    regions: Mapping[str, Mask],
    measuring: Measuring,
) -> dict[str, float]:
    definition = measuring.definition
    values = measure_volume(pixels, whole, inside, roi, regions, definition)
    scaled, truth = _scaled(pixels, whole, definition)
    if min(whole.shape) >= LEAST:
        values |= {**perceived(scaled, truth), **detail(scaled, truth)}
    if (found := sharpness(scaled, truth)) is not None:
        values["sharpness"] = found
    for name, contrast in measuring.contrasts.items():
        if (pair := contrast.masks(dict(regions), roi)) is not None:
            values |= _contrast(name, scaled, truth, *pair)
    return values


def _named(found: Measures, suffix: str) -> dict[str, float]:
    return {f"{name}{suffix}": value for name, value in found._asdict().items()}


def _scaled(pixels: npt.NDArray[Any], whole: Real, definition: Definition) -> tuple[Real, Real]:
    """Magnitudes of both, the image's fitted to the reference where the definition says so."""
    scaled, truth = fitted(pixels, whole)
    return (scaled if definition.fit else np.abs(pixels).astype(np.float64)), truth


def _contrast(name: str, image: Real, truth: Real, one: Mask, other: Mask) -> dict[str, float]:
    """Contrast over that of the reference, and CNR."""
    contrast, cnr = contrast_and_cnr(image, one, other)
    expected, _ = contrast_and_cnr(truth, one, other)
    values = {f"contrast@{name}": contrast / expected} if expected else {}
    return values if cnr is None else values | {f"cnr@{name}": cnr}


def subject_means(scores: Iterable[Score]) -> list[Score]:
    """One score for each candidate and subject: the means over its images. Images of unknown people are left out."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for one in scores:
        if one.subject is not None:
            groups.setdefault((one.candidate, one.subject), []).append(one)
    found = []
    for (candidate, subject), own in groups.items():
        names = dict.fromkeys(name for one in own for name in one.values)
        means = {
            name: float(np.mean([one.values[name] for one in own if name in one.values])) for name in names
        }
        learned = any(one.learned for one in own)
        found.append(Score(candidate, subject, {"subject": subject}, means, learned))
    return found


def region_measures(scores: Iterable[Score]) -> list[str]:
    """Measures inside regions, and of contrasts, in the order in which they were taken."""
    return list(dict.fromkeys(name for one in scores for name in one.values if "@" in name))


def summaries(scores: Sequence[Score]) -> list[Summary]:
    """Mean and standard deviation for each candidate: over all images, and over those of each stratum.

    Strata that are the same for all images, or divide them as another one does, are left out, and so are subjects:
    they are what statistics count.
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
    """Strata with more than one value, and each with its values; of strata that divide images alike, the first.

    Subjects are no stratum.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for one in scores:
        for stratum, value in one.strata.items():
            if stratum == "subject":
                continue
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


def _summary(candidate: str, stratum: str, value: str, scores: Sequence[Score]) -> Summary:
    own = [one.values for one in scores if one.candidate == candidate]
    names = [*MEASURES, *region_measures(scores)]
    columns = {name: [values[name] for values in own if name in values] for name in names}
    present = {name: np.array(column) for name, column in columns.items() if column}
    return Summary(
        candidate,
        stratum,
        value,
        len(own),
        {name: float(column.mean()) for name, column in present.items()},
        {name: float(column.std(ddof=1)) if len(column) > 1 else 0.0 for name, column in present.items()},
    )


def _usable(roi: Mask, reference: Real, definition: Definition) -> bool:
    """Whether a region has signal, and pixels with a whole window of SSIM."""
    border = definition.window.border
    inner = roi[..., border:-border, border:-border]
    return bool(inner.any() and reference[roi].any())
