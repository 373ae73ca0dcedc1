"""Many sessions in a row while clients, workers and streams go wrong: who gets images, and what is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanside.bench.hosts import KINDS, Host, Kind, Visit
from scanside.bench.peers import scanside_server
from scanside.bench.processes import Family, Footprint
from scanside.bench.result import Headline, spread
from scanside.bench.scans import FrameScan

__all__ = ["Plan", "troubled_sessions"]

SCAN = FrameScan(n_coils=4, n_samples=128, n_lines=64, acceleration=2, n_acs=16, noise=False)
"""64 × 64 with 4 coils, the readout oversampled."""

_FRAMES = 3
_PIPELINE = "grappa"
_WORKERS = 2
_SEED = 4
_MOST_GROWTH = 1.02
_SETTLE_SECONDS = 10.0
_TOLD = 3  # of what went wrong, so many are told


@dataclass(frozen=True)
class Plan:
    """How many sessions there are.

    They come in rounds. In each, disturbed sessions come among others in random order; it ends with some that are
    left in peace, so that workers that took the place of others are warm when the round's memory is taken.

    Attributes:
        n_rounds: how many rounds run one session after the other.
        n_rounds_at_once: how many more run two sessions at a time.
        per_round: sessions of each kind in one round.
        peaceful: how many healthy ones of a round come at its end.
    """

    n_rounds: int = 10
    n_rounds_at_once: int = 2
    per_round: tuple[int, int, int, int] = (91, 5, 2, 2)
    peaceful: int = 40

    @classmethod
    def of_share(cls, share: float) -> Plan:
        """A part of the whole: fewer rounds, at least two that can be compared."""
        return cls(max(2, round(share * cls.n_rounds)), round(share * cls.n_rounds_at_once))

    @property
    def n_sessions(self) -> int:
        """Of all rounds."""
        return (self.n_rounds + self.n_rounds_at_once) * sum(self.per_round)

    def mixed(self, number: int) -> list[tuple[Kind, int]]:
        """What comes in a round before its end: kinds, and the how many-th of its kind each is."""
        n_healthy, *others = self.per_round
        sessions: list[tuple[Kind, int]] = [
            (kind, number * n + i)
            for kind, n in zip(KINDS, (n_healthy - self.peaceful, *others), strict=True)
            for i in range(n)
        ]
        order = np.random.default_rng((_SEED, number)).permutation(len(sessions))
        return [sessions[i] for i in order]


def troubled_sessions(
    plan: Plan, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[Headline]]:
    """Play all sessions to a server of its own, and look at what its processes take after each round.

    Returns:
        Lines of the table, and promises.
    """
    options = ("--workers", str(_WORKERS), "--handover", "off", "--device", "cpu")
    with scanside_server(_PIPELINE, *options) as server:
        family = Family(server.process.pid)
        host = Host(SCAN, _FRAMES, server.port, family, _SEED)
        visits: list[Visit] = []
        footprints: list[Footprint] = []
        for number in range(plan.n_rounds + plan.n_rounds_at_once):
            at_once = 1 if number < plan.n_rounds else _WORKERS
            progress(f"session {len(visits)} of {plan.n_sessions}, {at_once} at a time")
            visits += _round(plan, number, at_once, host)
            footprints.append(_settled(family, footprints[0] if footprints else None))
    return [*_rows_of_visits(visits), *_rows_of_footprints(footprints, plan)], [
        *_headlines_of_visits(visits),
        *_headlines_of_footprints(footprints),
    ]


def _round(plan: Plan, number: int, at_once: int, host: Host) -> list[Visit]:
    with ThreadPoolExecutor(at_once) as pool:
        visits = list(pool.map(lambda session: host.visit(*session), plan.mixed(number)))
    visits += host.visit_all_workers(_WORKERS)
    return visits + [host.visit("healthy", n) for n in range(plan.peaceful - _WORKERS)]


def _settled(family: Family, before: Footprint | None) -> Footprint:
    """What the processes take once the last session has been put away."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    last = family.footprint()
    while True:
        time.sleep(0.2)
        now = family.footprint()
        at_rest = now.descriptors == last.descriptors
        if before is not None:
            at_rest = now.descriptors <= before.descriptors and now.processes <= before.processes
        if at_rest or time.monotonic() > deadline:
            return now
        last = now


def _rows_of_visits(visits: list[Visit]) -> list[dict[str, Any]]:
    rows = []
    for kind in KINDS:
        seconds = [visit.seconds for visit in visits if visit.kind == kind]
        if seconds:
            times = {name: round(1e3 * value, 1) for name, value in spread(seconds).items() if name != "runs"}
            rows.append({"what": f"sessions: {kind}", "unit": "ms", **times, "runs": len(seconds)})
    wrong = [visit for visit in visits if visit.wrong]
    return rows + [{"what": f"wrong: {visit.kind}: {visit.wrong}"[:200]} for visit in wrong[:_TOLD]]


def _rows_of_footprints(footprints: list[Footprint], plan: Plan) -> list[dict[str, Any]]:
    per_round = sum(plan.per_round)
    rows = []
    for n in sorted({1, len(footprints) // 2, len(footprints)} - {0}):
        taken = footprints[n - 1]
        for what, size in (("server", taken.server), (f"{_WORKERS} workers", taken.workers)):
            name = f"memory of {what} after {n * per_round} sessions"
            rows.append({"what": name, "unit": "MiB", "median": round(size / 2**20, 1)})
    descriptors = spread([footprint.descriptors for footprint in footprints])
    processes = spread([footprint.processes for footprint in footprints])
    return [
        *rows,
        {"what": "open descriptors of all processes", "unit": "", **descriptors},
        {"what": "processes", "unit": "", **processes},
    ]


def _headlines_of_visits(visits: list[Visit]) -> list[Headline]:
    healthy = [visit for visit in visits if visit.kind == "healthy"]
    others = [visit for visit in visits if visit.kind != "healthy"]
    return [
        Headline.at_most(
            f"of {len(healthy)} healthy sessions, those without all images, byte for byte as undisturbed",
            sum(bool(visit.wrong) for visit in healthy),
            0,
        ),
        Headline.at_most(
            f"of {len(others)} others, those that got no error", sum(bool(visit.wrong) for visit in others), 0
        ),
    ]


def _headlines_of_footprints(footprints: list[Footprint]) -> list[Headline]:
    first, last = footprints[0], footprints[-1]
    since = "at the end against after the first round"
    return [
        Headline.at_most(f"memory of the server, {since}", last.server / first.server, _MOST_GROWTH),
        Headline.at_most(f"memory of the workers, {since}", last.workers / first.workers, _MOST_GROWTH),
        Headline.at_most(
            "descriptors, more than after the first round", last.descriptors - first.descriptors, 0
        ),
        Headline.at_most("processes, more than workers and server", last.processes - _WORKERS - 1, 0),
    ]
