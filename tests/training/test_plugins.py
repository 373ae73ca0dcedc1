"""Networks, losses, sources and tasks of other distributions, by the names under which they are registered."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any, ClassVar, Literal

import pytest
import torch
from pydantic import BaseModel, Field, ValidationError

import scanside.registry
from scanside.engines.manifest import TensorSpec
from scanside_training.config import read_config
from scanside_training.losses import LossConfig, TermConfig
from scanside_training.models import Batch, Network, NetworkConfig, UnetConfig
from scanside_training.plugins import PluginSettings

Register = Callable[..., None]


class ScaledConfig(NetworkConfig):
    """An image times a number."""

    kind: Literal["scaled"] = "scaled"
    factor: float = Field(1.0, gt=0)
    multiple_of: ClassVar[int] = 1  # type: ignore[assignment]

    def build(self) -> Scaled:
        return Scaled(self)


class Scaled(Network):
    task = "image"
    config: ScaledConfig

    def __init__(self, config: ScaledConfig) -> None:
        super().__init__(config)
        self.factor = torch.nn.Parameter(torch.tensor(config.factor))

    def offered(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        return (batch["image"],)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.factor * image


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Pretend that a distribution is installed that registers these (group, name, object), beside Scanside's own."""
    installed = scanside.registry.entry_points

    def pretend(*mine: tuple[str, str, str]) -> None:
        points = [EntryPoint(name, value, group) for group, name, value in mine]

        def found(group: str) -> EntryPoints:
            return EntryPoints([*installed(group=group), *(one for one in points if one.group == group)])

        monkeypatch.setattr(scanside.registry, "entry_points", found)

    return pretend


def test_a_network_of_ones_own_is_chosen_by_its_kind(register: Register) -> None:
    with pytest.raises(ValidationError, match="there is no network 'scaled'"):
        NetworkConfig.model_validate({"kind": "scaled"})
    register(("scanside.networks", "scaled", f"{__name__}:ScaledConfig"))
    config = NetworkConfig.model_validate({"kind": "scaled", "factor": 2})
    assert type(config) is ScaledConfig
    image = torch.ones(1, 2, 4, 4)
    torch.testing.assert_close(config.build()(image), 2 * image)


def test_a_whole_configuration_keeps_what_it_was_given(register: Register, tiny: dict[str, Any]) -> None:
    register(("scanside.networks", "scaled", f"{__name__}:ScaledConfig"))
    config = read_config(tiny | {"model": {"kind": "scaled", "factor": 2.5}}, "tiny")
    written = config.model_dump(mode="json")
    assert written["model"] == {"kind": "scaled", "factor": 2.5}
    assert read_config(written, "tiny") == config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"kind": "scaled", "facter": 2},
            r"model has no setting 'facter' \(did you mean 'factor'\?\); it has",
        ),
        ({"kind": "scaled", "factor": -2}, r"model\.factor = -2: .*greater than 0"),
    ],
)
def test_its_settings_are_checked_like_any(
    register: Register, tiny: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    register(("scanside.networks", "scaled", f"{__name__}:ScaledConfig"))
    with pytest.raises(ValueError, match=said):
        read_config(tiny | {"model": settings}, "tiny")


def test_what_is_registered_must_be_of_the_group(register: Register) -> None:
    register(("scanside.losses", "scaled", f"{__name__}:ScaledConfig"))
    with pytest.raises(ValidationError, match=r"'scaled' \(.*ScaledConfig\) is no subclass of TermConfig"):
        LossConfig.model_validate({"terms": [{"kind": "scaled"}]})


def test_a_class_of_the_group_takes_its_own_settings_only() -> None:
    assert UnetConfig.model_validate({"channels": 4}).channels == 4
    with pytest.raises(ValidationError):
        UnetConfig.model_validate({"kind": "unrolled"})


def test_the_schema_has_all_kinds(register: Register) -> None:
    register(("scanside.networks", "scaled", f"{__name__}:ScaledConfig"))

    class Holder(BaseModel):
        model: NetworkConfig
        terms: tuple[TermConfig, ...]

    schema = Holder.model_json_schema()
    kinds = {one["properties"]["kind"]["const"]: one for one in schema["properties"]["model"]["oneOf"]}
    assert {"scaled", "unet", "unrolled"} <= set(kinds)
    assert kinds["scaled"]["properties"]["factor"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize("group", PluginSettings.__subclasses__(), ids=lambda group: group.GROUP)
def test_the_name_of_each_is_its_kind(group: type[PluginSettings]) -> None:
    names = group.registry().names()
    assert names
    for name in names:
        assert group.registry().load(name).model_fields["kind"].default == name
