"""Which engine is used, of those that were accepted here; and why each of the others is not.

The fastest is. Where an image must be there in time, the rule is another one: of all that are in time, those of the
highest precision, and of these the fastest. Where none is in time, the fastest after all, and that is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from scanside.engines.backends.base import Precision
from scanside.engines.cache import CacheEntry
from scanside.engines.taken_times import Times

__all__ = ["IN_TIME", "Candidate", "Choice", "Verdict", "rank"]

Status = Literal["chosen", "slower", "coarser", "refused", "absent", "failed"]

IN_TIME = 0.8
"""Part of the allowed time that an engine may take when it is measured: in a scan it is not alone."""

_PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # the highest first
_NEXT = ("slower", "coarser")


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

    def ms(self, times: Times | None = None) -> float:
        """Time of one call: that which was taken beside the others, else that of its acceptance; else infinite."""
        if self.entry is None:
            return float("inf")
        return (times and times.ms(self.entry.key)) or self.entry.report.median_ms or float("inf")


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate.

    Attributes:
        backend: its name.
        precision: of the network parts.
        status: ``chosen``, ``slower`` than the chosen one, ``coarser``, as it is faster, but not as precise,
            ``refused`` by the gate, ``absent`` (not installed, not built, or not asked for), or ``failed`` when it
            was loaded.
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
    """The verdicts on all candidates; ``str()`` has one line for each, the chosen one first.

    Attributes:
        verdicts: those that may be used in the order in which they are.
        late: said where the chosen one is not in time, and no other would be; else empty.
    """

    verdicts: tuple[Verdict, ...]
    late: str = ""

    @property
    def chosen(self) -> Verdict | None:
        """The engine that is used."""
        return next((one for one in self.verdicts if one.status == "chosen"), None)

    def failed(self, verdict: Verdict, why: str) -> Choice:
        """The same choice after one could not be loaded: the next is chosen."""
        remaining = [
            replace(one, status="failed", why=why) if one is verdict else one for one in self.verdicts
        ]
        for i, one in enumerate(remaining):
            if one.status in _NEXT:
                taken = f"{one.why.partition(',')[0]}, as {verdict.backend} {verdict.precision} failed"
                remaining[i] = replace(one, status="chosen", why=taken)
                break
        return replace(self, verdicts=tuple(sorted(remaining, key=lambda one: one.status != "chosen")))

    def __str__(self) -> str:
        return "\n".join(map(str, self.verdicts))


def rank(
    candidates: Sequence[Candidate], times: Times | None = None, deadline_ms: float | None = None
) -> Choice:
    """Order candidates: accepted ones as they are to be used, then those that were refused, then the absent ones.

    Args:
        candidates: all that were thought of, in any order.
        times: of those that were accepted; for any that is not among them, the time of its acceptance counts.
        deadline_ms: time that an image may take; None for any, so that the fastest is used.
    """
    accepted = [(one.ms(times), one) for one in candidates if one.accepted]
    limit = 0.0 if deadline_ms is None else IN_TIME * deadline_ms

    def preference(pair: tuple[float, Candidate]) -> tuple[int, float]:
        ms, one = pair
        return (_PRECISIONS.index(one.precision) if ms <= limit else len(_PRECISIONS), ms)

    accepted.sort(key=preference)
    verdicts = []
    late = ""
    for i, (ms, one) in enumerate(accepted):
        best_ms, best = accepted[0]
        if i == 0:
            status: Status = "chosen"
            why = f"{ms:.1f} ms" + (f", the fastest of {len(accepted)}" if len(accepted) > 1 else "")
            if ms <= limit:
                why = f"{ms:.1f} ms, the highest precision within {IN_TIME:.0%} of {deadline_ms:g} ms"
            elif deadline_ms is not None:
                late = why = f"{why}, and still not within {IN_TIME:.0%} of {deadline_ms:g} ms"
        elif ms < best_ms:
            status, why = "coarser", f"{ms:.1f} ms, in time as well, but not in {best.precision}"
        else:
            status, why = "slower", f"{ms:.1f} ms, {ms / best_ms:.1f} times the time of the chosen one"
        verdicts.append(Verdict(one.backend, one.precision, status, why))
    verdicts += [
        Verdict(one.backend, one.precision, "refused", _failures(one.entry))
        for one in candidates
        if one.entry is not None and not one.accepted
    ]
    verdicts += [
        Verdict(one.backend, one.precision, "absent", one.reason) for one in candidates if one.entry is None
    ]
    return Choice(tuple(verdicts), late)


def _failures(entry: CacheEntry) -> str:
    said = []
    for check in entry.report.failures:
        number = (
            f" {check.value:.2g} (limit {check.limit:g})" if None not in (check.value, check.limit) else ""
        )
        said.append(f"{check.name}{number}{': ' if check.note else ''}{check.note}")
    return "; ".join(said)
