"""Plug-ins by name, from the entry points of installed distributions.

Scanside's own stages, networks, losses, sources and tasks are registered the same way as anyone's::

    [project.entry-points."scanside.stages"]
    negate = "my_package.negate:Negate"
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from scanside.errors import ConfigError, MissingExtra, PipelineError, ScansideError
from scanside.stage import Stage
from scanside.texts import shown

__all__ = ["GROUP", "Registry", "load_stage", "stage_names"]

Plugin = TypeVar("Plugin")

GROUP = "scanside.stages"


@dataclass(frozen=True)
class Registry(Generic[Plugin]):
    """What distributions register in one group of entry points.

    Attributes:
        group: of entry points.
        noun: what one of it is called in messages.
        base: class that all of them are subclasses of.
        base_name: how a developer finds that class.
        error: raised where one cannot be had.
    """

    group: str
    noun: str
    base: type[Plugin]
    base_name: str
    error: type[ConfigError] = ConfigError

    def names(self) -> list[str]:
        """All registered names, sorted; none of them is imported."""
        return sorted(self._registered())

    def load(self, name: str) -> type[Plugin]:
        """Import what is registered under a name.

        Raises:
            MissingExtra: it needs torch, which is not installed.
            ConfigError: of the kind `error`: nothing of this name, or two of it, or its module cannot be imported,
                or it is something else.
        """
        registered = self._registered()
        if name not in registered:
            near = get_close_matches(name, registered, n=1)
            known = ", ".join(sorted(registered)) or "none"
            hint = f"did you mean '{near[0]}'?" if near else f"known are: {known}"
            raise self.error(f"there is no {self.noun} {shown(name)}: {hint}")
        if len(registered[name]) > 1:
            raise self.error(
                f"two distributions register a {self.noun} '{name}': {' and '.join(sorted(registered[name]))}; "
                "uninstall one or have it renamed"
            )
        (point,) = registered[name].values()
        try:
            found = point.load()
        except ScansideError:
            raise
        except Exception as error:  # a module of someone else may raise anything while it is imported
            if isinstance(error, ModuleNotFoundError) and error.name == "torch":
                raise MissingExtra("torch", "torch", f"{self.noun} '{name}'") from error
            what = f"{type(error).__name__}: {error}"
            raise self.error(f"{self.noun} '{name}' ({point.value}) cannot be imported: {what}") from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise self.error(f"{self.noun} '{name}' ({point.value}) is no subclass of {self.base_name}")
        return found

    def _registered(self) -> dict[str, dict[str, EntryPoint]]:
        """Entry points by name and, as two distributions may use the same name, by what they point to."""
        found: dict[str, dict[str, EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, {})[point.value] = point
        return found


_STAGES: Registry[Stage[Any, Any]] = Registry(
    GROUP,
    "stage",
    Stage,  # type: ignore[type-abstract]
    "scanside.Stage",
    PipelineError,
)


def stage_names() -> list[str]:
    """Names of all registered stages, sorted; none of them is imported."""
    return _STAGES.names()


def load_stage(name: str) -> type[Stage[Any, Any]]:
    """Import the stage that is registered under a name.

    Raises:
        MissingExtra: the stage needs torch, which is not installed.
        PipelineError: no such stage, or two of this name, or its module cannot be imported, or it is no stage.
    """
    return _STAGES.load(name)
