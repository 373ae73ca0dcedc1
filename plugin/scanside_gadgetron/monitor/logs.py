"""Logs that say in which session, by which worker and in which pipeline something happened.

Nothing but the standard library and texts: workers use it too.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, TextIO

from scanside.texts import indented, printable, shortened

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

_LONGEST = 20_000

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
            "message": shortened(record.getMessage(), _LONGEST),
            **_where(),
        }
        if record.exc_info:
            line["traceback"] = shortened(self.formatException(record.exc_info), _LONGEST)
        # In ASCII: what a host wrote may hold what no terminal should see, and halves of characters.
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """``2026-03-01 12:00:00.123 warning [s7 worker 1 grappa] what happened``, for people."""

    default_time_format = "%Y-%m-%d %H:%M:%S"
    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — logging's name
        """The line of a record, without its traceback; what a host wrote makes no second one."""
        told = _where()
        words = [str(told.get("session", "")), f"worker {told['worker']}" if "worker" in told else ""]
        where = printable(" ".join(filter(None, [*words, shortened(str(told.get("pipeline", "")), 80)])))
        place = f" [{where}]" if where else ""
        message = printable(shortened(record.message, _LONGEST))
        return f"{self.formatTime(record)} {record.levelname.lower()}{place} {message}"

    def formatException(self, ei: Any) -> str:  # noqa: N802 — logging's name
        """A traceback, set off from what could be a line of its own."""
        return "    " + indented(shortened(super().formatException(ei), _LONGEST))


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
