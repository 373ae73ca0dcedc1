"""Which network made which series: a log that outlives the images.

One line when the first image of a series leaves, and one with the totals at the end of the session, for each
network, or the classical pipeline, that had a part in the series::

    {"time": "2026-03-04T10:11:12+00:00", "event": "ended", "session": "s000042", "series": 1, "pipeline": "student",
     "bundle": "brain-student", "bundle_version": "1.2.0", "weights": "9f2a…", "backend": "openvino",
     "precision": "bf16", "n_images": 30, "fallbacks": {}, "n_incomplete": 0}

Nothing in it tells who was scanned.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from scanside.append_log import AppendLog
from scanside.items import Image, Item

__all__ = ["SeriesLog", "SessionSeries"]

logger = logging.getLogger(__name__)


class _Maker(NamedTuple):
    """What made images of a series; empty texts where no network had a part."""

    series: int
    pipeline: str
    bundle: str
    bundle_version: str
    weights: str
    backend: str
    precision: str


@dataclass(slots=True)
class _Made:
    """What it made."""

    n_images: int = 0
    n_incomplete: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)


class SeriesLog:
    """The log of a server.

    Args:
        path: for example ``/var/log/scanside/series.jsonl``; see `AppendLog` for older lines.
    """

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)

    def begin(self, session: str) -> SessionSeries:
        """A session begins; tell what it gives of its images."""
        return SessionSeries(self._log, session)

    def records(self) -> list[dict[str, Any]]:
        """All lines, the oldest first."""
        return self._log.records()


class SessionSeries:
    """The series of one session; made by `SeriesLog.begin`. A log that cannot be written never ends a session."""

    def __init__(self, log: AppendLog, session: str) -> None:
        self._log = log
        self._session = session
        self._made: dict[_Maker, _Made] = {}

    def take(self, item: Item) -> None:
        """Something left; images are counted."""
        if not isinstance(item, Image):
            return
        maker = _maker_of(item)
        made = self._made.get(maker)
        if made is None:
            made = self._made[maker] = _Made()
        made.n_images += 1
        made.n_incomplete += item.incomplete is not None
        if told := item.meta.get("ScansideFallback"):
            # Which stage stood in, and why, in a word; the sentence behind them is for the operator.
            made.fallbacks[":".join(told[:2])] += 1
        if made.n_images == 1:
            self._write("begun", maker, made)

    def finish(self) -> None:
        """The session has ended: write the totals."""
        for maker, made in self._made.items():
            self._write("ended", maker, made)
        self._made = {}

    def _write(self, event: str, maker: _Maker, made: _Made) -> None:
        record = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "event": event,
            "session": self._session,
            **maker._asdict(),
            "n_images": made.n_images,
            "fallbacks": dict(made.fallbacks),
            "n_incomplete": made.n_incomplete,
        }
        try:
            self._log.append(record)
        except OSError as error:
            logger.warning("the log of series lacks a line of session %s: %s", self._session, error)


def _maker_of(image: Image) -> _Maker:
    meta = image.meta

    def second(name: str) -> str:
        values = meta.get(name, [])
        return values[1] if len(values) > 1 else ""

    return _Maker(
        series=int(image.header["image_series_index"]),
        pipeline=meta.first("ScansidePipeline"),
        bundle=meta.first("ScansideEngine"),
        bundle_version=second("ScansideEngine"),
        weights=second("ScansideWeights"),
        backend=meta.first("ScansideBackend"),
        precision=second("ScansideBackend"),
    )
