"""How the commands speak: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scanside.texts import indented, printable, shortened

__all__ = ["Progress", "console", "err", "print_json", "progress_bar", "report_error", "show_log", "table"]


class _Console(Console):
    """A console that obeys no text: what does not print, but for ends of lines, is shown by its number."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_UNSEEN.sub(lambda found: printable(found[0]), text), **options)


_UNSEEN = re.compile(r"[^\n\t\x20-\x7e]")

console = _Console(highlight=False, emoji=False)
err = _Console(stderr=True, highlight=False, emoji=False)

Progress = Callable[[int, "int | None"], None]
"""Told how much is done, and how much there is in all, where that is known."""

_LONGEST = 20_000

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def report_error(error: BaseException) -> None:
    """One message in red; where a text already says what to do, nothing is added."""
    text = indented(shortened(str(error), _LONGEST)) or type(error).__name__
    err.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def coloured_level(level: str) -> str:
    """``error``, ``warning`` or ``note`` in its colour, as markup."""
    return f"[{_COLOURS[level]}]{level}[/]"


def print_json(value: Any) -> None:
    """One JSON document on standard output, without colours or line breaks of the terminal's making."""
    # NaN and infinity are no JSON: better to fail here than in the program that reads it.
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    text = _UNSEEN.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)
    console.print(text, markup=False, soft_wrap=True)


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the style of all of them; the columns in ``right`` hold numbers."""
    made = Table(
        title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


class _Log(logging.Handler):
    """Log records on standard error, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        level = level if record.levelno >= logging.WARNING else "note"
        err.print(f"{coloured_level(level)}: {escape(indented(self.format(record)))}", soft_wrap=True)


def show_log(*, debug: bool) -> None:
    """Show Scanside's warnings, or with ``debug`` all that it logs."""
    for name in ("scanside", "scanside_gadgetron", "scanside_training", "scanside_deploy"):
        logger = logging.getLogger(name)
        logger.handlers = [_Log()]
        logger.setLevel(logging.DEBUG if debug else logging.WARNING)


@contextmanager
def progress_bar(what: str, *, hidden: bool = False) -> Iterator[Progress]:
    """A progress bar on standard error; nothing where that is no terminal.

    Args:
        what: what goes on.
        hidden: show nothing.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=err, transient=True, disable=hidden or not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield update
