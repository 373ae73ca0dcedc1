"""``scanside stream``."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from scanside.cli.console import err
from scanside.cli.options import different_files, settings_from

__all__ = ["stream"]


def stream(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline's name or a YAML file.")],
    source: Annotated[
        Path, typer.Option("--input", "-i", help="Stream to read; - is standard input.", metavar="FILE")
    ] = Path("-"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Stream to write; - is standard output.", metavar="FILE")
    ] = Path("-"),
    output_format: Annotated[
        str,
        typer.Option(help="Version of MRD to write: same as the input's, 1, 2 (the newest), 2.1 or 2.2."),
    ] = "same",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A changed setting, as grappa.kernel_k1=4; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    noise_store: Annotated[
        Path | None, typer.Option(help="Folder that keeps noise measurements from scan to scan.")
    ] = None,
) -> None:
    """Reconstruct a scan between two pipes: scanside stream grappa < scan > images.

    An ISMRMRD stream (MRD 1) and an MRD 2 stream are told apart by their first bytes. Images go out as they are
    made, all that is said goes to standard error. The exit status is 1 where the scan was cut off or nobody takes the
    images.
    """
    from scanside.context import Context
    from scanside.noise_store import NoiseStore
    from scanside.pipeline import Pipeline
    from scanside.serving.pipes import FORMATS, reconstruct_stream

    if output_format not in FORMATS:
        raise typer.BadParameter(
            f"{output_format!r}; possible are {', '.join(FORMATS)}", param_hint="--output-format"
        )
    different_files(source, output)
    if str(source) == "-" and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal: give a stream, as in '< scan'")
    streamed = reconstruct_stream(
        source,
        _standard_output() if str(output) == "-" else output,
        Pipeline.load(pipeline, settings_from(changes or [])),
        Context(device, NoiseStore(noise_store), tell=lambda text: err.print(text, markup=False)),
        output_format,
    )
    err.print(f"{streamed}, {streamed.seconds:.2f} s", markup=False, soft_wrap=True)


def _standard_output() -> BinaryIO:
    """Standard output for the stream alone: what any library prints there goes to standard error from now on."""
    if sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal: send the images somewhere, as in '> images'")
    sys.stdout.flush()
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return cast("BinaryIO", io.FileIO(own, "w"))
