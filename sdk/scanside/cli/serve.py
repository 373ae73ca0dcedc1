"""``scanside serve``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import err

if TYPE_CHECKING:
    from scanside_gadgetron.server import Server
    from scanside_gadgetron.settings import ServerConfig

__all__ = ["serve"]


def serve(
    config: Annotated[
        Path | None, typer.Option(help="YAML file with all settings; the options below go before it.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on (127.0.0.1); any other asks for 'allow' in the file."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (9002); 0 takes any free one.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="For sessions that ask for none (grappa): a name or a YAML file.")
    ] = None,
    prepare: Annotated[
        list[str] | None, typer.Option(help="A pipeline to have ready besides; may be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, and so sessions at once (2).")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="auto, cpu, cuda or cuda:N; repeated, the workers take them in turn."),
    ] = None,
    pipelines: Annotated[
        Path | None, typer.Option(help="Folder of your own pipelines: NAME.yaml there is asked for as NAME.")
    ] = None,
    noise_store: Annotated[
        Path | None, typer.Option(help="Folder that keeps noise measurements from scan to scan.")
    ] = None,
    monitor: Annotated[
        bool, typer.Option("--monitor", help="Show sessions, images and metrics on http://127.0.0.1:9003.")
    ] = False,
    handover: Annotated[
        str | None, typer.Option(help="Unix socket for nodes that Gadgetron executes: auto, off or a path.")
    ] = None,
) -> None:
    """Take scans from Gadgetron and from MRD hosts, with warm workers, until stopped with Ctrl-C.

    kill -HUP loads pipelines, bundles and the settings' file anew, without losing a scan.
    """
    from scanside_gadgetron.monitor.logs import setup_logging
    from scanside_gadgetron.server import serve as run
    from scanside_gadgetron.settings import ServerConfig, Settings

    def read() -> ServerConfig:
        read_config = ServerConfig.load(
            config,
            Settings.from_environment(),
            host=host,
            port=port,
            pipeline=pipeline,
            prepare=prepare or None,
            workers=workers,
            devices=device or None,
            pipelines=pipelines,
            noise_store=noise_store,
            handover=handover,
        )
        return read_config.monitored() if monitor else read_config

    settings = read()

    def ready(server: Server) -> None:
        where = ", ".join(f"{name}:{number}" for name, number in server.addresses)
        page = "" if server.monitor_url is None else f"; look at [bold]{server.monitor_url}[/]"
        err.print(
            f"listening on [bold]{where}[/] with pipeline [bold]{settings.pipeline}[/]{page}; Ctrl-C ends",
            soft_wrap=True,
        )

    # The operator wants to see how workers get ready, who came and what became of it: server and workers alike.
    level = min(logging.getLogger("scanside_gadgetron").level, logging.INFO)
    setup_logging(as_json=settings.log == "json", level=level)
    run(settings, read_again=read, on_ready=ready)
