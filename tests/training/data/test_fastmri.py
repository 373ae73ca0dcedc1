"""Images of fastMRI files and the boxes of fastMRI+, from files that are built like theirs."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.training.data.fastmri_files import HEADER, write_fastmri

from scanside.errors import ConfigError, FileFormatError
from scanside_training.data import DataConfig, ReconstructionData, SampleKey, SourceConfig
from scanside_training.data.annotations import Place, boxes_of
from scanside_training.data.fastmri import FastMri

ROWS, COLUMNS = 48, 40


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two examinations in three files of three slices."""
    made = tmp_path / "multicoil_train"
    made.mkdir()
    for name, patient, acquisition in (
        ("file1000001", "a", "CORPD_FBK"),
        ("file1000002", "a", "CORPDFS_FBK"),
        ("file1000003", "b", "CORPD_FBK"),
    ):
        images = rng.uniform(0.1, 1, (3, ROWS, COLUMNS)).astype(np.float32) * 1e-4
        write_fastmri(made / f"{name}.h5", images, patient, acquisition)
    return made


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "knee.csv"
    path.write_text("\n".join((header, *rows)) + "\n", "utf-8")
    return path


def test_slices_are_those_of_the_files(folder: Path) -> None:
    slices = FastMri(folder=folder).open()
    assert slices.subjects == ("a",) * 6 + ("b",) * 3
    with h5py.File(folder / "file1000002.h5") as file:
        np.testing.assert_array_equal(slices[4], file["reconstruction_rss"][1])
    assert len(pickle.loads(pickle.dumps(slices))) == 9  # as worker processes get them


def test_acquisitions_are_chosen(folder: Path) -> None:
    assert len(FastMri(folder=folder, acquisitions=("CORPD_FBK",)).open()) == 6
    with pytest.raises(
        ConfigError, match=r"no file in .* is of the acquisitions AXT2; there are CORPDFS_FBK, CORPD"
    ):
        FastMri(folder=folder, acquisitions=("AXT2",)).open()


def test_a_file_of_the_test_is_refused_by_name(folder: Path) -> None:
    with h5py.File(folder / "file1000002.h5", "a") as file:
        del file["reconstruction_rss"]
        file["mask"] = np.ones(COLUMNS, bool)
    with pytest.raises(
        FileFormatError, match=r"file1000002\.h5 .*'reconstruction_rss' is nothing.*a mask instead"
    ):
        FastMri(folder=folder).open()


def test_files_that_do_not_say_whose_they_are(folder: Path) -> None:
    with h5py.File(folder / "file1000003.h5", "a") as file:
        del file.attrs["patient_id"]
    with pytest.raises(FileFormatError, match=r"file1000003\.h5 .*no attribute 'patient_id'"):
        FastMri(folder=folder).open()


def test_a_file_that_is_none(folder: Path) -> None:
    (folder / "file1000009.h5").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match=r"file1000009\.h5 cannot be trained on"):
        FastMri(folder=folder).open()


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no file \*\.h5"):
        FastMri(folder=tmp_path).open()


def test_labels_want_a_table() -> None:
    with pytest.raises(ValueError, match="name it \\(annotations\\)"):
        FastMri(folder=Path("x"), labels=("Cyst",))


def test_a_box_lies_where_it_was_drawn(tmp_path: Path) -> None:
    """Boxes were drawn on the flipped image, from its first row."""
    image = np.zeros((ROWS, COLUMNS))
    image[5:11, 20:24] = 1
    flipped = np.flipud(image)
    y, x = int(np.argmax(flipped.any(1))), int(np.argmax(flipped.any(0)))
    path = table(tmp_path, f"file1000001,2,No,{x},{y},4,6,Meniscus Tear")
    boxes = boxes_of(path, [Place("file1000001", n, ROWS, COLUMNS) for n in range(3)])
    assert [len(one) for one in boxes] == [0, 0, 1]
    row, column, rows, columns = boxes[2][0]
    found = np.zeros_like(image)
    found[row : row + rows, column : column + columns] = 1
    np.testing.assert_array_equal(found, image)


def test_boxes_that_cannot_be_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = table(
        tmp_path,
        "file1000001,0,No,3,3,4,0,Cyst",
        "file1000001,0,No,3,3,4,5,Joint Effusion ",
        "file1000001,0,No,38,3,4,5,Cyst",
        "file1000001,0,No,3,45,4,5,Cyst",
        "file1000001,7,No,3,3,4,5,Cyst",
        "file1000001,0,Yes,,,,,Post-operative",
        "another,0,No,3,3,4,5,Cyst",
    )
    places = [Place("file1000001", 0, ROWS, COLUMNS)]
    with caplog.at_level(logging.WARNING):
        (boxes,) = boxes_of(path, places)
    assert boxes.tolist() == [[ROWS - 3 - 5, 3, 5, 4]]
    assert "4 boxes" in caplog.text
    assert "lines 2, 4, 5, 6" in caplog.text
    assert boxes_of(path, places, ["Joint Effusion"])[0].tolist() == boxes.tolist()


@pytest.mark.parametrize(
    ("rows", "labels", "text"),
    [
        (["file1000001,0,No,3,3,4,5,Cyst"], ["Tear"], "no row of .* is labelled 'Tear'; it has Cyst"),
        (["file1000001,0,No,3,three,4,5,Cyst"], [], "line 2: y is 'three', no number"),
        (["another,0,No,3,3,4,5,Cyst"], [], "no box of .* lies in any of the slices"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, rows: list[str], labels: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        boxes_of(table(tmp_path, *rows), [Place("file1000001", 0, ROWS, COLUMNS)], labels)


def test_a_table_of_another_kind(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b", header="file,subject")
    with pytest.raises(ConfigError, match="has no column 'slice', only file, subject"):
        boxes_of(path, [])


def test_marks_lie_on_the_finding_in_every_sample(tmp_path: Path) -> None:
    """A slice that is bright within its box alone: wherever the sample puts it, the mark goes along."""
    images = np.full((1, 64, 64), 0.02, np.float32)
    images[:, 4:60, 4:60] = 0.05
    images[:, 14:30, 34:54] = 1
    folder = tmp_path / "files"
    folder.mkdir()
    for n in range(3):
        write_fastmri(folder / f"file{n}.h5", images, f"patient-{n}")
    rows = (f"file{n},0,No,34,{64 - 14 - 16},20,16,Lesion" for n in range(3))
    source = {"kind": "fastmri", "folder": folder, "annotations": table(tmp_path, *rows)}
    config = DataConfig.model_validate(
        {
            "sources": [source, {"kind": "synthetic", "n_subjects": 5, "slices_per_subject": 1, "size": 64}],
            "simulation": {
                "task": {"kind": "image", "channels": "magnitude"},
                "k1": [64, 64],
                "k0": [64, 64],
                "readout_crop": 48,
                "coils": {"n_coils": [1, 1]},
                "appearance": {"contrast": 0, "bias": 0, "phase": 0},
                "masks": {"acceleration": [1, 1], "acs": [12, 12]},
                "snr": [1e6, 1e6],
            },
        }
    )
    samples = ReconstructionData(config).samples("train")
    (tmp_path / "knee.csv").unlink()  # it was read once, not for every sample
    drawn = [samples[SampleKey(0, n, n)] for n in range(40)]
    marked = [one for one in drawn if one["marked"].any()]
    assert 5 < len(marked) < 35
    for one in marked:
        assert one["marked"].shape == one["roi"].shape == (1, 64, 48)
        bright = one["target"] > 0.5 * one["target"].max()
        both = (bright & one["marked"].bool()).sum() / (bright | one["marked"].bool()).sum()
        assert both > 0.8


def test_samples_without_marks_bring_none(small_source: SourceConfig) -> None:
    samples = ReconstructionData(DataConfig(sources=(small_source,))).samples("train")
    assert "marked" not in samples[SampleKey(0, 0, 0)]


def test_marks_are_in_batches_with_worker_processes(folder: Path, tmp_path: Path) -> None:
    source = {
        "kind": "fastmri",
        "folder": folder,
        "annotations": table(tmp_path, "file1000001,0,No,10,10,20,20,Cyst"),
        "split": {"train": ["a"], "validation": ["b"]},
    }
    simulation = {"k1": [32, 32], "k0": [32, 32], "readout_crop": 32, "coils": {"n_coils": [1, 1]}}
    simulation |= {"masks": {"acceleration": [2, 2], "acs": [8, 8]}}
    config = DataConfig.model_validate(
        {"sources": [source], "simulation": simulation, "samples_per_epoch": 8, "num_workers": 1}
    )
    batches = list(ReconstructionData(config).train_dataloader())
    assert torch.cat([one["marked"] for one in batches]).shape == (8, 1, 32, 32)
