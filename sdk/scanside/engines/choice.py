"""Which engine is used: the fastest of those that were accepted here; and why each of the others is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scanside.engines.backends.base import Precision
from scanside.engines.cache import CacheEntry

__all__ = ["Candidate", "Choice", "Verdict", "rank"]

Status = Literal["chosen", "slower", "refused", "absent", "failed"]


@dataclass(frozen=True)
class Candidate:
    """A backend in one precision.

    Attributes:
        backend: its name.
        precision: of the network parts.
        entry: the engine that was built here and judged, where there is one.
        reason: why there is none.
        postponed: whether that is a reason that passes, such as a full disk.
        unbuilt: whether it is that nobody has built it here yet.
    """

    backend: str
    precision: Precision
    entry: CacheEntry | None = None
    reason: str = ""
    postponed: bool = False
    unbuilt: bool = False

    @property
    def accepted(self) -> bool:
        """Whether it may be used."""
        return self.entry is not None and self.entry.report.passed

    @property
    def median_ms(self) -> float:
        """Time of one call at acceptance; infinite where it was not measured."""
        measured = None if self.entry is None else self.entry.report.median_ms
        return float("inf") if measured is None else measured


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate.

    Attributes:
        backend: its name.
        precision: of the network parts.
        status: ``chosen``, ``slower`` than the chosen one, ``refused`` by the gate, ``absent`` (not installed, not
            built, or not asked for), or ``failed`` when it was loaded.
        why: in words, with numbers.
    """

    backend: str
    precision: Precision
    status: Status
    why: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}: {self.status}, {self.why}"


@dataclass(frozen=True)
class Choice:
    """The verdicts on all candidates; ``str()`` has one line for each, the chosen one first."""

    verdicts: tuple[Verdict, ...]

    @property
    def chosen(self) -> Verdict | None:
        """The engine that is used."""
        return next((one for one in self.verdicts if one.status == "chosen"), None)

    def failed(self, verdict: Verdict, why: str) -> Choice:
        """The same choice after one could not be loaded: the next fastest is chosen."""
        remaining = [
            replace(one, status="failed", why=why) if one is verdict else one for one in self.verdicts
        ]
        for i, one in enumerate(remaining):
            if one.status == "slower":
                remaining[i] = replace(one, status="chosen", why=f"{one.why.partition(',')[0]}, next fastest")
                break
        return Choice(tuple(sorted(remaining, key=lambda one: one.status != "chosen")))

    def __str__(self) -> str:
        return "\n".join(map(str, self.verdicts))


def rank(candidates: Sequence[Candidate]) -> Choice:
    """Order candidates: accepted ones by their speed, then those that were refused, then those that are absent.

    Args:
        candidates: all that were thought of, in any order.
    """
    accepted = sorted((one for one in candidates if one.accepted), key=lambda one: one.median_ms)
    verdicts = []
    for i, one in enumerate(accepted):
        why = f"{one.median_ms:.1f} ms"
        if i:
            why += f", {one.median_ms / accepted[0].median_ms:.1f} times the time of the fastest"
        verdicts.append(Verdict(one.backend, one.precision, "slower" if i else "chosen", why))
    verdicts += [
        Verdict(one.backend, one.precision, "refused", _failures(one.entry))
        for one in candidates
        if one.entry is not None and not one.accepted
    ]
    verdicts += [
        Verdict(one.backend, one.precision, "absent", one.reason) for one in candidates if one.entry is None
    ]
    return Choice(tuple(verdicts))


def _failures(entry: CacheEntry) -> str:
    said = []
    for check in entry.report.failures:
        number = (
            f" {check.value:.2g} (limit {check.limit:g})" if None not in (check.value, check.limit) else ""
        )
        said.append(f"{check.name}{number}{': ' if check.note else ''}{check.note}")
    return "; ".join(said)
