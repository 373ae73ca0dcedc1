"""Logs that say in which session, by which worker and in which pipeline something happened.

Standard library only: workers use it too.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TextIO

__all__ = [
    "JsonFormatter",
    "TextFormatter",
    "pipeline_name",
    "session_id",
    "session_log",
    "setup_logging",
    "worker_id",
]

session_id: ContextVar[str] = ContextVar("session_id", default="")
"""The session that this thread or task works on."""

pipeline_name: ContextVar[str] = ContextVar("pipeline_name", default="")
"""The pipeline of that session, once it is known."""

worker_id: ContextVar[int | None] = ContextVar("worker_id", default=None)
"""The worker that this process is; None in the server's own."""

_LOGGERS = ("scanside", "scanside_gadgetron", "scanside_deploy")


class JsonFormatter(logging.Formatter):
    """One JSON object on one line: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, and where they are
    known ``session``, ``worker``, ``pipeline`` and ``traceback``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_where(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """``2026-03-01 12:00:00.123 warning [s7 worker 1 grappa] what happened``, for people."""

    default_time_format = "%Y-%m-%d %H:%M:%S"
    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — logging's name
        """The line of a record, without its traceback."""
        told = _where()
        words = [str(told.get("session", "")), f"worker {told['worker']}" if "worker" in told else ""]
        where = " ".join(filter(None, [*words, str(told.get("pipeline", ""))]))
        place = f" [{where}]" if where else ""
        return f"{self.formatTime(record)} {record.levelname.lower()}{place} {record.message}"


def setup_logging(
    *,
    as_json: bool = False,
    worker: int | None = None,
    level: int = logging.INFO,
    stream: TextIO | None = None,
) -> None:
    """Have all of Scanside's loggers write to one stream.

    Args:
        as_json: JSON lines, for programs; otherwise text, for people.
        worker: the number of the worker that this process is.
        level: of what is worth a line.
        stream: None is standard error.
    """
    worker_id.set(worker)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)


@contextmanager
def session_log(session: str, pipeline: str = "") -> Iterator[None]:
    """Whatever is logged inside belongs to a session."""
    tokens = session_id.set(session), pipeline_name.set(pipeline)
    try:
        yield
    finally:
        session_id.reset(tokens[0])
        pipeline_name.reset(tokens[1])


def _where() -> dict[str, object]:
    known = {"session": session_id.get(), "worker": worker_id.get(), "pipeline": pipeline_name.get()}
    return {name: value for name, value in known.items() if value not in ("", None)}
