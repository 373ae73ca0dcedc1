"""``scanside pipelines``."""

from __future__ import annotations

from typing import Annotated

import typer

from scanside.cli.console import console, print_json, table
from scanside.cli.stages import flow, value_text

__all__ = ["pipelines"]


def pipelines(
    name: Annotated[str | None, typer.Argument(help="A shipped pipeline, or a file of your own.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of pipeline files.")
    ] = False,
) -> None:
    """List the pipelines that come with Scanside, or show the stages of one."""
    if schema:
        from scanside.pipeline import pipeline_schema

        print_json(pipeline_schema())
    elif name is None:
        _list()
    else:
        _show(name)


def _list() -> None:
    from rich.markup import escape

    from scanside.pipeline import Pipeline, pipeline_names

    rows = table("pipeline", "stages", "what it does")
    for name in pipeline_names():
        pipeline = Pipeline.load(name)
        rows.add_row(f"[bold]{name}[/]", " → ".join(pipeline.labels), escape(pipeline.description))
    console.print(rows)
    console.print("\nSettings of one: scanside pipelines NAME; of a stage: scanside stages NAME", style="dim")


def _show(name: str) -> None:
    from rich.markup import escape

    from scanside.pipeline import Pipeline, pipeline_path

    pipeline = Pipeline.load(name)
    console.print(f"[bold]{escape(pipeline.name)}[/]  {escape(pipeline.description)}")
    console.print(f"[dim]{escape(str(pipeline_path(name)))}[/]\n", soft_wrap=True)
    rows = table("stage", "takes → gives", "settings (with --set stage.setting=value)")
    for label, stage in zip(pipeline.labels, pipeline.stages, strict=True):
        settings = []
        for setting, value in stage.config.model_dump().items():
            changed = value != type(stage.config).model_fields[setting].default
            text = escape(f"{setting}: {_shortened(value_text(value))}")
            settings.append(f"[bold]{text}[/]" if changed else f"[dim]{text}[/]")
        rows.add_row(f"[bold]{escape(label)}[/]", flow(stage), "\n".join(settings))
    console.print(rows)
    console.print("\nBold: set by the pipeline; dim: the stage's default.", style="dim")


def _shortened(text: str, width: int = 48) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
