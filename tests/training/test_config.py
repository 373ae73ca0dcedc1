"""The configuration of a run: what is wrong in it is named, with what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from scanside.errors import ConfigError
from scanside_training.config import TrainConfig, load_config, read_config
from scanside_training.data import ReconstructionData, SampleKey
from scanside_training.data.splits import subjects_of


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *groups, last = path.split(".")
    branch: Any = document
    for group in groups:
        branch = branch[int(group)] if group.isdigit() else branch.setdefault(group, {})
    branch[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("gradient_clipp", 1.0, r"has no setting 'gradient_clipp' \(did you mean 'gradient_clip'\?\); it has: name,"),
        ("model.chanels", 8, r"model has no setting 'chanels' \(did you mean 'channels'\?\); it has: kind,"),
        ("optimiser.learning_rate", 1, r"optimiser has no setting 'learning_rate'; it has: kind, lr, weight_decay"),
        ("loss.terms.0.wieght", 1, r"loss\.terms\[0\] has no setting 'wieght' \(did you mean 'weight'\?\)"),
        ("data.sources.0.n_subject", 1, r"data\.sources\[0\] has no setting 'n_subject' .*'n_subjects'"),
        ("data.simulation.masks.accs", 1, r"data\.simulation\.masks has no setting 'accs' .*'acs'"),
        ("distillation", {"layers": ["a"], "teacher": "t", "alfa": 1}, r"distillation has no .*'alfa' .*'alpha'"),
        ("model.kind", "unett", r"model: there is no network 'unett': did you mean 'unet'"),
        ("model.kind", "mine", r"model: there is no network 'mine': known are: automap, .*unrolled"),
        ("model", "unet", r"model = 'unet': .*by its kind and its settings.*found 'unet'"),
        ("data.sources.0.kind", 3, r"data\.sources\[0\]: a source is given by its kind.*found 3"),
        ("model.channels", "many", r"model\.channels = 'many': .*integer"),
        ("optimiser.lr", -1, r"optimiser\.lr = -1: .*greater than 0"),
        ("precision", "fp8", r"precision = 'fp8'"),
        ("name", "../up", r"name = '\.\./up'"),
        ("max_epochs", 3, r"once, by max_steps or by max_epochs"),
        ("optimiser", {"kind": "adam", "weight_decay": 0.1}, r"optimiser: .*'adam' has no weight decay"),
    ],
)  # fmt: skip
def test_wrong_settings(tiny: dict[str, Any], path: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        read_config(changed(tiny, path, value), "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_missing(tiny: dict[str, Any]) -> None:
    del tiny["model"]
    with pytest.raises(ConfigError, match="model is missing"):
        read_config(tiny, "my.yaml")


def test_one_length_at_least(tiny: dict[str, Any]) -> None:
    del tiny["max_steps"]
    with pytest.raises(ConfigError, match="once, by max_steps or by max_epochs"):
        read_config(tiny | {"max_minutes": 5}, "my.yaml")


def test_all_that_is_wrong_is_told_at_once(tiny: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'stepz'.*; .*'sed'"):
        read_config(tiny | {"stepz": 1, "sed": 2}, "my.yaml")


def test_file_and_settings(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tiny))
    config = load_config(path, {"optimiser": {"lr": 0.5}, "seed": 7})
    assert (config.optimiser.lr, config.seed) == (0.5, 7)
    assert config.model.channels == 4, "a group is merged, not replaced"
    assert config.validation.every_steps == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not YAML"),
        ("- a", "expected settings like 'name: …', found list"),
        ("", "found NoneType"),
    ],
)
def test_no_settings(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load_config(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"c\.yaml: the training configuration cannot be read: No such file"
    ):
        load_config(tmp_path / "c.yaml")


def test_schema_describes_settings() -> None:
    from scanside_training.config import TrainConfig

    described = TrainConfig.model_json_schema()["properties"]
    assert [name for name in TrainConfig.model_fields if not described[name].get("description")] == []


def test_a_schedule_by_minutes_needs_minutes(tiny: dict[str, Any]) -> None:
    tiny["schedule"] = {"over": "minutes"}
    with pytest.raises(
        ConfigError, match=r"schedule\.over is 'minutes', and there are none: give max_minutes"
    ):
        read_config(tiny, "tiny")
    assert read_config(tiny | {"max_minutes": 1}, "tiny").schedule.over == "minutes"


def first_sample(config: TrainConfig) -> dict[str, torch.Tensor]:
    return ReconstructionData(config.data).samples("train")[SampleKey(0, 0, 0)]


@pytest.mark.usefixtures("slice_cache")
def test_the_seed_reaches_the_data(tiny: dict[str, Any]) -> None:
    one, same, other = (read_config(tiny | {"seed": seed}, "my.yaml") for seed in (1, 1, 2))
    assert torch.equal(first_sample(one)["image"], first_sample(same)["image"])
    assert not torch.equal(first_sample(one)["image"], first_sample(other)["image"])
    again = read_config(one.model_dump(mode="json") | {"seed": 2}, "the run's complete configuration")
    assert torch.equal(first_sample(again)["image"], first_sample(other)["image"])


@pytest.mark.usefixtures("slice_cache")
def test_the_seed_reaches_generated_individuals_and_not_who_is_in_the_test(tiny: dict[str, Any]) -> None:
    def slices_and_test(seed: int) -> tuple[np.ndarray[Any, Any], frozenset[str]]:
        config = read_config(tiny | {"seed": seed}, "my.yaml")
        opened = config.data.sources[0].open(config.data.drawn_from)
        return opened[0], subjects_of("test", config.data.sources[0].split, opened.subjects, "synthetic")

    (one, test), (other, test_of_other) = slices_and_test(1), slices_and_test(2)
    assert not np.array_equal(one, other)
    assert test == test_of_other


@pytest.mark.usefixtures("slice_cache")
def test_data_may_have_a_seed_of_their_own(tiny: dict[str, Any]) -> None:
    tiny["data"]["seed"] = 5
    one, other = (read_config(tiny | {"seed": seed}, "my.yaml") for seed in (1, 2))
    assert torch.equal(first_sample(one)["image"], first_sample(other)["image"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.pools": 6}, r"until they are 64 times smaller, and \d+ \(data\.simulation\.\w+\) is no multiple"),
        ({"data.simulation.k1": [16, 16], "data.simulation.k0": [16, 16], "data.simulation.multiple": 16,
          "data.simulation.readout_crop": None, "model.pools": 4}, "a single pixel is left"),
    ],
    ids=["not divisible", "nothing left"],
)  # fmt: skip
def test_matrix_and_pools_that_contradict_each_other(
    tiny: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    for path, value in changes.items():
        changed(tiny, path, value)
    with pytest.raises(ConfigError, match=expected):
        read_config(tiny, "my.yaml")


PLANES: dict[str, Any] = {"masks": {"plane": {"acceleration": [2, 2], "acs": [6, 6]}}, "readout_crop": None}


@pytest.mark.parametrize(
    ("model", "task", "expected"),
    [
        (
            {"kind": "exact"},
            {"kind": "unrolled"},
            r"\('exact'\) is for masks along k1, and data\.simulation\.masks",
        ),
        (
            {"kind": "unrolled", "lowering": "pmatrix"},
            {"kind": "unrolled"},
            "take 'unrolled' or 'kiki' with the low",
        ),
        (
            {"kind": "kiki", "lowering": "dft_matmul"},
            {"kind": "unrolled"},
            r"\('kiki'\) is for masks along k1",
        ),
        (
            {"kind": "unet"},
            {"kind": "artefacts"},
            "the task 'artefacts' takes whole lines: leave masks.plane out",
        ),
        ({"kind": "unet"}, {"kind": "self-supervised"}, "the task 'self-supervised' takes whole lines"),
        ({"kind": "unet"}, {"kind": "dynamic"}, "the task 'dynamic' takes whole lines"),
    ],
)
def test_masks_over_planes_are_not_for_all(
    tiny: dict[str, Any], model: dict[str, Any], task: dict[str, Any], expected: str
) -> None:
    tiny["model"] = model
    tiny["data"]["simulation"] |= PLANES | {"task": task}
    with pytest.raises(ConfigError, match=expected):
        read_config(tiny, "tiny")


@pytest.mark.parametrize("model", [{"kind": "unrolled", "pools": 2}, {"kind": "kiki"}])
def test_masks_over_planes(tiny: dict[str, Any], model: dict[str, Any]) -> None:
    tiny["model"] = model
    tiny["data"]["simulation"] |= PLANES | {"task": {"kind": "unrolled"}}
    data = ReconstructionData(read_config(tiny, "tiny").data)
    mask = data.samples("train")[SampleKey(0, 0, 0)]["mask"]
    assert int(mask.sum()) == mask.numel() // 2
    tiny["data"]["simulation"]["readout_crop"] = 32
    with pytest.raises(ConfigError, match="alias along both axes: set readout_crop to null"):
        read_config(tiny, "tiny")
