"""`scanside stages` and `scanside pipelines`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import Result

from scanside.pipeline import Pipeline, pipeline_names, pipeline_schema
from scanside.registry import load_stage, stage_names

Scanside = Callable[..., Result]


def test_all_stages_are_listed(scanside: Scanside) -> None:
    text = scanside("stages").stdout
    assert [name for name in stage_names() if name not in text] == []
    assert "Readouts → KSpace" in text


@pytest.mark.parametrize("name", stage_names())
def test_settings_of_a_stage(scanside: Scanside, name: str) -> None:
    text = scanside("stages", name).stdout
    for setting in load_stage(name).Config.model_fields:
        assert setting in text


def test_schema_of_a_stage(scanside: Scanside) -> None:
    schema = json.loads(scanside("stages", "accumulate", "--schema").stdout)
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["trigger"]["enum"] == ["slice", "measurement"]


def test_schema_needs_a_stage(scanside: Scanside) -> None:
    assert "pipelines --schema" in scanside("stages", "--schema", status=2).stderr


def test_all_pipelines_are_listed(scanside: Scanside) -> None:
    text = " ".join(scanside("pipelines").stdout.split())
    for name in pipeline_names():
        assert Pipeline.load(name).description in text


def test_pipeline_of_ones_own(scanside: Scanside, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nstages: [accumulate, fourier, {finish: {scaling: fill}}]\n")
    text = scanside("pipelines", file).stdout
    assert "scaling: fill" in text
    assert "incomplete: withhold" in text
    assert str(file) in text


def test_schema_of_pipelines(scanside: Scanside) -> None:
    assert json.loads(scanside("pipelines", "--schema").stdout) == json.loads(json.dumps(pipeline_schema()))
