"""What commands over many files share: how they show progress, and ``scanside replay`` of many recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from scanside.cli.console import console, err, print_json, table
from scanside.errors import ConfigError

if TYPE_CHECKING:
    from scanside.many.replays import ManyReplays

__all__ = ["MOST_FAILURES_TOLD", "many_progress", "replay_all", "stoppable"]

MOST_FAILURES_TOLD = 100
"""The exit status is the number of failures, and no greater than this: larger ones mean something else to a shell."""

_SHOWN = 10
_INTERRUPTED = 130


@contextmanager
def many_progress(what: str, *, hidden: bool = False) -> Iterator[Callable[[int, int, int], None]]:
    """A bar on standard error with what is done and has failed, the rate, and the time that is left.

    Args:
        what: what goes on.
        hidden: show nothing.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("[red]{task.fields[failed]}[/]"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # A cluster's own messages come on standard output, which is for results.
    with (
        redirect_stdout(err.file),
        Progress(*columns, console=err, transient=True, disable=hidden or not err.is_terminal) as bar,
    ):
        task = bar.add_task(what, total=None, failed="", rate="")

        def update(done: int, failed: int, total: int) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = f"{60 * (done + failed) / elapsed:.1f}/min" if elapsed and done + failed else ""
            told = f"{failed} failed" if failed else ""
            bar.update(task, completed=done + failed, total=total, failed=told, rate=rate)

        yield update


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """Ctrl-C ends the command in good order.

    Args:
        folder: that holds the run's journal.
    """
    try:
        yield
    except KeyboardInterrupt:
        err.print(
            f"interrupted: what is done is noted in {escape(str(folder))}, and the same command goes on",
            soft_wrap=True,
        )
        raise typer.Exit(_INTERRUPTED) from None


def replay_all(
    inputs: list[Path],
    output: Path,
    pipeline: str,
    *,
    choices: Mapping[str, Any],
    workers: int | None,
    ray: str | None,
    threads: int,
    again: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Reconstruct many recordings into a folder, and say what became of them.

    Raises:
        typer.Exit: with the number of failures, or 130 after Ctrl-C.
    """
    from scanside.many import pool_for
    from scanside.many.files import find_recordings
    from scanside.many.replays import Recipe, replay_many

    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file: many recordings need a folder for their images")
    if report is not None:
        # Before the work, so that a missing package is not found out after it.
        from scanside.many.report import many_report
    recordings = find_recordings(inputs, output)
    recipe = Recipe.load(pipeline, output, **choices)
    pool = pool_for(workers, ray, threads=threads, device=recipe.device)
    with many_progress("reconstructing", hidden=as_json) as progress, stoppable(output):
        results = replay_many(recordings, recipe, pool, again=again, on_progress=progress)
    if report is not None:
        many_report(results, report)
    if as_json:
        print_json(results.as_json())
    else:
        _show(results, report)
    if results.failures:
        raise typer.Exit(min(len(results.failures), MOST_FAILURES_TOLD))


def _show(results: ManyReplays, report: Path | None) -> None:
    rows = table("", "")
    rows.show_header = False
    n_done, n_before = results.count("done"), results.count("before")
    earlier = f", {n_before} before" if n_before else ""
    rows.add_row("[dim]recordings[/]", f"{n_done} done in {results.seconds:.1f} s{earlier}")
    rows.add_row("[dim]images[/]", f"{sum(one.n_images for one in results.files)}")
    if n_fallbacks := sum(one.n_fallbacks for one in results.files):
        rows.add_row("[dim]by a fallback[/]", f"[yellow]{n_fallbacks}[/]")
    if n_warned := sum(bool(one.warnings) for one in results.files):
        rows.add_row("[dim]with warnings[/]", f"{n_warned} recordings")
    if results.failures:
        rows.add_row("[dim]failed[/]", f"[red]{len(results.failures)}[/]")
    rows.add_row("[dim]written to[/]", escape(str(results.folder)))
    if report is not None:
        rows.add_row("[dim]report[/]", escape(str(report)))
    console.print(rows)
    if results.failures:
        failed = table("recording", "why it failed")
        for one in results.failures[:_SHOWN]:
            failed.add_row(escape(one.recording), escape(one.error))
        console.print("", failed, sep="\n")
        if (more := len(results.failures) - _SHOWN) > 0:
            console.print(f"and {more} more, in {results.folder / 'failures.json'}", soft_wrap=True)
    console.print("\nResearch use only.", style="dim")
