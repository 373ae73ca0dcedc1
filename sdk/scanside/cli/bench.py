"""``scanside bench``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import console, err, table

if TYPE_CHECKING:
    from rich.status import Status

    from scanside.bench import BenchResult

__all__ = ["bench"]


def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="ingest, hdf5, chain, latency, learned, engines, cine, radial, epi, pics, data, serve, soak, or "
            "all."
        ),
    ] = "all",
    hostile: Annotated[
        bool, typer.Option("--hostile", help="Of soak: damaged streams, and hosts that mean harm.")
    ] = False,
    volumes: Annotated[
        int | None, typer.Option("--volumes", help="Of epi: how many volumes, one every 2.5 s; by default 8.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per benchmark and line.")
    ] = False,
) -> None:
    """Measure speed, beside what it is compared with, in one run."""
    from scanside.bench import NAMES, run

    for one in NAMES if name == "all" else (name,):
        with err.status(f"{one} …") as status:
            told = partial(_tell, status, one)
            result = run(one, told, hostile=hostile, volumes=volumes)
        if as_json:
            typer.echo(result.model_dump_json())
        else:
            _show(result)


def _tell(status: Status, name: str, what: str) -> None:
    status.update(f"{name}: {what}")


def _show(result: BenchResult) -> None:
    columns = list(dict.fromkeys(key for row in result.rows for key in row))
    numbers = tuple(c for c in columns if any(isinstance(row.get(c), int | float) for row in result.rows))
    shown = table(*columns, title=f"bench {result.name}", right=numbers)
    for row in result.rows:
        shown.add_row(*(_shown(row.get(column, "")) for column in columns))
    console.print(shown)
    for promise in result.headline:
        mark = "[green]holds[/]" if promise.holds else "[red]missed[/]"
        console.print(f"  {promise.what}: {promise.value:g} (target {promise.target}) {mark}")
    facts = {**result.machine, **result.versions}
    console.print("  " + ", ".join(f"{key} {value}" for key, value in facts.items()), style="dim")


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
