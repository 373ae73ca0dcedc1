"""Settings that a host sends with a scan: the scanner's user sets them, and they arrive as TEXT before the data.

OpenRecon sends one JSON object, ``{"version": "…", "parameters": {"config": "student", "engineDeadlineMs": "500"}}``.
The names in ``parameters`` hold letters and digits only, so that of a pipeline's setting is `parameter_name`;
``config`` chooses the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scanside.errors import PipelineError
from scanside.plain_yaml import read_value

if TYPE_CHECKING:
    from scanside.pipeline import Pipeline

__all__ = ["HostParameters", "parameter_name", "parameter_names"]

_GROUP = "parameters."
_CHOICE = "config"

NAMES_OF_NONE = ("", "default", "openrecon")
"""What hosts ask for when they leave the pipeline to the server; ``openrecon`` is what OpenRecon always sends."""


def parameter_name(setting: str) -> str:
    """The name under which a host sends a setting: ``engine.deadline_ms`` is ``engineDeadlineMs``."""
    first, *rest = [part for part in re.split(r"[^A-Za-z0-9]+", setting) if part]
    return first + "".join(part[0].upper() + part[1:] for part in rest)


def parameter_names(pipeline: Pipeline) -> dict[str, str]:
    """The settings of a pipeline, as ``stage.setting``, by the names under which hosts send them.

    Raises:
        PipelineError: two settings have one name.
    """
    found: dict[str, str] = {}
    for label, stage in zip(pipeline.labels, pipeline.stages, strict=True):
        for name in type(stage.config).model_fields:
            setting = f"{label}.{name}"
            other = found.setdefault(parameter_name(setting), setting)
            if other != setting:
                raise PipelineError(
                    f"pipeline '{pipeline.name}': '{other}' and '{setting}' have one name for hosts, "
                    f"{parameter_name(setting)}: rename one of the stages"
                )
    return found


@dataclass(frozen=True)
class HostParameters:
    """What a host asks for besides its configuration.

    Attributes:
        pipeline: name; None where the host leaves it to the server.
        values: what else it sent in ``parameters``, by name.
    """

    pipeline: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> HostParameters:
        """From a scan's parameters, whose names have dots where the host's JSON is nested."""
        values = {name[len(_GROUP) :]: value for name, value in parameters.items() if name.startswith(_GROUP)}
        asked = values.pop(_CHOICE, "").strip()
        return cls(None if asked in NAMES_OF_NONE else asked, values)

    def settings(self, pipeline: Pipeline) -> tuple[dict[str, str], list[str]]:
        """What they change in a pipeline.

        Returns:
            Settings that differ from the pipeline's own, as ``"stage.setting": value``, and the names that are none
            of this pipeline's.

        Raises:
            PipelineError: two settings of the pipeline have one name.
        """
        # Where hosts send nothing, nothing has to be installed that reads it.
        if not self.values:
            return {}, []
        names = parameter_names(pipeline)
        configs = {label: stage.config for label, stage in zip(pipeline.labels, pipeline.stages, strict=True)}
        changed: dict[str, str] = {}
        unknown = []
        for name, value in self.values.items():
            if name not in names:
                unknown.append(name)
                continue
            label, _, setting = names[name].rpartition(".")
            own = getattr(configs[label], setting)
            # A host sends all that its page shows, changed or not: a pipeline that is ready must stay the one.
            try:
                same = read_value(value) == own or value == own
            except ValueError:  # told where it is set
                same = False
            if not same:
                changed[names[name]] = value
        return changed, unknown
