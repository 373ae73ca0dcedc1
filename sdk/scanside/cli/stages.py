"""``scanside stages``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scanside.cli.console import coloured_level, console, print_json, table

__all__ = ["stages"]


def stages(
    name: Annotated[str | None, typer.Argument(help="A stage, to see its settings.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the stage's settings.")
    ] = False,
) -> None:
    """List the stages that pipelines can use, or show the settings of one."""
    if name is None:
        if schema:
            raise typer.BadParameter(
                "name the stage whose schema to print; 'scanside pipelines --schema' has all"
            )
        _list()
    elif schema:
        from scanside.registry import load_stage

        print_json(load_stage(name).Config.model_json_schema())
    else:
        _show(name)


def _list() -> None:
    from rich.markup import escape

    from scanside.errors import ScansideError
    from scanside.registry import load_stage, stage_names

    rows = table("stage", "takes → gives", "what it does")
    for name in stage_names():
        try:
            stage = load_stage(name)
        except ScansideError as error:
            rows.add_row(name, "", f"{coloured_level('error')}: {escape(str(error))}")
            continue
        rows.add_row(f"[bold]{name}[/]", flow(stage), escape(summary(stage)))
    console.print(rows)
    console.print("\nSettings of one: scanside stages NAME", style="dim")


def _show(name: str) -> None:
    import inspect

    from rich.markup import escape

    from scanside.registry import load_stage

    stage = load_stage(name)
    console.print(f"[bold]{name}[/]  {flow(stage)}  [dim]{stage.__module__}.{stage.__qualname__}[/]\n")
    # Lines of a docstring end where the source's do: paragraphs are joined for the terminal to wrap.
    paragraphs = (" ".join(text.split()) for text in (inspect.getdoc(stage) or "").split("\n\n"))
    console.print(escape("\n\n".join(paragraphs)).replace("``", ""))
    described = stage.Config.model_json_schema().get("properties", {})
    if not described:
        console.print("\nNo settings.")
        return
    rows = table("setting", "type", "default", "meaning")
    for setting, field in stage.Config.model_fields.items():
        default = "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        rows.add_row(
            f"[bold]{setting}[/]",
            escape(_type_name(field.annotation)),
            escape(default),
            escape(described[setting].get("description", "")),
        )
    console.print()
    console.print(rows)


def summary(thing: type) -> str:
    """The first paragraph of a class' docstring, on one line."""
    import inspect

    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def flow(stage: Any) -> str:
    """What a stage takes and gives, for people."""
    sides = (
        " | ".join(kind.__name__ for kind in kinds) or "nothing" for kinds in (stage.takes(), stage.gives())
    )
    return " → ".join(sides)


def value_text(value: Any) -> str:
    """A setting's value as it would stand in a pipeline file."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(annotation: Any) -> str:
    """A type as one would write it in YAML's terms, without the names of modules."""
    import re
    from typing import Literal, get_args, get_origin

    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    text = re.sub(r"\b(?:[a-z_]+\.)+", "", str(annotation))
    return re.sub(r"Literal\[([^]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), text)
