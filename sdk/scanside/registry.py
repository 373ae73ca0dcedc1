"""Stages by name, from the entry points of installed distributions.

Scanside's own stages are registered the same way as anyone's::

    [project.entry-points."scanside.stages"]
    negate = "my_package.negate:Negate"
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from scanside.errors import MissingExtra, PipelineError, ScansideError
from scanside.stage import Stage
from scanside.texts import shown

__all__ = ["GROUP", "load_stage", "stage_names"]

GROUP = "scanside.stages"


def _registered() -> dict[str, dict[str, EntryPoint]]:
    """Entry points by name and, as two distributions may use the same name, by what they point to."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = point
    return found


def stage_names() -> list[str]:
    """Names of all registered stages, sorted; none of them is imported."""
    return sorted(_registered())


def load_stage(name: str) -> type[Stage[Any, Any]]:
    """Import the stage that is registered under a name.

    Raises:
        MissingExtra: the stage needs torch, which is not installed.
        PipelineError: no such stage, or two of this name, or its module cannot be imported, or it is no stage.
    """
    registered = _registered()
    if name not in registered:
        near = get_close_matches(name, registered, n=1)
        hint = (
            f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(sorted(registered)) or 'none'}"
        )
        raise PipelineError(f"there is no stage {shown(name)}: {hint}")
    if len(registered[name]) > 1:
        raise PipelineError(
            f"two distributions register a stage '{name}': {' and '.join(sorted(registered[name]))}; "
            "uninstall one or have it renamed"
        )
    (point,) = registered[name].values()
    try:
        stage = point.load()
    except ScansideError:
        raise
    except Exception as error:  # a module of someone else may raise anything while it is imported
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            raise MissingExtra("torch", "torch", f"stage '{name}'") from error
        what = f"{type(error).__name__}: {error}"
        raise PipelineError(f"stage '{name}' ({point.value}) cannot be imported: {what}") from error
    if not (isinstance(stage, type) and issubclass(stage, Stage)):
        raise PipelineError(f"stage '{name}' ({point.value}) is no subclass of scanside.Stage")
    return stage
