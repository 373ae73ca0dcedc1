"""JSON Schemas of stages' settings and of pipeline files, for editors and for other programs.

An editor that knows the schema of a pipeline file completes names of stages and settings and marks typos; see
https://json-schema.org (draft 2020-12).
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel

from scanside.errors import ScansideError
from scanside.items import item_types
from scanside.registry import load_stage, stage_names

__all__ = ["pipeline_schema", "setting_docs", "stage_schema", "summary"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def stage_schema(name: str) -> dict[str, Any]:
    """JSON Schema of a stage's settings.

    Args:
        name: under which the stage is registered.

    Raises:
        PipelineError: there is no such stage, or it cannot be imported.
    """
    stage = load_stage(name)
    return {"$schema": _DIALECT, **_config_schema(name, stage.Config, summary(stage))}


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file, with the settings of every registered stage that can be imported."""
    definitions: dict[str, Any] = {}
    for name in stage_names():
        try:
            stage = load_stage(name)
        except ScansideError:  # its package lacks something: its settings stay unknown
            definitions[name] = {"title": name, "type": ["object", "null"]}
            continue
        definitions[name] = _config_schema(name, stage.Config, summary(stage), f"#/$defs/{name}")
        # A stage whose settings are all left out may be written `name:` with nothing behind it.
        definitions[name]["type"] = ["object", "null"]
    with_settings = {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/{name}"} for name in definitions},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {
        "$schema": _DIALECT,
        "title": "Scanside pipeline",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Short name; it goes into every image's meta."},
            "description": {"type": "string", "description": "One sentence for people."},
            "input": {
                "type": "array",
                "items": {"enum": list(item_types())},
                "default": ["readouts", "waveform"],
                "description": "Kinds of items that come in.",
            },
            "stages": {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [{"enum": list(definitions)}, with_settings]},
                "description": "In order; each a name, or a name with its settings.",
            },
        },
        "required": ["name", "stages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def summary(thing: type) -> str:
    """The first sentence of a class' docstring, on one line."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split())


def setting_docs(config: type[BaseModel]) -> dict[str, str]:
    """What each setting means: from its field's description, or the ``Attributes:`` of the docstring."""
    docs = _attribute_docs(inspect.getdoc(config) or "")
    return {
        name: " ".join((field.description or docs.get(name, "")).split())
        for name, field in config.model_fields.items()
    }


def _config_schema(name: str, config: type[BaseModel], description: str, at: str = "#") -> dict[str, Any]:
    """Schema of a configuration that stands at a JSON pointer of the whole document."""
    schema = config.model_json_schema(ref_template=at + "/$defs/{model}")
    schema |= {"title": name, "description": description}
    docs = setting_docs(config)
    for setting, property_ in schema.get("properties", {}).items():
        property_.pop("title", None)
        if docs.get(setting):
            property_["description"] = docs[setting]
    return schema


def _attribute_docs(docstring: str) -> dict[str, str]:
    """The ``Attributes:`` section of a Google style docstring, by name."""
    _, found, section = docstring.partition("Attributes:\n")
    docs: dict[str, str] = {}
    current = ""
    for line in section.split("\n") if found else ():
        if line.strip() and not line.startswith(" "):
            break
        if start := re.match(r" {4}(\w+): (.*)", line):
            current = start[1]
            docs[current] = start[2]
        elif current:
            docs[current] += " " + line.strip()
    return docs
