"""The commands, and what holds for all of them: errors, logging, version.

Only what a command needs is imported when it runs, so that ``scanside --help`` answers at once.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from scanside._version import __version__
from scanside.cli import (
    bench,
    convert,
    data,
    demo,
    deploy,
    dicom,
    doctor,
    engines,
    evaluate,
    inspect,
    mask,
    pipelines,
    qa,
    readers,
    record,
    regions,
    replay,
    serve,
    simulate,
    stages,
    stream,
    study,
    train,
)
from scanside.cli.console import report_error, show_log
from scanside.errors import ScansideError

__all__ = ["app"]

NOTICE = "Research use only; not a medical device."


class _Commands(TyperGroup):
    """Turns expected errors into one message for the operator; anything else is a defect and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ScansideError, OSError) as error:
            if ctx.obj:
                raise
            report_error(error)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    help=f"Scanside reconstructs MRI raw data as it streams off the scanner.\n\n{NOTICE}",
    epilog=NOTICE,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scanside {__version__}")
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 — its callback has done the work
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all log messages.")] = False,
) -> None:
    """What holds for all commands."""
    ctx.obj = debug or os.environ.get("SCANSIDE_DEBUG", "") not in ("", "0")
    show_log(debug=ctx.obj)


for _command in (
    demo.demo,
    replay.replay,
    simulate.simulate,
    mask.mask,
    inspect.inspect,
    convert.convert,
    serve.serve,
    stream.stream,
    stages.stages,
    pipelines.pipelines,
    train.train,
    evaluate.evaluate,
    study.study,
    regions.regions,
    bench.bench,
    qa.qa,
    doctor.doctor,
):
    app.command()(_command)

for _name, _group in (
    ("engines", engines.engines),
    ("data", data.data),
    ("dicom", dicom.dicom),
    ("readers", readers.readers),
    ("record", record.record),
    ("deploy", deploy.deploy),
):
    app.add_typer(_group, name=_name)
