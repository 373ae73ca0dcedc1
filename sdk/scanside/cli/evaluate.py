"""``scanside evaluate``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from scanside.cli.console import console, err, progress_bar, table
from scanside.cli.many import many_progress, stoppable
from scanside.cli.options import nested, settings_from
from scanside.cli.readers import prepare_study, serve_study
from scanside.errors import MissingExtra

if TYPE_CHECKING:
    from scanside_training.evaluation import Evaluation
    from scanside_training.evaluation.changes import Changes
    from scanside_training.evaluation.scores import Summary

__all__ = ["evaluate", "tell_flaws"]

_MANY = "Many processes"
_READERS = "Readers"
_DIFFERENCES = ("psnr", "ssim")
"""Whose differences are printed; the report has all."""


def evaluate(
    config: Annotated[Path, typer.Argument(help="Data, and what is compared on it: a YAML file.")],
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            "-c",
            metavar="[NAME=]WHAT",
            help="Compare this too: the folder of a run, a bundle's name or folder (@backend:precision), "
            "zero-filled, grappa, cg-sense, pics, bart, or pipeline:NAME; may be given several times.",
        ),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Compare the candidates given here and not those of the file.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; evaluations/<name> by default.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY.PATH=VALUE", help="Replace a setting; may be given several times."
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD.json",
            help="Tell what has changed since this results.json of the same evaluation; status 1 if figures moved.",
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="By what share of itself a mean may move, with --check."),
    ] = 1e-3,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads of torch; its choice by default, 1 for each of many processes."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes at once; this one alone by default.", rich_help_panel=_MANY),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster: local starts one here, auto takes the one that runs here, or HOST:PORT.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Make also images that an earlier run has made.", rich_help_panel=_MANY),
    ] = False,
    again_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The same for one candidate, say after its code has changed; may be given several times.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    readers: Annotated[
        Path | None,
        typer.Option(
            metavar="FORM",
            help="Let people judge the images blindly, by this form, a YAML file, on a page of this machine.",
            rich_help_panel=_READERS,
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Of that page; 0 takes any that is free.", rich_help_panel=_READERS
        ),
    ] = 0,
) -> None:
    """Compare networks, engines and classical reconstructions on the same data.

    With --workers or --ray, many processes share the images. What they have made is noted in the output folder, and
    the same command goes on where it was cut off.

    With --readers, nothing is measured: images are made once into the folder readers of the output, and shown to
    their readers until Ctrl-C. The same command goes on.
    """
    if readers is not None and (workers or ray or again or again_by):
        raise typer.BadParameter(
            "--readers makes its images in this process: leave --workers, --ray and --again out"
        )
    for package in ("lightning", "safetensors", "torchmetrics"):
        if find_spec(package) is None:
            raise MissingExtra(package, "training", "scanside evaluate")
    import torch

    from scanside_training.evaluation import compare, compare_many, load_evaluation, write_evaluation
    from scanside_training.evaluation.changes import changes, read_results

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = load_evaluation(config, nested(settings_from(settings or ())), candidates or (), only=only)
    folder = output or Path("evaluations") / chosen.name
    if readers is not None:
        serve_study(prepare_study(chosen, readers, folder / "readers"), None, port)
        return
    # Before anything is written: it may lie in the same folder.
    earlier = None if check is None else read_results(check, chosen.name)
    if workers or ray:
        from scanside.many import pool_for

        pool = pool_for(workers, ray, threads=threads or 1)
        with many_progress(chosen.name) as tell, stoppable(folder):
            result = compare_many(chosen, pool, folder, again=again or again_by or False, on_progress=tell)
    else:
        with progress_bar(chosen.name) as progress:
            result = compare(chosen, on_progress=progress)
    write_evaluation(result, folder)
    _show(result)
    console.print(f"{folder / 'report.html'} has the pictures. Research use only.", style="dim")
    if earlier is not None and check is not None:
        found = changes(earlier, result.document(), tolerance)
        _show_changes(found, check, tolerance)
        if found.moved:
            raise typer.Exit(1)


def _show_changes(found: Changes, old: Path, tolerance: float) -> None:
    console.print(f"\nSince {escape(str(old))}:")
    for one in found.circumstances:
        console.print(f"  {escape(one)}", soft_wrap=True)
    for moved in found.moved:
        console.print(f"  [red]moved:[/] {escape(moved.described)}", soft_wrap=True)
    console.print(
        f"  {len(found.moved)} of {found.n_figures} figures moved by more than {tolerance:g} of themselves; "
        f"{found.n_new} are new"
    )


def _show(result: Evaluation) -> None:
    from scanside_training.evaluation.report import cells, speed_cells, speed_columns

    measures = {"PSNR, dB": "psnr", "SSIM": "ssim", "PSNR inside, dB": "psnr_inside"}
    extra, by = speed_columns(result), result.config.by
    console.print(f"{escape(result.config.data.title)}\n", soft_wrap=True)
    counted = next(
        f"{name}s" if name != "slice" else "images" for name in ("slice", "volume", "subject") if name in by
    )
    groups: dict[str, list[Summary]] = {}
    for one in result.rows:
        groups.setdefault(f"{one.stratum} {one.value}".strip(), []).append(one)
    for title, rows in groups.items():
        columns = ("n", *measures, *(extra if title == "all" else ()))
        shown = table(
            "candidate", *columns, title=f"{title} {counted}" if title == "all" else title, right=columns
        )
        for one in rows:
            size = speed_cells(result, one.candidate) if title == "all" else []
            shown.add_row(escape(one.candidate), str(one.n), *cells(one, tuple(measures.values())), *size)
        console.print(shown, "", sep="\n")
    _show_differences(result)
    _show_floor(result)
    _show_perturbation(result)
    tell_flaws(result)


def _show_differences(result: Evaluation) -> None:
    from scanside_training.evaluation.statistics_report import (
        DIFFERENCES,
        VERDICTS,
        difference_cells,
        verdict_cells,
    )

    if overall := [one for one in result.comparisons if one.stratum == "all" and one.measure in _DIFFERENCES]:
        title = f"differences to {result.config.compared_with}"
        kept = [
            place for place, name in enumerate(DIFFERENCES) if name not in ("effect", "better", "compared")
        ]
        columns = [DIFFERENCES[place] for place in kept]
        shown = table(*columns, title=escape(title), right=tuple(columns[2:]))
        for one in overall:
            cells = difference_cells(one)
            shown.add_row(*(escape(cells[place]) for place in kept))
        console.print(shown, "", sep="\n")
    settled = result.config.non_inferiority
    if settled is not None and result.non_inferiority:
        title = f"not worse than {settled.against} by more than {settled.margin:g} ({settled.measure})"
        shown = table(*VERDICTS, title=escape(title), right=VERDICTS[1:5])
        for verdict in result.non_inferiority:
            shown.add_row(*map(escape, verdict_cells(verdict, settled.measure)))
        console.print(shown, "", sep="\n")
    for remark in result.remarks:
        err.print(f"[yellow]statistics:[/] {escape(remark)}", soft_wrap=True)


def tell_flaws(result: Evaluation) -> None:
    """Who was compared on what it was trained on, and who was not compared, and why."""
    for leak in result.leaks:
        err.print(f"[yellow]seen in training:[/] {escape(leak)}", soft_wrap=True)
    for failure in result.failures:
        where = f", {len(failure.cases)} image(s)" if failure.cases else ""
        err.print(
            f"[yellow]not compared:[/] {escape(failure.candidate)}{where}: {escape(failure.reason)}",
            soft_wrap=True,
        )


def _show_floor(result: Evaluation) -> None:
    from scanside_training.evaluation.floor import grouped, verdicts
    from scanside_training.evaluation.floor_report import SHARES, share_cells

    if result.config.floor is None:
        return
    shown = table("learned against classical", *SHARES, right=SHARES)
    for group in grouped(verdicts(result.scores, result.config.floor), result.scores):
        if not group.stratum:
            shown.add_row(escape(group.learned), *share_cells(group))
    console.print(shown, "", sep="\n")


def _show_perturbation(result: Evaluation) -> None:
    from dataclasses import asdict

    from scanside_training.evaluation.perturbation.report import ATTACK_COLUMNS, attack_cells
    from scanside_training.evaluation.perturbation.sheet import COLUMNS, figure_cells

    found = result.perturbation
    if found is None:
        return
    if found.responses:
        columns = ("diameter", "contrast", "n", *COLUMNS)
        shown = table("small structures", *columns, right=columns)
        for row in found.rows:
            key = (f"{row.diameter:g}", f"{row.contrast:+g}", str(row.n))
            shown.add_row(escape(row.candidate), *key, *figure_cells(asdict(row)))
        console.print(shown, "", sep="\n")
    if found.attacked:
        shown = table(*ATTACK_COLUMNS, right=ATTACK_COLUMNS[2:-1], title="worst changes")
        for cells in attack_cells(found):
            shown.add_row(*map(escape, cells))
        console.print(shown, "", sep="\n")
