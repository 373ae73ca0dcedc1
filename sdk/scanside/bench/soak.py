"""Endurance: a thousand sessions of which some go wrong, and a real-time stream of ten minutes; or, in their place,
damaged streams and hosts that mean harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from scanside.bench.hostile import HostilePlan, hostile_soak
from scanside.bench.realtime import realtime_stream
from scanside.bench.result import BenchResult
from scanside.bench.sessions import Plan, troubled_sessions
from scanside.errors import ConfigError

__all__ = ["measure"]

_SECONDS = 600.0


def measure(
    progress: Callable[[str], None], share: float | None = None, *, hostile: bool = False
) -> BenchResult:
    """Who gets images while clients, workers and streams go wrong, what is left behind, and what lags.

    Args:
        progress: is told what is being measured.
        share: how much of it is done, 0 < share ≤ 1; None for what ``SCANSIDE_SOAK`` says, by default all.
        hostile: 20,000 damaged streams and 2,000 sessions among which three of four mean harm.

    Raises:
        ConfigError: ``SCANSIDE_SOAK`` holds no such number.
    """
    share = _share() if share is None else share
    if hostile:
        rows, headline = hostile_soak(HostilePlan.of_share(share), progress)
        return BenchResult(name="soak --hostile", rows=rows, headline=headline)
    rows, headline = troubled_sessions(Plan.of_share(share), progress)
    more_rows, more_headline = realtime_stream(share * _SECONDS, progress)
    return BenchResult(name="soak", rows=rows + more_rows, headline=headline + more_headline)


def _share() -> float:
    text = os.environ.get("SCANSIDE_SOAK") or "1"
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"SCANSIDE_SOAK is {text!r}: expected how much of the soak to do, such as 0.1")
    return share
