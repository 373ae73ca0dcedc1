"""``scanside replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from scanside.cli.console import console, err, print_json, progress_bar, table
from scanside.cli.many import replay_all
from scanside.cli.options import different_files, settings_from

if TYPE_CHECKING:
    from scanside.replay import Regular, ReplayResult, Via

__all__ = ["replay"]

_MANY = "Many recordings"
_WAYS = ("direct", "gadgetron", "mrd")


def replay(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="ISMRMRD HDF5 file for the images; of many, their folder.")
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT...",
            help="ISMRMRD HDF5 files or streams, files of public data sets, or folders with such files; - is a "
            "stream from standard input.",
            show_default=False,
        ),
    ] = None,
    pipeline: Annotated[
        str, typer.Option("--pipeline", "-p", help="A pipeline's name or a YAML file.")
    ] = "grappa",
    via: Annotated[
        str, typer.Option(help="direct: in this process; gadgetron: in a node; mrd: by an MRD server.")
    ] = "direct",
    speed: Annotated[str, typer.Option(help="max, realtime, or a factor to the scanner's pace.")] = "max",
    undersample: Annotated[
        str | None,
        typer.Option(
            help="Keep every R-th line of a fully sampled scan, or those that a mask (.npy of 0 and 1) keeps.",
            metavar="R|MASK.npy",
        ),
    ] = None,
    acs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --undersample R: calibration lines about the centre that are kept, too; 24 by default.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A changed setting, as grappa.kernel_k1=4; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    group: Annotated[
        str | None, typer.Option(help="Group of HDF5 files; default: dataset, or the only one.")
    ] = None,
    noise_store: Annotated[
        Path | None, typer.Option(help="Folder that keeps noise measurements from scan to scan.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="More inputs: a text file, one path a line; - is standard input.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes at once; by default one for each CPU or GPU.", rich_help_panel=_MANY
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster: local starts one here, auto takes the one that runs here, or HOST:PORT.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads of torch; its choice by default, 1 for each of many processes."
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Do also what an earlier run has done.", rich_help_panel=_MANY),
    ] = False,
) -> None:
    """Reconstruct a recorded scan, as it would be at the scanner, or many of them.

    With several inputs, a folder, --list, --workers or --ray, the output is a folder: images are named like the
    recordings, what fails is listed and stops nothing else, and the same command goes on where it was cut off.
    The exit status is then the number of failures, 100 at most.
    """
    import numpy as np

    from scanside.datasets.as_ismrmrd import recording_of
    from scanside.many.files import read_list
    from scanside.replay import replay as run

    if via not in _WAYS:
        raise typer.BadParameter(f"{via!r}; possible are {', '.join(_WAYS)}", param_hint="--via")
    pace = _speed(speed)
    left_out = _undersampling(undersample, acs)
    given = list(inputs or ())
    if listed is not None or workers or ray or len(given) > 1 or any(path.is_dir() for path in given):
        if via != "direct" or pace != "max":
            raise typer.BadParameter(
                "many recordings are reconstructed with --via direct and --speed max only"
            )
        many: dict[str, Any] = {
            "settings": settings_from(changes or []),
            "group": group,
            "device": device,
            "noise_store": noise_store,
            "undersample": np.load(left_out) if isinstance(left_out, Path) else left_out,
        }
        replay_all(
            given + ([] if listed is None else read_list(listed)),
            output,
            pipeline,
            choices=many,
            workers=workers,
            ray=ray,
            threads=threads or 1,
            again=again,
            report=report,
            as_json=as_json,
        )
        return
    if not given:
        raise typer.BadParameter("name a recording, a folder, or a --list of them", param_hint="INPUT")
    recording = given[0]
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    different_files(recording, output, report, left_out if isinstance(left_out, Path) else None)
    observed = None
    if report is not None:
        # Before the work, so that a missing package is not found out after it.
        from scanside.report import Observations

        observed = Observations() if via == "direct" else None
    output.parent.mkdir(parents=True, exist_ok=True)
    with recording_of(recording) as scan, progress_bar("reconstructing", hidden=as_json) as progress:
        result = run(
            scan,
            pipeline,
            output,
            via=cast("Via", via),
            speed=pace,
            settings=settings_from(changes or []),
            undersample=left_out,
            group=group,
            device=device,
            noise_store=noise_store,
            observe=observed,
            on_progress=progress,
            on_step=lambda step: err.print(step, markup=False, soft_wrap=True),
        )
        found = None
        if report is not None and str(recording) != "-":
            from scanside.inspection import inspect_file

            found = inspect_file(scan, group)
    if report is not None:
        from scanside.report import replay_report

        replay_report(
            result.images,
            report,
            pipeline=Path(pipeline).stem,
            via=via,
            found=found,
            observed=observed,
            trace=result.trace,
            seconds=result.seconds,
            warnings=result.warnings,
        )
    summary = _summary(result, recording, pipeline, via, report)
    if as_json:
        print_json(summary)
    else:
        _print(result, summary)
        if via != "direct":  # what is told in this process is in its log already
            for warning in result.warnings:
                err.print(f"WARNING {warning}", markup=False, soft_wrap=True)


def _speed(text: str) -> Any:
    if text in ("max", "realtime"):
        return text
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise typer.BadParameter(
            f"{text!r}: expected max, realtime or a positive factor", param_hint="--speed"
        )
    return factor


def _undersampling(text: str | None, acs: int | None) -> Path | Regular | None:
    from scanside.replay import Regular

    if text is None or not text.isdecimal():
        if acs is not None:
            raise typer.BadParameter("--acs goes with --undersample R, a whole number", param_hint="--acs")
        return None if text is None else Path(text)
    try:
        return Regular(int(text)) if acs is None else Regular(int(text), acs)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--undersample") from None


def _summary(
    result: ReplayResult, recording: Path, pipeline: str, via: str, report: Path | None
) -> dict[str, Any]:
    return {
        "recording": str(recording),
        "pipeline": pipeline,
        "via": via,
        "output": str(result.output),
        "report": None if report is None else str(report),
        "n_readouts": result.n_readouts,
        "seconds": result.seconds,
        "images": [
            {
                "series": int(image.header["image_series_index"]),
                "index": int(image.header["image_index"]),
                "slice": int(image.header["slice"]),
                "shape": list(image.data.shape),
                "dtype": str(image.data.dtype).removeprefix("torch."),
                "position_mm": image.header["position"].tolist(),
                "incomplete": image.incomplete,
            }
            for image in result.images
        ],
        "warnings": list(result.warnings),
        "stages": None if result.trace is None else result.trace.summary(),
        "research_use_only": True,
    }


def _print(result: ReplayResult, summary: dict[str, Any]) -> None:
    from collections import Counter

    rows = table("", "")
    rows.show_header = False
    shapes = Counter(" × ".join(map(str, image["shape"])) for image in summary["images"])
    kinds = ", ".join(f"{n} of {shape} (channel, z, y, x)" for shape, n in shapes.items()) or "none"
    rows.add_row("[dim]images[/]", kinds)
    rows.add_row("[dim]readouts[/]", f"{result.n_readouts} in {result.seconds:.2f} s, {summary['via']}")
    rows.add_row("[dim]written to[/]", summary["output"])
    if summary["report"] is not None:
        rows.add_row("[dim]report[/]", summary["report"])
    console.print(rows)
    if result.trace is not None and summary["stages"]:
        times = table("stage", "items", "total, ms", "median, ms", right=("items", "total, ms", "median, ms"))
        for stage in summary["stages"]:
            times.add_row(
                stage["stage"], str(stage["items"]), f"{stage['total_ms']:.1f}", f"{stage['median_ms']:.2f}"
            )
        console.print()
        console.print(times)
    console.print("\nResearch use only.", style="dim")
