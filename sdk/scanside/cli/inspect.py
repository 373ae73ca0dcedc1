"""``scanside inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import coloured_level, console, print_json, table

if TYPE_CHECKING:
    from scanside.datasets.describing import DescribedFile
    from scanside.inspection import EncodingSurvey, Inspection
    from scanside.suitability import Suitability

__all__ = ["inspect"]

_STATUS: dict[str | None, int] = {"error": 1, "warning": 3}
_LEGEND = "█ image  [cyan]▓[/] image and calibration  [cyan]▒[/] calibration  · left out  ▼ centre"


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="An ISMRMRD HDF5 file or stream, or a file of a public data set.", metavar="FILE"
        ),
    ],
    group: Annotated[str | None, typer.Option(help="HDF5 group; default: dataset, or the only one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the sampling to this PNG file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
) -> None:
    """Tell what is in a raw file: encodings, counters, sampling, noise, geometry, and what looks wrong.

    The exit status is 0 where nothing looks wrong, 1 where something must be mended before the scan can be
    reconstructed (an error), and 3 where an image is to be looked at with doubt (a warning). Notes change nothing.

    At the end it tells which pipelines can take the scan, best first, and why the others cannot.

    Of a file of a public data set it tells whose it is, what was acquired, and whether it can be replayed.
    """
    from scanside.datasets.describing import describe_file

    if (described := describe_file(file)) is not None:
        if group or png or report:
            raise typer.BadParameter(
                f"{file} is a file of {described.dataset}; --group, --png and --report are for ISMRMRD: make such a "
                "scan of it first (scanside convert)"
            )
        _tell(described, as_json=as_json)
        return
    from scanside.inspection import as_dict, inspect_file
    from scanside.suitability import pipelines_for

    found = inspect_file(file, group)
    suitable = pipelines_for(found.outline, found.broken)
    if as_json:
        print_json({**as_dict(found), "pipelines": [one.as_dict() for one in suitable]})
    else:
        _print(found)
        _print_pipelines(suitable)
    if png is not None:
        from scanside.report.figures import sampling_figure, save

        save(sampling_figure(found.encodings), png)
    if report is not None:
        from scanside.report import inspection_report

        inspection_report(found, report, suitable)
    if status := _STATUS.get(found.worst):
        raise typer.Exit(status)


def _tell(found: DescribedFile, *, as_json: bool) -> None:
    from rich.markup import escape

    from scanside.suitability import pipelines_for

    suitable = pipelines_for(found.outline, found.broken)
    if as_json:
        keys = ("dataset", "subject", "rows", "obstacle", "defect")
        print_json(
            {
                "path": str(found.path),
                **{name: getattr(found, name) for name in keys},
                "pipelines": [one.as_dict() for one in suitable],
            }
        )
    else:
        console.print(f"[bold]{escape(str(found.path))}[/]  {found.dataset}\n", soft_wrap=True)
        _print_facts([("subject", found.subject), *found.rows.items()])
        console.print()
        if found.defect is not None:
            console.print(f"{coloured_level('warning')}: {escape(found.defect)}", soft_wrap=True)
        told = "can be replayed" if found.obstacle is None else f"cannot be replayed: it {found.obstacle}"
        console.print(escape(told), soft_wrap=True)
        if found.outline is not None:
            _print_pipelines(suitable)
    if found.defect is not None:
        raise typer.Exit(_STATUS["warning"])


def _print(found: Inspection) -> None:
    from rich.markup import escape

    from scanside.inspection import contents, facts

    where = f", group '{found.group}'" if found.group else ""
    console.print(f"[bold]{escape(str(found.path))}[/]  {found.format}{escape(where)}\n", soft_wrap=True)
    _print_facts([*facts(found), *contents(found)])
    for space in found.encodings:
        _print_encoding(space, many=len(found.encodings) > 1)
    console.print()
    if not found.findings:
        console.print("[green]Nothing looks wrong.[/]")
    for finding in found.findings:
        console.print(f"{coloured_level(finding.level)}: {escape(finding.text)}", soft_wrap=True)


def _print_pipelines(suitable: list[Suitability]) -> None:
    from rich.markup import escape

    from scanside.suitability import VERDICTS, by_reason

    console.print("\n[bold]Pipelines[/]  best first; what only samples tell is not known here")
    if len({one.reasons for one in suitable}) == 1 and suitable[0].refusals:
        console.print(f"none can take it: {escape(suitable[0].refusals[0])}", soft_wrap=True)
        return
    colours = {"fits": "green", "doubtful": "yellow", "refuses": "red"}
    rows = table("pipeline", "", "why not, or what it does")
    for alike in by_reason(suitable):
        first = alike[0]
        names = escape("\n".join(one.pipeline for one in alike))
        verdict = f"[{colours[first.verdict]}]{VERDICTS[first.verdict]}[/]"
        rows.add_row(f"[bold]{names}[/]", verdict, escape(first.text))
    console.print(rows)


def _print_facts(rows: list[tuple[str, str]]) -> None:
    from rich.markup import escape

    lines = table("", "")
    lines.show_header = False
    for name, text in rows:
        lines.add_row(f"[dim]{escape(name)}[/]", escape(text))
    console.print(lines)


def _print_encoding(space: EncodingSurvey, *, many: bool) -> None:
    from rich.markup import escape

    from scanside.inspection import counter_rows, encoding_facts

    console.print(f"\n[bold]Encoding space {space.index}[/]" if many else "\n[bold]Encoding[/]")
    _print_facts(encoding_facts(space))
    columns = ("counter", "found", "values", "limits", "centre")
    counters = table(*columns, right=columns[1:])
    outside = {counter.name for counter in space.counters if counter.is_outside}
    for name, *cells in counter_rows(space):
        counters.add_row(name, *cells, style="bold red" if name in outside else None)
    if counters.row_count:
        console.print()
        console.print(counters)
    if space.sampling is not None:
        console.print(f"\n[bold]Sampling[/]  {escape(space.sampling.describe())}", soft_wrap=True)
        for line in space.sampling.text():
            console.print(line.replace("▓", "[cyan]▓[/]").replace("▒", "[cyan]▒[/]"), soft_wrap=True)
        console.print(_LEGEND, style="dim")
        if frames := space.sampling.frames_text():
            console.print("\n[bold]Frames[/]  lines of each, in order of time", soft_wrap=True)
            for line in frames:
                console.print(line, soft_wrap=True)
