"""What weights go back to: every ancestor with its data, however far back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from scanside.errors import ConfigError, FormatError
from scanside_training.ancestry import lineage_of
from scanside_training.config import TrainConfig, load_config, read_config
from scanside_training.record import RECORD, Lineage, SourceRecord, TrainingRecord
from scanside_training.trainer import train

LAYERS = ["body.encoder.0"]


@pytest.fixture
def finished(tiny: dict[str, Any], tmp_path: Path) -> Any:
    """Makes the folder of a finished run, as it was before records told a lineage, or with one."""

    def make(
        name: str, kind: str, licence: str, *, told: bool = True, teacher: str = "", initial: str = ""
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = tiny | {"name": name, "initial": str(tmp_path / initial) if initial else None}
        if teacher:
            settings["distillation"] = {"layers": LAYERS, "teacher": str(tmp_path / teacher)}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        save_file(
            {"weight": torch.tensor([float(len(list(tmp_path.iterdir())))])}, folder / "model.safetensors"
        )
        record = TrainingRecord(
            name=name,
            steps=1,
            complete=True,
            seconds=1.0,
            seed=0,
            n_parameters=1,
            data=(SourceRecord(kind=kind, licence=licence, subjects=("a", "b"), n_slices=3),),
            lineage=lineage_of(load_config(folder / "config.yaml")) if told else None,
            validation={},
            best_psnr=None,
            machine={},
            versions={},
        )
        (folder / RECORD).write_text(record.model_dump_json())
        return folder

    return make


def of(tiny: dict[str, Any], **settings: Any) -> TrainConfig:
    return read_config(tiny | settings, "settings")


@pytest.mark.parametrize("told", [True, False], ids=["in records", "in configurations"])
def test_whole_ancestry(finished: Any, tiny: dict[str, Any], tmp_path: Path, told: bool) -> None:
    finished("teacher-1", "brain-t2-complex", "research", told=told)
    finished("teacher", "synthetic", "clean", told=told, initial="teacher-1")
    finished("student-1", "synthetic", "clean", told=told, teacher="teacher-1")
    config = of(
        tiny,
        name="student",
        initial=str(tmp_path / "student-1"),
        distillation={"layers": LAYERS, "teacher": str(tmp_path / "teacher")},
    )
    lineage = lineage_of(config)
    assert (lineage.initial, lineage.teacher) == ("student-1", "teacher")
    ancestors = {one.ancestor.name: one.ancestor for one in lineage.ancestors}
    assert list(ancestors) == ["teacher-1", "student-1", "teacher"], "each once, and older ones first"
    assert ancestors["student-1"].teacher == ancestors["teacher"].initial == "teacher-1"
    assert [one.name for one in ancestors["teacher-1"].trained_on] == ["brain-t2-complex"]
    assert {one.licence for one in lineage.data} == {"clean", "research"}
    for one in lineage.ancestors:
        assert one.settings == (tmp_path / one.ancestor.name / "config.yaml").read_text()
    assert lineage.unknown == ()


def test_an_ancestor_that_is_gone_is_known_by_name_alone(
    finished: Any, tiny: dict[str, Any], tmp_path: Path
) -> None:
    finished("child", "synthetic", "clean", told=False, initial="lost")
    lineage = lineage_of(of(tiny, initial=str(tmp_path / "child")))
    assert lineage.unknown == ("lost",)


def test_records_keep_what_folders_have_lost(finished: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    parent = finished("parent", "brain-t2-complex", "research")
    finished("child", "synthetic", "clean", initial="parent")
    for path in parent.iterdir():
        path.unlink()
    lineage = lineage_of(of(tiny, initial=str(tmp_path / "child")))
    assert [one.ancestor.name for one in lineage.ancestors] == ["parent", "child"]
    assert lineage.unknown == ()


def test_two_networks_of_one_name(finished: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    finished("net", "brain-t2-complex", "research")
    finished("child", "synthetic", "clean", initial="net")
    (tmp_path / "net").rename(tmp_path / "old")
    finished("net", "synthetic", "clean")
    config = of(
        tiny,
        initial=str(tmp_path / "child"),
        distillation={"layers": LAYERS, "teacher": str(tmp_path / "net")},
    )
    lineage = lineage_of(config)
    assert [one.ancestor.name for one in lineage.ancestors] == ["net", "child", "net-2"]
    assert lineage.teacher == "net-2"


def test_no_network_is_its_own_ancestor(finished: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    finished("one", "synthetic", "clean", told=False, initial="other")
    finished("other", "synthetic", "clean", told=False, initial="one")
    with pytest.raises(ConfigError, match="its own ancestor"):
        lineage_of(of(tiny, initial=str(tmp_path / "one")))


def test_a_damaged_record_is_named(finished: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    folder = finished("one", "synthetic", "clean")
    (folder / RECORD).write_text("{}")
    with pytest.raises(FormatError, match=r"one/training\.json"):
        lineage_of(of(tiny, initial=str(folder)))


@pytest.mark.usefixtures("slice_cache", "one_thread")
def test_a_run_tells_its_lineage_after_a_resume_too(tiny: dict[str, Any], tmp_path: Path) -> None:
    train(of(tiny, name="parent", max_steps=1), tmp_path / "parent")
    child = of(tiny, name="child", max_steps=3, initial=str(tmp_path / "parent"))
    train(child, tmp_path / "child")
    (tmp_path / "parent").rename(tmp_path / "elsewhere")
    longer = child.model_copy(update={"max_steps": 4})
    record = train(longer, tmp_path / "child", resume=True)
    assert record.lineage is not None
    (parent,) = record.lineage.ancestors
    assert record.lineage.initial == parent.ancestor.name == "parent"
    assert parent.ancestor.trained_on[0].name == "synthetic"
    assert len(parent.ancestor.trained_on[0].seen) == len(record.data[0].subjects)
    stored = json.loads((tmp_path / "child" / RECORD).read_text())
    assert Lineage.model_validate(stored["lineage"]) == record.lineage
