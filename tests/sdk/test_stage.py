"""Stages: their settings, and what they say of themselves."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any, Union

import pytest
from pydantic import Field

from scanside.errors import StageConfigError
from scanside.items import Image, Item, KSpace, Readouts, Samples, Waveform
from scanside.scan import ScanEnd
from scanside.stage import Stage, StageConfig


class Blur(Stage[Image, Image]):
    class Config(StageConfig):
        """Settings.

        Attributes:
            width: of the kernel in mm; a long text that
                goes on in a second line: with a colon.
            passes: how often.
            shown: never seen.
        """

        width: float
        passes: int = Field(default=1, ge=1)
        shown: bool = Field(default=False, description="Whether it is shown.")

    config: Config

    def process(self, item: Image) -> Iterator[Image]:
        yield item


def test_settings_from_keywords_or_ready_made() -> None:
    assert Blur(width=2).config == Blur.Config(width=2.0)
    config = Blur.Config(width=3.0, passes=4)
    assert Blur(config).config is config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 1, "witdh": 2}, "Blur has no setting 'witdh'; it has: width, passes, shown"),
        ({}, "Blur.width is missing"),
        ({"width": "wide"}, r"Blur.width = 'wide': .*number"),
        ({"width": 1, "passes": 0}, r"Blur.passes = 0: .*greater than or equal to 1"),
        ({"passes": 0, "no": 1}, "width is missing; Blur.passes = 0.*; Blur has no setting 'no'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(StageConfigError, match=said):
        Blur(**settings)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Blur(width=1).config.passes = 3


def test_schema_describes_settings() -> None:
    properties = Blur.Config.model_json_schema()["properties"]
    assert {name: schema["description"] for name, schema in properties.items()} == {
        "width": "of the kernel in mm; a long text that goes on in a second line: with a colon.",
        "passes": "how often.",
        "shown": "Whether it is shown.",
    }
    assert properties["passes"]["default"] == 1
    assert Blur.Config.model_json_schema()["description"] == "Settings."


def test_schema_describes_inherited_settings() -> None:
    class Config(Blur.Config):
        """More settings.

        Attributes:
            more: another one.
        """

        more: int = 0

    properties = Config.model_json_schema()["properties"]
    assert properties["more"]["description"] == "another one."
    assert properties["passes"]["description"] == "how often."


def process(self: object, item: Item) -> Iterable[Item]:
    return ()


def declared(base: Any) -> type[Stage[Any, Any]]:
    return types.new_class("Declared", (base,), exec_body=lambda body: body.update(process=process))


@pytest.mark.parametrize(
    ("base", "takes", "gives"),
    [
        (Stage[Readouts, KSpace], (Readouts,), (KSpace,)),
        (Stage[Readouts | Waveform, Image], (Readouts, Waveform), (Image,)),
        (Stage[Union[Readouts, Waveform], Image | KSpace], (Readouts, Waveform), (Image, KSpace)),  # noqa: UP007
        (Stage[Image, None], (Image,), ()),
        (
            Stage[Item, Item],
            (Readouts, Waveform, KSpace, Samples, Image),
            (Readouts, Waveform, KSpace, Samples, Image),
        ),
        (Blur, (Image,), (Image,)),
    ],
)
def test_declared_items(base: Any, takes: tuple[type, ...], gives: tuple[type, ...]) -> None:
    stage = declared(base)
    assert stage.takes() == takes
    assert stage.gives() == gives


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (Stage, "Declared must say what it takes and gives"),
        (Stage[int, Image], "declared with <class 'int'>, which is no item"),
        (Stage[Image, Image | str], "declared with <class 'str'>"),
    ],
)
def test_missing_or_wrong_declaration(base: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        declared(base).takes()


def test_a_stage_needs_process() -> None:
    class Nothing(Stage[Image, Image]):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()  # type: ignore[abstract]


def test_the_rest_of_the_life_cycle_is_optional() -> None:
    stage = Blur(width=1)
    assert list(stage.finish(ScanEnd())) == []
    stage.close()
