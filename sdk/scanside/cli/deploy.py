"""``scanside deploy``: what a site installs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from scanside.cli.console import console, err
from scanside.cli.options import settings_from

__all__ = ["deploy"]

deploy = typer.Typer(
    help="Write what a site installs: chains for Gadgetron, OpenRecon images.", no_args_is_help=True
)

_Pipeline = Annotated[str, typer.Option("--pipeline", "-p", help="A pipeline's name or a YAML file.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A changed setting, as engine.deadline_ms=500; may be repeated."),
]


@deploy.command()
def chain(
    place: Annotated[
        str, typer.Option(help="acquisitions, buckets, recon_data, image_array or images.")
    ] = "acquisitions",
    how: Annotated[
        str, typer.Option(help="connect: to a running server; execute: a process for each scan.")
    ] = "connect",
    pipeline: _Pipeline = "grappa",
    changes: _Set = None,
    address: Annotated[str, typer.Option(help="Of the server, for connect.")] = "localhost",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the server, for connect.")] = 18000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; without it to standard output.")
    ] = None,
) -> None:
    """Write a chain for Gadgetron 4.7 that has Scanside's node at some place."""
    from scanside_deploy.chains import How, Place
    from scanside_deploy.chains import chain as write

    text = write(
        cast("Place", place),
        cast("How", how),
        pipeline,
        settings_from(changes or []),
        address=address,
        port=port,
    )
    if output is None:
        console.print(text, end="", markup=False, soft_wrap=True)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    err.print(f"{output}: put it into Gadgetron's share/gadgetron/config", markup=False, soft_wrap=True)
