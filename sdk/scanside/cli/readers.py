"""``scanside readers``: blinded reader studies, and what ``scanside evaluate --readers`` does."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from scanside.cli.console import console, err, progress_bar, table
from scanside.errors import MissingExtra, ScansideError

if TYPE_CHECKING:
    from scanside_training.evaluation import EvaluationConfig
    from scanside_training.readers import ReaderResults, ReaderStudy

__all__ = ["prepare_study", "readers", "serve_study"]

readers = typer.Typer(
    help="Reader studies that 'scanside evaluate --readers' prepared: read on, and results.",
    no_args_is_help=True,
)

_Folder = Annotated[Path, typer.Argument(help="Folder of a prepared study.")]
_LOOK_SECONDS = 0.5


@readers.command()
def serve(
    folder: _Folder,
    reader: Annotated[
        list[str] | None,
        typer.Option("--reader", metavar="NAME", help="Let only this one read; may be given several times."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0 takes any that is free.")] = 0,
) -> None:
    """Show the images to their readers, who go on where they stopped, until Ctrl-C."""
    _need("readers serve")
    from scanside_training.readers import open_study

    serve_study(open_study(folder), reader, port)


@readers.command()
def results(
    folder: _Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; FOLDER/results by default.")
    ] = None,
) -> None:
    """Agreement, scores, differences, non-inferiority and preferences of what is read so far."""
    _need("readers results")
    from scanside_training.readers import open_study, read_results

    _show(read_results(open_study(folder)), output or folder / "results")


def prepare_study(config: EvaluationConfig, form: Path, folder: Path) -> ReaderStudy:
    """Make the images, or take those that are made, and tell how much the study can show."""
    _need("evaluate --readers")
    from scanside_training.readers import load_form, prepare
    from scanside_training.readers.power import estimate_power

    with progress_bar(config.name) as progress:
        study = prepare(config, load_form(form), folder, on_progress=progress)
    for caution in study.cautions:
        err.print(f"[yellow]caution:[/] {escape(caution)}", soft_wrap=True)
    for power in estimate_power(study):
        console.print(escape(power.text), soft_wrap=True)
    return study


def serve_study(study: ReaderStudy, chosen: Sequence[str] | None, port: int) -> None:
    """Serve the page until Ctrl-C, then write what came out."""
    from scanside_training.readers import read_results
    from scanside_training.readers.server import ReaderServer

    standings = {one.reader: one for one in read_results(study).standings}
    with ReaderServer(study, chosen, port) as server:
        shown = table("reader", "read", "link", right=("read",))
        for name in chosen or study.form.readers:
            standing = standings[name]
            shown.add_row(escape(name), f"{standing.finished} of {standing.total}", server.address(name))
        console.print(shown, "", sep="\n", soft_wrap=True)
        console.print(
            "Each link is its reader's own. Ctrl-C ends; the next call goes on. Research use only.",
            style="dim",
        )
        console.file.flush()
        try:
            while server.is_running:
                sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            pass
        else:
            raise ScansideError("the page ended by itself; all answers are in the study's folder")
    _show(read_results(study), study.folder / "results")


def _show(result: ReaderResults, folder: Path) -> None:
    from scanside_training.readers import write_results
    from scanside_training.readers.report import (
        AGREEMENT_COLUMNS,
        DIFFERENCE_COLUMNS,
        LIKING_COLUMNS,
        agreement_cells,
        difference_cells,
        liking_cells,
    )

    write_results(result, folder)
    shown = table("reader", "read", "median seconds", right=("read", "median seconds"))
    for one in result.standings:
        seconds = "–" if one.seconds is None else f"{one.seconds:.1f}"
        shown.add_row(escape(one.reader), f"{one.finished} of {one.total}", seconds)
    console.print(shown, "", sep="\n")
    for title, columns, rows in (
        ("agreement", AGREEMENT_COLUMNS, [agreement_cells(one) for one in result.agreements]),
        ("differences", DIFFERENCE_COLUMNS, [difference_cells(one) for one in result.differences]),
        ("preferences", LIKING_COLUMNS, [liking_cells(one) for one in result.likings]),
    ):
        if rows:
            shown = table(*columns, title=title)
            for row in rows:
                shown.add_row(*map(escape, row))
            console.print(shown, "", sep="\n")
    console.print(f"{folder / 'report.html'} has the pictures. Research use only.", style="dim")


def _need(what: str) -> None:
    for package, extra in (("lightning", "training"), ("starlette", "server"), ("uvicorn", "server")):
        if find_spec(package) is None:
            raise MissingExtra(package, extra, f"scanside {what}")
