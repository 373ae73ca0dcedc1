"""Settings that a host sends with a scan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from scanside.context import Context
from scanside.convert import items_of
from scanside.errors import PipelineError
from scanside.items import Image, Readouts
from scanside.mrd.messages import Close, ConfigFile, ConfigText, HeaderXml, Text
from scanside.mrd.reader import decode
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline, pipeline_names
from scanside.serving import PipelinePool, serve_stream
from scanside.serving.parameters import HostParameters, parameter_name, parameter_names
from scanside.stage import Stage, StageConfig
from scanside.testing.small import small_image, small_readouts, small_scan


class Tuned(Stage[Readouts, Image]):
    """Sends what it is set to."""

    class Config(StageConfig):
        strength: float = 0.5
        on: bool = False
        mode: str = "mild"

    config: Config

    def process(self, item: Readouts) -> Iterator[Image]:
        return iter(())

    def finish(self, end: object) -> Iterator[Image]:
        image = small_image()
        image.meta["Tuned"] = [str(value) for value in self.config.model_dump().values()]
        yield image


def _pipeline(name: str, settings: Mapping[str, str]) -> Pipeline:
    values = {setting.partition(".")[2]: json.loads(value) for setting, value in settings.items()}
    return Pipeline([Tuned(**values)], name=name, labels=["tuned"])


class Host:
    """A host that sends a scan, and pipelines that are counted."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, str]]] = []
        self.pool = PipelinePool(Context("cpu"), load=self._load)

    def _load(self, name: str, settings: Mapping[str, str]) -> Pipeline:
        self.made.append((name, dict(settings)))
        return _pipeline(name, settings)

    def send(self, parameters: object, config: ConfigText | None = None) -> list[Any]:
        text = Text(json.dumps({"version": "1.2.0", "parameters": parameters}))
        header = HeaderXml(small_scan().header.xml)
        stream = MemoryStream(
            encode(config or ConfigFile("openrecon"), header, text, *small_readouts(), Close())
        )
        serve_stream(stream, self.pool)
        return list(decode(stream.sent))


def set_to(message: Any) -> list[str]:
    """What the stage that made an image was set to."""
    (image,) = items_of(message, small_scan())
    assert isinstance(image, Image)
    return list(image.meta["Tuned"])


@pytest.mark.torch_free
@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("engine.deadline_ms", "engineDeadlineMs"),
        ("coil-maps.method", "coilMapsMethod"),
        ("finish#2.kind", "finish2Kind"),
    ],
)
def test_name(setting: str, name: str) -> None:
    assert parameter_name(setting) == name


@pytest.mark.parametrize("name", pipeline_names())
def test_every_setting_of_the_shipped_pipelines_can_be_sent(name: str) -> None:
    pipeline = Pipeline.load(name)
    names = parameter_names(pipeline)
    assert len(names) == sum(len(type(stage.config).model_fields) for stage in pipeline.stages)
    assert all(re.fullmatch("[A-Za-z0-9]+", one) for one in names)


def test_names_that_meet() -> None:
    stages = [{"noise": {}}, {"noise": {}}]
    pipeline = Pipeline.from_config({"name": "p", "stages": stages})
    assert len(set(parameter_names(pipeline).values())) == 2 * len(
        type(pipeline.stages[0].config).model_fields
    )
    pipeline.labels = ("a-b", "aB")
    with pytest.raises(PipelineError, match=r"a-b\..*aB\."):
        parameter_names(pipeline)


class TestSettings:
    def settings(self, **values: str) -> tuple[dict[str, str], list[str]]:
        return HostParameters(None, values).settings(_pipeline("p", {}))

    def test_changed(self) -> None:
        found = self.settings(tunedStrength="2", tunedOn="true", tunedMode="harsh")
        assert found == ({"tuned.strength": "2", "tuned.on": "true", "tuned.mode": "harsh"}, [])

    def test_what_is_as_it_was_changes_nothing(self) -> None:
        assert self.settings(tunedStrength="0.50", tunedOn="False", tunedMode="mild") == ({}, [])

    def test_unknown(self) -> None:
        assert self.settings(tunedStrenght="2") == ({}, ["tunedStrenght"])


@pytest.mark.torch_free
def test_only_what_is_a_parameter() -> None:
    parameters = {"version": "1", "parameters.config": "openrecon", "parameters.a": "b", "text": "c"}
    assert HostParameters.of(parameters) == HostParameters(None, {"a": "b"})


class TestSession:
    def test_unchanged_settings_take_the_pipeline_that_is_ready(self) -> None:
        host = Host()
        for _ in range(2):
            image, _ = host.send({"config": "openrecon", "tunedStrength": "0.5"})
        assert set_to(image) == ["0.5", "False", "mild"]
        assert host.made == [(".", {})]

    def test_changed_settings(self) -> None:
        host = Host()
        for _ in range(2):
            image, close = host.send({"tunedStrength": "2", "tunedOn": True})
        assert set_to(image) == ["2.0", "True", "mild"]
        assert isinstance(close, Close)
        # Kept ready for the next scan with the same settings.
        assert host.made == [(".", {}), (".", {"tuned.strength": "2", "tuned.on": "true"})]

    def test_other_pipeline(self) -> None:
        host = Host()
        host.send({"config": "other"})
        host.send({"config": "other", "tunedStrength": "2"})
        assert host.made == [(".", {}), ("other", {}), ("other", {"tuned.strength": "2"})]

    def test_unknown_name_is_told(self) -> None:
        image, text, _ = Host().send({"tunedStrenght": "2"})
        assert set_to(image)[0] == "0.5"
        assert "tunedStrenght" in text.text

    def test_wrong_value_is_an_error(self) -> None:
        error, _ = Host().send({"tunedStrength": '"much"'})
        assert "tuned" in error.text.lower()

    def test_a_chain_is_changed_by_its_configuration_only(self) -> None:
        host = Host()
        host.send({"tunedStrength": "2"}, ConfigText(b"<configuration/>"))
        assert host.made == [(".", {})]
