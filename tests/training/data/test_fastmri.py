"""Images of fastMRI files and the boxes of fastMRI+, from files that are built like theirs."""

from __future__ import annotations

import csv
import logging
import pickle
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
import torch
from tests.training.data.fastmri_files import HEADER, write_images, write_knees

from scanside.errors import ConfigError, FileFormatError
from scanside.recon.fourier import to_image, to_kspace
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
        write_images(made / f"{name}.h5", images, patient, acquisition)
    return made


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "knee.csv"
    path.write_text("\n".join((header, *rows)) + "\n", "utf-8")
    return path


def test_slices_are_those_of_the_files(folder: Path) -> None:
    slices = FastMri(folder=folder).open()
    assert slices.subjects == ("a",) * 6 + ("b",) * 3
    with h5py.File(folder / "file1000002.h5") as file:  # rows along the readout
        np.testing.assert_array_equal(slices[4], file["reconstruction_rss"][1].T)
    assert {slices[0].shape} == set(slices.sizes) == {(COLUMNS, ROWS)}
    assert len(pickle.loads(pickle.dumps(slices))) == 9  # as worker processes get them


def test_files_are_chosen_by_what_they_say(folder: Path) -> None:
    assert len(FastMri(folder=folder, where={"acquisition": ("CORPD_FBK",)}).open()) == 6
    text = r"no file of fastmri in .* is of acquisition AXT2; there are acquisition CORPDFS_FBK, acquisition CORPD"
    with pytest.raises(ConfigError, match=text):
        FastMri(folder=folder, where={"acquisition": ("AXT2",)}).open()


@pytest.mark.parametrize("what", ["images", "kspace"])
def test_a_file_of_the_test_is_no_truth(folder: Path, what: Literal["images", "kspace"]) -> None:
    mask = np.arange(COLUMNS) % 3 == 0
    write_images(folder / "file1000002.h5", np.ones((1, ROWS, COLUMNS), np.float32), mask=mask)
    text = {"images": "holds no image, as files of a test do", "kspace": r"is undersampled \(14 of 40 lines"}[
        what
    ]
    with pytest.raises(FileFormatError, match=rf"file1000002\.h5 {text}"):
        FastMri(folder=folder, what=what).open()


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source fastmri: .* holds no file \*\.h5"):
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
        write_images(folder / f"file{n}.h5", images, f"patient-{n}")
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


@pytest.mark.parametrize(
    ("name", "n_boxes", "n_wrong"), [("knee", 16_167 - 13, 7), ("brain", 8_213 - 643, 2)]
)
def test_the_tables_of_fastmri_plus(
    shared_data: Path, name: str, n_boxes: int, n_wrong: int, caplog: pytest.LogCaptureFixture
) -> None:
    """All rows of them, in images that are large enough for every box."""
    path = shared_data / "fastmri-plus" / f"{name}.csv"
    with path.open(encoding="utf-8") as file:
        slices = {(row["file"], int(row["slice"])) for row in csv.DictReader(file)}
    with caplog.at_level(logging.WARNING):
        found = boxes_of(path, [Place(stem, number, 1000, 1000) for stem, number in sorted(slices)])
    assert f"{n_wrong} boxes" in caplog.text
    assert sum(map(len, found)) == n_boxes - n_wrong


SCANS = {
    "task": {"kind": "unrolled"},
    "k1": [64, 64],
    "k0": [64, 64],
    "readout_crop": None,
    "multiple": 8,
    "masks": {"patterns": ["random"], "acceleration": [2, 2], "acs": [12, 12]},
}


def measured(folder: Path, *others: Any, **simulation: Any) -> ReconstructionData:
    sources = [{"kind": "fastmri", "folder": folder, "what": "kspace"}, *others]
    return ReconstructionData(
        DataConfig.model_validate({"sources": sources, "simulation": SCANS | simulation, "batch_size": 1})
    )


def test_measured_kspace_is_undersampled_and_nothing_else(tmp_path: Path) -> None:
    write_knees(tmp_path / "files", 3, 64, n_coils=4)
    sample = measured(tmp_path / "files").samples("train")[SampleKey(0, 0, 0)]
    image, target, maps = (torch.complex(*sample[name].unbind(-3)) for name in ("image", "target", "maps"))
    assert int(sample["mask"].sum()) == 32
    seen = to_image(to_kspace(maps * target, (-2,)) * sample["mask"], (-2,))
    # Coil maps from 12 lines explain the coils nearly.
    error = (image - (maps.conj() * seen).sum(0)).abs().square().sum() / image.abs().square().sum()
    assert float(error) < 0.01
    slices = FastMri(folder=tmp_path / "files").open()
    magnitude = target.abs().numpy().ravel()
    likeness = [np.corrcoef(slices[n].ravel(), magnitude)[0, 1] for n in range(len(slices))]
    assert max(likeness) > 0.995


def test_lines_that_were_not_measured_count_for_no_acceleration(tmp_path: Path) -> None:
    """Of 44 lines 36 were measured, not around the middle, and 48 is the next multiple of what networks halve."""
    (tmp_path / "files").mkdir()
    images = np.random.default_rng(3).uniform(0.1, 1, (2, 40, 44)).astype(np.float32)
    for n in range(3):
        write_images(tmp_path / "files" / f"{n}.h5", images, f"patient-{n}", n_coils=2, padding=(6, 2))
    masks = {"patterns": ["random"], "acceleration": [2, 2], "acs": [11, 11]}
    data = measured(tmp_path / "files", masks=masks, multiple=16)
    for n in range(6):
        sample = data.samples("train")[SampleKey(0, n, n)]
        lines = sample["mask"][:, 0] > 0
        assert sample["target"].shape == (2, 48, 32)
        assert not lines[: 2 + 6].any()
        assert not lines[-4:].any()
        assert lines[24 - 5 : 24 + 6].all()
        assert 17 <= int(lines.sum()) <= 18


def test_measured_and_simulated_scans_train_together(tmp_path: Path, small_source: SourceConfig) -> None:
    write_knees(tmp_path / "files", 3, 64, n_coils=3)
    simulated = {"kind": "synthetic", "n_subjects": 5, "slices_per_subject": 1, "size": 64}
    data = measured(tmp_path / "files", simulated, coils={"n_coils": [5, 5]})
    coils = {len(data.samples("train")[SampleKey(0, n, n)]["maps"]) for n in range(12)}
    assert coils == {3, 5}


def test_marks_lie_on_the_finding_in_measured_kspace(tmp_path: Path) -> None:
    """The image is narrower than the field of view of its k-space."""
    folder = tmp_path / "files"
    folder.mkdir()
    images = np.full((1, 64, 64), 0.05, np.float32)
    images[:, 14:30, 34:54] = 1
    for n in range(3):
        write_images(folder / f"file{n}.h5", images, f"patient-{n}", n_coils=2)
        narrow(folder / f"file{n}.h5", 48)
    rows = (f"file{n},0,No,{34 - 8},{64 - 14 - 16},20,16,Lesion" for n in range(3))
    source = {"kind": "fastmri", "folder": folder, "what": "kspace", "annotations": table(tmp_path, *rows)}
    data = ReconstructionData(
        DataConfig.model_validate({"sources": [source], "simulation": SCANS, "batch_size": 1})
    )
    sample = data.samples("train")[SampleKey(0, 0, 0)]
    bright = torch.complex(*sample["target"]).abs() > 0.5
    assert torch.equal(bright, sample["marked"][0] > 0)


def narrow(path: Path, columns: int) -> None:
    """Let a file's images be cut out of the middle of its field of view."""
    with h5py.File(path, "a") as file:
        images = file["reconstruction_rss"][()]
        first = images.shape[2] // 2 - columns // 2
        header = file["ismrmrd_header"][()]
        before, encoded, recon = header.partition(b"</encodedSpace>")
        for name in ("reconstruction_rss", "ismrmrd_header"):
            del file[name]
        file["reconstruction_rss"] = images[:, :, first : first + columns]
        cut = recon.replace(f"<y>{images.shape[2]}</y>".encode(), f"<y>{columns}</y>".encode())
        file["ismrmrd_header"] = before + encoded + cut


def test_tasks_without_slices_take_no_kspace(tmp_path: Path) -> None:
    settings = {
        "sources": [{"kind": "fastmri", "folder": tmp_path, "what": "kspace"}],
        "simulation": {"task": {"kind": "dynamic"}, "readout_crop": None},
        "batch_size": 1,
    }
    with pytest.raises(ValueError, match="made from films, and fastmri gives kspace"):
        DataConfig.model_validate(settings)
