"""``scanside serve``."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from scanside.cli.console import err

__all__ = ["serve"]


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. There is no access control.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 9002,
    pipeline: Annotated[
        str, typer.Option(help="For sessions that ask for none: a name or a YAML file.")
    ] = "grappa",
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    pipelines: Annotated[
        Path | None, typer.Option(help="Folder of your own pipelines: NAME.yaml there is asked for as NAME.")
    ] = None,
    noise_store: Annotated[
        Path | None, typer.Option(help="Folder that keeps noise measurements from scan to scan.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="How many run at once.")] = 2,
) -> None:
    """Take scans from Gadgetron's <connect> and from MRD hosts until stopped with Ctrl-C."""
    from scanside_gadgetron.server import serve as run
    from scanside_gadgetron.settings import Settings

    settings = Settings.from_environment()
    given: dict[str, Any] = {"device": device, "pipelines": pipelines, "noise_store": noise_store}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})

    def ready(addresses: list[tuple[str, int]]) -> None:
        where = ", ".join(f"{name}:{number}" for name, number in addresses)
        err.print(
            f"listening on [bold]{where}[/] with pipeline [bold]{pipeline}[/]; Ctrl-C ends", soft_wrap=True
        )
        # From here on the operator wants to see who came and what became of it.
        for name in ("scanside", "scanside_gadgetron"):
            logger = logging.getLogger(name)
            logger.setLevel(min(logger.level, logging.INFO))

    run(host, port, pipeline=pipeline, max_sessions=sessions, settings=settings, on_ready=ready)
