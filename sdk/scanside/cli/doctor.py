"""``scanside doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanside.cli.console import console, print_json

__all__ = ["doctor"]

_MARKS = {"ok": "[green]✓[/]", "missing": "[yellow]–[/]", "problem": "[bold red]✗[/]"}


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="The server's settings, whose ports, folders and pipelines are looked at."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this installation: packages, devices, Gadgetron, bundles, ports, folders, clock. Exit status 1 if
    something is broken.
    """
    from rich.markup import escape

    from scanside.doctor import examine

    checks = examine(config)
    if as_json:
        print_json({"checks": [check.to_dict() for check in checks]})
    else:
        # One line for each, however long: a path that is broken in two cannot be copied.
        width = max(len(check.name) for check in checks)
        for check in checks:
            name = escape(check.name.ljust(width))
            console.print(f"{_MARKS[check.status]} [bold]{name}[/]  {escape(check.found)}", soft_wrap=True)
            if check.advice:
                console.print(f"{'':{width + 2}}  [dim]→[/] {escape(check.advice)}", soft_wrap=True)
    if any(check.status == "problem" for check in checks):
        raise typer.Exit(1)
