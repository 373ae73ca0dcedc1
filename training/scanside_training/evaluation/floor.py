"""Whether learned images are better than the classical ones of the same scan, and whether they say so where not.

The best classical pipeline of each scan is the floor, and a reconstruction whose setting was tuned for each scan the
mark. A learned image that lies below the floor is *told* if an operator could know: its fallback was taken, the scan
is not such as the network was trained for, or something was warned of that is not warned of with classical images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from scanside_training.data.settings import Settings
from scanside_training.evaluation.scores import Score, divisions

__all__ = ["COMPARED", "FloorConfig", "Group", "Verdict", "grouped", "verdicts", "worst_cases"]

COMPARED = ("psnr", "psnr_inside", "ssim_inside")
"""Measures whose differences are told."""

_TELLING = ("fallback", "fitness", "warning")
"""Kinds of what is told that warn of an image: the figure of a check does so where it leads to one of these."""


class FloorConfig(Settings):
    """Which candidates are learned, and what they are held against."""

    learned: tuple[str, ...] = Field(min_length=1)
    """Names of the learned candidates."""
    classical: tuple[str, ...] = Field(min_length=1)
    """Of the classical ones, of which the best of each scan is the floor."""
    tuned: str | None = None
    """Of the one that was tuned for each scan."""
    margin: float = Field(default=0.1, ge=0)
    """A learned image is worse that lies farther below the floor than this, PSNR over the whole image in dB."""
    worst: int = Field(default=10, ge=0)
    """How many of the worst are shown as pictures."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all candidates that it is about."""
        return (*self.learned, *self.classical, *((self.tuned,) if self.tuned else ()))


@dataclass(frozen=True)
class Verdict:
    """A learned image beside the classical ones of the same scan.

    Attributes:
        learned: name of the candidate.
        case: which scan.
        strata: of the scan.
        psnr: of the learned image over the whole image, dB.
        classical: name of the best classical one by that measure.
        over_classical: by measure, learned less the best classical one by that measure.
        over_tuned: the same, less the tuned one; empty where there is none.
        told: what an operator is told of this image and not of the classical ones, by kind.
        is_worse: farther below the floor than the margin.
    """

    learned: str
    case: str
    strata: Mapping[str, str]
    psnr: float
    classical: str
    over_classical: Mapping[str, float]
    over_tuned: Mapping[str, float]
    told: Mapping[str, Sequence[str]]
    is_worse: bool

    @property
    def is_told(self) -> bool:
        """Whether an operator could know that the image may be worse."""
        return any(kind in self.told for kind in _TELLING)

    @property
    def is_fallback(self) -> bool:
        """Whether the network's image did not go out."""
        return "fallback" in self.told


@dataclass(frozen=True)
class Group:
    """Verdicts on scans that have something in common.

    Attributes:
        learned: name of the candidate.
        stratum: what they have in common; empty for all scans.
        value: of the stratum.
        verdicts: on each.
    """

    learned: str
    stratum: str
    value: str
    verdicts: tuple[Verdict, ...]

    @property
    def worse(self) -> tuple[Verdict, ...]:
        """Those below the floor."""
        return tuple(one for one in self.verdicts if one.is_worse)

    @property
    def untold(self) -> int:
        """How many of these an operator could not know of."""
        return sum(not one.is_told for one in self.worse)

    def difference(self, rival: str, measure: str) -> tuple[float, float, int] | None:
        """Mean and standard deviation of the difference to ``classical`` or ``tuned``, and of how many scans.

        None where there is none.
        """
        of = [one.over_classical if rival == "classical" else one.over_tuned for one in self.verdicts]
        values = [found[measure] for found in of if measure in found]
        if not values:
            return None
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values)


def verdicts(scores: Iterable[Score], config: FloorConfig) -> list[Verdict]:
    """Every learned image that has a classical one beside it, scan by scan."""
    by_case: dict[str, dict[str, Score]] = {}
    for one in scores:
        by_case.setdefault(one.case, {})[one.candidate] = one
    found = []
    for made in by_case.values():
        classical = [made[name] for name in config.classical if name in made]
        found += [
            _verdict(made[name], classical, made.get(config.tuned or ""), config.margin)
            for name in config.learned
            if name in made and classical
        ]
    return found


def grouped(found: Sequence[Verdict], scores: Sequence[Score]) -> list[Group]:
    """Verdicts by learned candidate: all, and by each level of each stratum."""
    names = list(dict.fromkeys(one.learned for one in found))
    groups = [Group(name, "", "", tuple(one for one in found if one.learned == name)) for name in names]
    for stratum, value in divisions(scores):
        for name in names:
            chosen = tuple(one for one in found if one.learned == name and one.strata.get(stratum) == value)
            if chosen:
                groups.append(Group(name, stratum, value, chosen))
    return groups


def worst_cases(found: Sequence[Verdict], config: FloorConfig) -> dict[str, tuple[str, ...]]:
    """The cases that are farthest below the floor, worst first, and the candidates to show of each."""
    ordered = sorted(found, key=lambda one: one.over_classical["psnr"])
    cases = list(dict.fromkeys(one.case for one in ordered))[: config.worst]
    best = {one.case: one.classical for one in found}
    rival = (config.tuned,) if config.tuned else ()
    return {case: (*config.learned, best[case], *rival) for case in cases}


def _verdict(learned: Score, classical: Sequence[Score], tuned: Score | None, margin: float) -> Verdict:
    floor = {
        name: max(one.values[name] for one in classical if name in one.values)
        for name in COMPARED
        if any(name in one.values for one in classical)
    }
    over = _less(learned.values, floor)
    return Verdict(
        learned=learned.candidate,
        case=learned.case,
        strata=learned.strata,
        psnr=learned.values["psnr"],
        classical=max(classical, key=lambda one: one.values["psnr"]).candidate,
        over_classical=over,
        over_tuned={} if tuned is None else _less(learned.values, tuned.values),
        told=_told(learned, classical),
        is_worse=over["psnr"] < -margin,
    )


def _less(values: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: values[name] - other[name] for name in COMPARED if name in values and name in other}


def _told(learned: Score, classical: Sequence[Score]) -> dict[str, tuple[str, ...]]:
    """What is told of the learned image, but not of any classical one."""
    told = {}
    for kind, texts in learned.told.items():
        common = {text for one in classical for text in one.told.get(kind, ())}
        if own := tuple(text for text in texts if text not in common):
            told[kind] = own
    return told
