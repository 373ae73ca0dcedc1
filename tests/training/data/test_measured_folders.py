"""Folders of other data sets than fastMRI, whose own tests are beside."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets.m4raw import write_m4raw
from scanside.errors import ConfigError
from scanside_training.data import DataConfig, ReconstructionData, SampleKey, SubjectFolds
from scanside_training.data.measured_folders import M4Raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two repetitions of two patients' T1, in other folders."""
    for patient in ("a", "b"):
        (tmp_path / patient).mkdir()
        for repetition in (1, 2):
            path = tmp_path / patient / f"202206100{ord(patient) - 96}_T10{repetition}.h5"
            write_m4raw(path, coils_of(2, 4, 64, 48), patient=patient, columns=(6, 60))
    return tmp_path


@pytest.mark.parametrize(("what", "shape"), [("images", (64, 48)), ("kspace", (4, 64, 48))])
def test_m4raw(folder: Path, what: Literal["images", "kspace"], shape: tuple[int, ...]) -> None:
    slices = M4Raw(folder=folder, what=what).open()
    assert slices.subjects == ("a",) * 4 + ("b",) * 4
    assert slices[7].shape == shape
    assert len(M4Raw(folder=folder, what=what, where={"repetition": ("02",)}).open()) == 4


def test_m4raw_trains_on_measured_lines_alone(folder: Path) -> None:
    source = {
        "kind": "m4raw",
        "folder": folder,
        "what": "kspace",
        "split": {"train": ["a"], "validation": ["b"]},
    }
    simulation = {"k1": [64, 64], "k0": [48, 48], "readout_crop": None}
    simulation |= {"masks": {"patterns": ["random"], "acceleration": [2, 2], "acs": [12, 12]}}
    config = DataConfig.model_validate({"sources": [source], "simulation": simulation, "batch_size": 1})
    mask = ReconstructionData(config).samples("train")[SampleKey(0, 0, 0)]["mask"][:, 0] > 0
    assert not mask[:6].any()
    assert not mask[61:].any()
    assert int(mask.sum()) == pytest.approx(55 / 2, abs=1)
    np.testing.assert_array_equal(mask[26:38], True)


def test_strata_by_what_files_say(folder: Path) -> None:
    for patient in ("c", "d"):
        path = folder / patient / f"202206100{ord(patient) - 96}_FLAIR01.h5"
        path.parent.mkdir()
        write_m4raw(path, coils_of(2, 4, 64, 48), patient=patient, columns=(6, 60))
    source = M4Raw(folder=folder, split=SubjectFolds(folds=2, stratify=("contrast",), validation=0))
    slices = source.open()
    facts = source.facts(slices, ())
    assert [facts[patient]["contrast"] for patient in "abcd"] == ["T1", "T1", "FLAIR", "FLAIR"]
    assert facts["a"]["repetition"] == "01 + 02"
    test = source.members("test", slices)
    assert len(test & set("ab")) == len(test & set("cd")) == 1
    untold = source.model_copy(update={"split": SubjectFolds(folds=2, stratify=("vendor",))})
    with pytest.raises(ConfigError, match="source m4raw does not tell vendor of subject 'a'; it tells"):
        untold.members("test", slices)
