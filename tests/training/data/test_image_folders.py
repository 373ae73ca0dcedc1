"""Folders of magnitude images, and of BART's pairs, on files that are built like those of the data sets."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from scanside.datasets import open_image_file
from scanside.datasets.examples import write_example
from scanside.datasets.knee_mri import write_knee_mri
from scanside.errors import ConfigError, FileFormatError
from scanside_training.data import DataConfig, ReconstructionData, SampleKey
from scanside_training.data.image_folders import ImageFolder, KneeMri, MrNet, Nifti
from scanside_training.data.measured_folders import Bart, FastMriProstate

SIMULATION = {"k1": [48, 48], "k0": [48, 48], "readout_crop": None, "coils": {"n_coils": [4, 4]}}
SIMULATION |= {"masks": {"patterns": ["random"], "acceleration": [2, 2], "acs": [12, 12]}}


@pytest.mark.parametrize("source", [KneeMri, MrNet, Nifti])
def test_every_image_is_a_slice(source: type[ImageFolder], tmp_path: Path) -> None:
    if source is Nifti:
        pytest.importorskip("nibabel")
    kind = source.model_fields["kind"].default
    paths = write_example(kind, tmp_path / kind)
    slices = source(folder=tmp_path / kind).open()
    places = [(path, place) for path in sorted(paths) for place in open_image_file(path).places]
    assert len(slices) == len(places)
    for index in (0, len(places) // 2, len(places) - 1):
        path, place = places[index]
        with open_image_file(path) as file:
            np.testing.assert_array_equal(slices[index], file.image(place))
            assert slices.subjects[index] == file.subject
            assert slices.shape_of(index) == slices[index].shape
    copied = pickle.loads(pickle.dumps(slices))  # as workers of a loader get it
    np.testing.assert_array_equal(copied[0], slices[0])


def volumes(folder: Path) -> Path:
    """Three examinations, one with two series and a torn ligament."""
    rng = np.random.default_rng(0)
    row = dict.fromkeys(
        (
            "examId",
            "seriesNo",
            "aclDiagnosis",
            "kneeLR",
            "roiX",
            "roiY",
            "roiZ",
            "roiHeight",
            "roiWidth",
            "roiDepth",
        ),
        0,
    )
    row |= {"roiX": 26, "roiY": 24, "roiZ": 2, "roiHeight": 8, "roiWidth": 12, "roiDepth": 2}
    made = []
    for exam, series, diagnosis in ((7, 1, 2), (7, 2, 2), (8, 1, 0), (9, 1, 0)):
        made.append(
            (
                rng.integers(1, 4096, (5, 60, 64)),
                {**row, "examId": exam, "seriesNo": series, "aclDiagnosis": diagnosis},
            )
        )
    write_knee_mri(folder, made)
    return folder


def test_the_region_of_a_table_is_marked_in_its_slices(tmp_path: Path) -> None:
    source = KneeMri(folder=volumes(tmp_path), regions=True)
    slices = source.open()
    boxes = source.boxes(slices)
    assert boxes is not None
    assert [len(of_slice) for of_slice in boxes[:5]] == [0, 0, 1, 1, 0]
    assert boxes[2].tolist() == [[24, 26, 8, 12]]
    assert KneeMri(folder=tmp_path).boxes(slices) is None


def test_series_of_an_examination_stay_together_and_labels_choose(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    slices = KneeMri(folder=folder).open()
    assert slices.subjects == ("7",) * 10 + ("8",) * 5 + ("9",) * 5
    torn = KneeMri.model_validate({"folder": folder, "where": {"acl": ["2"]}}).open()
    assert set(torn.subjects) == {"7"}
    source = KneeMri(folder=folder)
    assert source.facts(slices, ["diagnosis"])["7"]["diagnosis"] == "completely ruptured"
    with pytest.raises(ConfigError, match="is of acl 5; there are acl 0, acl 2"):
        KneeMri.model_validate({"folder": folder, "where": {"acl": ["5"]}}).open()


def test_scans_are_simulated_of_images(tmp_path: Path) -> None:
    source = {
        "kind": "knee-mri",
        "folder": volumes(tmp_path),
        "regions": True,
        "split": {"train": ["7"], "validation": ["8"]},
    }
    config = DataConfig.model_validate({"sources": [source], "simulation": SIMULATION, "batch_size": 2})
    drawn = ReconstructionData(config).samples("train")
    samples = [drawn[SampleKey(0, number // 2, number)] for number in range(12)]
    assert all(sample["target"].shape[-2:] == (48, 48) for sample in samples)
    assert all(bool(sample["target"].isfinite().all()) for sample in samples)
    marked = [float(sample["marked"].sum()) for sample in samples]
    assert 0 < sum(n > 0 for n in marked) < 12  # the ligament lies in two of five slices
    assert max(marked) < 400


def test_a_folder_without_files_of_the_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source mrnet: .* holds no file \*\.npy"):
        MrNet(folder=tmp_path).open()


def test_half_a_volume_is_named(tmp_path: Path) -> None:
    path = volumes(tmp_path) / "vol01" / "8-1.pck"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FileFormatError, match=r"8-1\.pck"):
        KneeMri(folder=tmp_path).open()


def test_barts_pairs_are_measured_k_space(tmp_path: Path) -> None:
    write_example("bart", tmp_path / "bart")
    slices = Bart(folder=tmp_path / "bart").open()
    assert slices[0].ndim == 3
    assert not [path for path, _ in slices.places if "maps" in path.stem]
    with pytest.raises(ValueError, match="bart has kspace"):
        Bart(folder=tmp_path, what="images")


def test_prostates_give_images(tmp_path: Path) -> None:
    write_example("fastmri-prostate-t2", tmp_path / "prostate")
    slices = FastMriProstate(folder=tmp_path / "prostate").open()
    assert slices[0].shape == slices.sizes[0]
    with pytest.raises(ValueError, match="fastmri-prostate-t2 has images"):
        FastMriProstate(folder=tmp_path, what="kspace")
