"""The JSON Schemas describe what the loader accepts."""

from __future__ import annotations

import pytest
import yaml
from jsonschema import Draft202012Validator

from scanside.pipeline import pipeline_names, pipeline_path, pipeline_schema
from scanside.registry import load_stage, stage_names


def validator() -> Draft202012Validator:
    return Draft202012Validator(pipeline_schema())


@pytest.mark.parametrize("name", pipeline_names())
def test_shipped_pipelines_fit_the_schema(name: str) -> None:
    validator().validate(yaml.safe_load(pipeline_path(name).read_text("utf-8")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a", "stages": []},
        {"name": "a", "stages": ["no-such-stage"]},
        {"name": "a", "stages": [{"accumulate": {"trigger": "never"}}]},
        {"name": "a", "stages": [{"accumulate": {"triger": "slice"}}]},
        {"name": "a", "stages": [{"accumulate": {}, "fourier": {}}]},
        {"name": "a", "stages": ["accumulate"], "input": ["pixels"]},
        {"stages": ["accumulate"]},
        {"name": "a", "stages": ["accumulate"], "speed": 3},
    ],
)
def test_what_the_loader_refuses_does_not_fit(wrong: dict[str, object]) -> None:
    assert not validator().is_valid(wrong)


@pytest.mark.parametrize("name", stage_names())
def test_every_setting_of_every_stage_is_described(name: str) -> None:
    schema = load_stage(name).Config.model_json_schema()
    Draft202012Validator.check_schema(schema)
    assert all(setting.get("description") for setting in schema.get("properties", {}).values())
