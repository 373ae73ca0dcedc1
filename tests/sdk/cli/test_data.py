"""`scanside data`: what it counts, and what it says of files that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.sdk.datasets.conftest import coils_of
from typer.testing import Result

from scanside.datasets.cmrxrecon import write_cmrxrecon
from scanside.datasets.fastmri import write_fastmri

Scanside = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of two patients in two shapes, in a folder below."""
    below = tmp_path / "knees" / "multicoil_train"
    below.mkdir(parents=True)
    for number, (patient, coils, n1) in enumerate((("a", 2, 36), ("a", 2, 36), ("b", 3, 40))):
        images = coils_of(4, coils, n1, 64)
        write_fastmri(below / f"file{number}.h5", images, patient=patient, image_size=(32, 32))
    return tmp_path / "knees"


def test_what_is_there(scanside: Scanside, folder: Path) -> None:
    shown = scanside("data", "check", folder).stdout
    row = next(line for line in shown.splitlines() if "fastmri" in line)
    assert row.split()[1:4] == ["3", "2", "12"]
    assert "2 × 36 × 64: 2" in shown
    assert "3 × 40 × 64: 1" in shown
    assert "3 files, all can be used" in shown


def test_files_that_cannot_be_used(scanside: Scanside, folder: Path) -> None:
    path = folder / "multicoil_train" / "file1.h5"
    path.write_bytes(path.read_bytes()[:4000])
    shown = scanside("data", "check", folder, status=1).stdout
    assert "error: multicoil_train/file1.h5: looks like a file of no data set" in shown.replace(
        f"{path} ", ""
    )
    assert "3 files, 1 cannot be used" in shown


def test_as_json(as_json: Callable[..., Any], folder: Path) -> None:
    found = as_json("data", "check", folder)
    assert [one["subject"] for one in found["files"]] == ["a", "a", "b"]
    assert found["files"][2]["shape"] == [3, 40, 64]
    assert found["files"][0]["facts"]["acquisition"] == "CORPD_FBK"


def test_folders_without_files(scanside: Scanside, tmp_path: Path) -> None:
    assert (
        "holds no file of a data set (*.h5, *.mat, " in scanside("data", "check", tmp_path, status=1).stderr
    )
    assert "is no folder" in scanside("data", "check", tmp_path / "none", status=1).stderr


def test_a_data_set_that_there_is_not(scanside: Scanside, folder: Path) -> None:
    refused = scanside("data", "check", folder, "--dataset", "fastmir", status=1).stderr
    assert "there is no data set 'fastmir': did you mean 'fastmri'?" in refused


def test_masks_beside_kspace_are_no_broken_files(scanside: Scanside, tmp_path: Path) -> None:
    patient = tmp_path / "MultiCoil" / "Cine" / "TrainingSet" / "FullSample" / "P001"
    patient.mkdir(parents=True)
    write_cmrxrecon(patient / "cine_sax.mat", coils_of(2, 3, 24, 32)[None])
    with h5py.File(patient / "cine_sax_mask.mat", "w") as file:
        file["mask04"] = np.ones((24, 32))
    shown = scanside("data", "check", tmp_path).stdout
    assert "2 files, all can be used" in shown
    row = next(line for line in shown.splitlines() if "cmrxrecon" in line)
    assert row.split()[1:4] == ["2", "1", "2"]


def test_example(scanside: Scanside, tmp_path: Path) -> None:
    shown = scanside("data", "example", "m4raw", tmp_path / "new").stdout
    assert shown.splitlines()[0].endswith("2022061003_T201.h5")
    assert "3 files, all can be used" in scanside("data", "check", tmp_path / "new").stdout
    assert "there is no example of" in scanside("data", "example", "m4", tmp_path / "other", status=1).stderr


def test_one_data_set_of_a_folder(scanside: Scanside, tmp_path: Path) -> None:
    for name in ("knee-mri", "bart", "m4raw"):
        scanside("data", "example", name, tmp_path / "new" / name)
    (tmp_path / "new" / "scan.hdr").write_bytes(bytes(348))  # another format's
    shown = scanside("data", "check", tmp_path / "new").stdout
    assert "8 files, all can be used" in shown
    only = scanside("data", "check", tmp_path / "new", "--dataset", "knee-mri").stdout
    assert "3 files, all can be used" in only
    assert "m4raw" not in only
    (tmp_path / "new" / "knee-mri" / "vol01" / "390116-9.pck").unlink()
    lacking = scanside("data", "check", tmp_path / "new", status=1).stdout
    assert "error: knee-mri/390116-9.pck: knee-mri/metadata.csv has a row of it" in lacking
