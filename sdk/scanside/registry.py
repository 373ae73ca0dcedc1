"""Stages by name, from the entry points of installed distributions.

Scanside's own stages are registered the same way as anyone's::

    [project.entry-points."scanside.stages"]
    negate = "my_package.negate:Negate"
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from scanside.errors import PipelineError, ScansideError
from scanside.stage import Stage

__all__ = ["GROUP", "load_stage", "stage_names"]

GROUP = "scanside.stages"


def _registered() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PipelineError(
                f"two distributions register a stage '{point.name}': {other.value} and {point.value}; "
                "uninstall one or have it renamed"
            )
    return found


def stage_names() -> list[str]:
    """Names of all registered stages, sorted; none of them is imported."""
    return sorted(_registered())


def load_stage(name: str) -> type[Stage[Any, Any]]:
    """Import the stage that is registered under a name.

    Raises:
        PipelineError: no such stage, or its module cannot be imported, or it is no stage.
    """
    registered = _registered()
    if name not in registered:
        near = get_close_matches(name, registered, n=1)
        hint = (
            f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(sorted(registered)) or 'none'}"
        )
        raise PipelineError(f"there is no stage '{name}': {hint}")
    point = registered[name]
    try:
        stage = point.load()
    except ScansideError:
        raise
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"stage '{name}' ({point.value}) cannot be imported: {error}") from error
    if not (isinstance(stage, type) and issubclass(stage, Stage)):
        raise PipelineError(f"stage '{name}' ({point.value}) is no subclass of scanside.Stage")
    return stage
