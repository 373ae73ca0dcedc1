"""``scanside qa``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import console, err, print_json, table

if TYPE_CHECKING:
    from scanside.qa import Limits, QaResult

__all__ = ["qa"]

OUT_OF_LIMITS = 3
"""Exit status of a check that found a measure out of its limits."""


def qa(
    scan: Annotated[Path, typer.Argument(help="Raw file of the phantom's scan.", metavar="SCAN")],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="Classical pipeline.")] = "grappa",
    learned: Annotated[
        str | None, typer.Option(help="Pipeline whose image is compared with the classical one.")
    ] = None,
    nominal_mm: Annotated[
        float | None, typer.Option("--diameter", min=1, help="Diameter that the phantom has, in mm.")
    ] = None,
    slice_: Annotated[
        int | None, typer.Option("--slice", min=0, help="Slice; default: the middle one.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            envvar="SCANSIDE_QA", help="Folder that keeps checks, for the trend, and their reports."
        ),
    ] = None,
    limits: Annotated[Path | None, typer.Option(help="YAML file with the site's limits.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    group: Annotated[str | None, typer.Option(help="HDF5 group; default: dataset, or the only one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a phantom: signal-to-noise ratio, geometry, ghosting, uniformity, and the network's agreement.

    The exit status is 3 where a measure is out of its limits.
    """
    from scanside.qa import QaStore, check

    kept = None if store is None else QaStore(store)
    earlier = [] if kept is None else kept.results()
    checked = check(
        scan,
        pipeline=pipeline,
        learned=learned,
        nominal_mm=nominal_mm,
        slice_=slice_,
        limits=_limits(limits),
        earlier=earlier,
        device=device,
        group=group,
    )
    result = checked.result
    if kept is not None:
        kept.add(result)
    for page in filter(
        None, (report, None if store is None else store / f"{result.time:%Y%m%dT%H%M%SZ}.html")
    ):
        from scanside.qa.report import write_report

        write_report(checked, earlier, page)
        err.print(f"report {page}", style="dim", markup=False, soft_wrap=True)
    if as_json:
        print_json({**result.model_dump(mode="json"), "passed": result.passed})
    else:
        _print(result)
    if not result.passed:
        raise typer.Exit(OUT_OF_LIMITS)


def _limits(path: Path | None) -> Limits:
    import yaml
    from pydantic import ValidationError

    from scanside.errors import ConfigError
    from scanside.qa import Limits

    if path is None:
        return Limits()
    try:
        return Limits.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        known = ", ".join(Limits.model_fields)
        raise ConfigError(f"{path} holds no limits: {error}\nIt may set {known}") from error


def _print(result: QaResult) -> None:
    from rich.markup import escape

    rows = table("measure", "found", "least", "most", "", right=("found", "least", "most"))
    for verdict in result.verdicts:
        numbers = (verdict.value, verdict.low, verdict.high)
        cells = ("[dim]–[/]" if number is None else f"{number:.4g}" for number in numbers)
        mark = "[green]✓[/]" if verdict.passed else "[bold red]out of limits[/]"
        rows.add_row(verdict.measure, *cells, mark if verdict.value is not None else "[dim]not measured[/]")
    console.print(rows)
    for note in result.notes:
        console.print(f"[yellow]note[/]: {escape(note)}", soft_wrap=True)
