"""Stages as they stand in a file: a list of names, or of names with their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from scanside.texts import shown

__all__ = ["StageEntry", "StageList"]

StageEntry: TypeAlias = tuple[str, dict[str, Any]]
"""A stage's name and its settings."""


def _entries(value: object) -> tuple[StageEntry, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("expected a list of stages")
    return tuple(_entry(i, entry) for i, entry in enumerate(value))


def _entry(position: int, entry: object) -> StageEntry:
    name: object = None
    settings: object = None
    if isinstance(entry, str):
        name = entry
    elif isinstance(entry, Mapping) and len(entry) == 1:
        name, settings = next(iter(entry.items()))
    elif isinstance(entry, Sequence) and len(entry) == 2:
        name, settings = entry
    if settings is None:
        settings = {}
    if (
        isinstance(name, str)
        and isinstance(settings, Mapping)
        and all(isinstance(key, str) for key in settings)
    ):
        return name, dict(settings)
    raise ValueError(
        f"stage {position + 1} is {shown(entry)}; expected a name, or a name with its settings: '- grappa: {{…}}'"
    )


_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]},
}

StageList: TypeAlias = Annotated[
    tuple[StageEntry, ...], Field(min_length=1), BeforeValidator(_entries), WithJsonSchema(_SCHEMA)
]
"""Stages in order; each a name, or a mapping of one name to its settings."""
