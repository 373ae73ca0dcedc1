"""``scanside deploy``: what a site installs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from scanside.cli.console import coloured_level, console, err, progress_bar
from scanside.cli.options import different_files, settings_from

__all__ = ["deploy"]

deploy = typer.Typer(
    help="Write what a site installs: chains for Gadgetron, OpenRecon images, codespecs for Tyger.",
    no_args_is_help=True,
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


@deploy.command()
def openrecon(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that the image is built from.")],
    pipeline: _Pipeline = "student",
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            help="A setting for the scanner's page: finish.kind, or with a range engine.deadline_ms=50:5000:500[ms]; "
            "may be repeated. Without any, those that are likely to be wanted.",
        ),
    ] = None,
    changes: _Set = None,
    name: Annotated[str | None, typer.Option(help="Of the application.")] = None,
    vendor: Annotated[str, typer.Option(help="Who builds it; letters and digits.")] = "Scanside",
    image: Annotated[str, typer.Option(help="Scanside's image that it is built upon.")] = "scanside:cpu",
    injector: Annotated[
        str,
        typer.Option(
            help="image: finished images; compleximage: complex ones that the scanner goes on with."
        ),
    ] = "image",
    gpu: Annotated[bool, typer.Option("--gpu", help="It may use a GPU.")] = False,
) -> None:
    """Write the folder that an OpenRecon image is built from, with its label and the scanner's page."""
    from scanside.pipeline import Pipeline
    from scanside_deploy.openrecon import Injector, Shown, shown_by_default, write_context

    if injector not in ("image", "compleximage"):
        raise typer.BadParameter(
            f"{injector!r}; possible are image and compleximage", param_hint="--injector"
        )
    if parameters is None:
        shown = shown_by_default(Pipeline.load(pipeline))
    else:
        shown = tuple(Shown.parse(one) for one in parameters)
    label = write_context(
        output,
        pipeline,
        shown,
        settings_from(changes or []),
        name=name,
        vendor=vendor,
        image=image,
        injector=cast("Injector", injector),
        gpu=gpu,
    )
    err.print(
        f"{output}: put the manual there as manual.pdf, then ./package.sh makes {label.package}.zip "
        "and one for FIRE",
        markup=False,
        soft_wrap=True,
    )


@deploy.command()
def tyger(
    pipeline: _Pipeline = "grappa",
    changes: _Set = None,
    image: Annotated[str, typer.Option(help="Scanside's image.")] = "scanside:cpu",
    gpu: Annotated[bool, typer.Option("--gpu", help="Ask for a GPU.")] = False,
    cpu: Annotated[str, typer.Option(help="CPU cores to ask for.")] = "2",
    memory: Annotated[str, typer.Option(help="Memory to ask for.")] = "4Gi",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; without it to standard output.")
    ] = None,
) -> None:
    """Write a codespec for Tyger: 'scanside stream' between two of its pipes."""
    from scanside_deploy.tyger import codespec

    text = codespec(pipeline, settings_from(changes or []), image=image, gpu=gpu, cpu=cpu, memory=memory)
    if output is None:
        console.print(text, end="", markup=False, soft_wrap=True)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    err.print(f"{output}: tyger codespec create -f {output}", markup=False, soft_wrap=True)


@deploy.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="What 'openrecon' wrote, with what package.sh built there.")],
) -> None:
    """Check an OpenRecon image against the rules of those who take it, and pack it for OpenRecon and for FIRE."""
    from scanside_deploy.package import pack as write

    for path in write(folder):
        console.print(f"{path}: {path.stat().st_size / 1e6:.0f} MB", markup=False, soft_wrap=True)


@deploy.command("try")
def try_(
    chain_file: Annotated[Path, typer.Argument(metavar="CHAIN", help="A chain that connects to a server.")],
    recording: Annotated[Path, typer.Argument(metavar="SCAN", help="An ISMRMRD HDF5 file or stream.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="ISMRMRD HDF5 file for the images.")],
    group: Annotated[str | None, typer.Option(help="HDF5 group; default: dataset, or the only one.")] = None,
) -> None:
    """Send a recorded scan to a running server, as Gadgetron would with this chain."""
    from rich.markup import escape

    from scanside_deploy.trial import try_chain

    different_files(chain_file, recording, output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("sending") as progress:
        trial = try_chain(chain_file, recording, output, group=group, on_progress=progress)
    for warning in trial.warnings:
        err.print(f"{coloured_level('warning')}: {escape(warning)}", soft_wrap=True)
    first = "" if trial.first_image_s is None else f", the first after {trial.first_image_s:.2f} s"
    console.print(
        f"{trial.n_images} images of {trial.n_readouts} readouts in {trial.seconds:.2f} s{first}: {output}",
        markup=False,
        soft_wrap=True,
    )
