"""``scanside study``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from scanside.cli.console import console, err, progress_bar, table
from scanside.cli.evaluate import tell_flaws
from scanside.cli.options import nested, settings_from
from scanside.errors import MissingExtra
from scanside.memory import keep_freed_memory

if TYPE_CHECKING:
    from scanside_training.data import DataConfig
    from scanside_training.study import StudyConfig

__all__ = ["study"]


def study(
    config: Annotated[
        Path, typer.Argument(help="A training configuration and what is varied in it: a YAML file.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; studies/<name> by default.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY.PATH=VALUE", help="Replace a setting; may be given several times."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of torch; its choice by default.")
    ] = None,
) -> None:
    """Train variations of a network with several seeds and folds, and compare them; or search for settings.

    What is finished is not trained again.
    """
    for package in ("lightning", "safetensors", "tensorboard"):
        if find_spec(package) is None:
            raise MissingExtra(package, "training", "scanside study")
    keep_freed_memory()
    import torch

    from scanside_training.study import load_study

    if threads is not None:
        torch.set_num_threads(threads)
    chosen, base, training = load_study(config, nested(settings_from(settings or ())))
    folder = output or Path("studies") / chosen.name
    if chosen.search is not None:
        _search(chosen, base, folder)
    else:
        _compare(chosen, base, training.data, folder)
    console.print(f"\n{folder / 'report.html'} has the pictures. Research use only.", style="dim")


def _search(chosen: StudyConfig, base: dict[str, Any], folder: Path) -> None:
    """Try settings, and show the trials, the best first."""
    from scanside_training.study import run_search, write_search
    from scanside_training.study.search_report import BEST, trial_cells, trial_columns

    result = run_search(chosen, base, folder, console=err, on_step=_tell)
    write_search(result, folder)
    titles = trial_columns(result)
    shown = table(*titles, title=chosen.name, right=tuple(titles[1:]))
    for trial in result.trials:
        shown.add_row(*map(escape, trial_cells(result, trial)))
    console.print(shown)
    for trial in result.trials:
        if trial.failure is not None:
            err.print(f"[yellow]not trained:[/] {escape(f'{trial.name}: {trial.failure}')}", soft_wrap=True)
    console.print(f"\nscanside train {escape(str(folder / BEST))} trains with the best settings.")


def _compare(chosen: StudyConfig, base: dict[str, Any], data: DataConfig, folder: Path) -> None:
    """Train and compare, and show the tables."""
    from scanside_training.study import run_study, write_study
    from scanside_training.study.report import DIFFERENCE_COLUMNS, columns, difference_cells, row_cells
    from scanside_training.study.tables import differences, rows

    with progress_bar("images") as progress:
        result = run_study(
            chosen,
            base,
            data,
            folder,
            console=err,
            on_step=_tell,
            on_progress=progress,
        )
    write_study(result, folder)
    titles = columns(result)
    left_out = ("inside", "HFEN", "HaarPSI", "detail")  # the report has them all
    kept = [i for i, title in enumerate(titles) if not any(name in title for name in left_out)]
    shown = table(*(titles[i] for i in kept), title=chosen.name, right=tuple(titles[1:]))
    for row in rows(result):
        cells = row_cells(result, row)
        shown.add_row(*(escape(cells[i]) for i in kept))
    console.print(shown)
    if compared := differences(result):
        shown = table(*DIFFERENCE_COLUMNS)
        for one in compared:
            shown.add_row(*map(escape, difference_cells(one)))
        console.print("", shown, sep="\n")
    for caution in result.cautions:
        err.print(f"[yellow]caution:[/] {escape(caution)}", soft_wrap=True)
    tell_flaws(result.evaluation)
    for name, reason in result.failures.items():
        err.print(f"[yellow]not trained:[/] {escape(name)}: {escape(reason)}", soft_wrap=True)


def _tell(step: str) -> None:
    err.print(escape(step), style="dim", soft_wrap=True)
