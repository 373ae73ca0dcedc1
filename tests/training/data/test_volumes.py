"""Slices with two phase encodings: SKM-TEA and Calgary-Campinas, from files that are built like theirs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import open_scan_file
from scanside.datasets.calgary_campinas import write_calgary_campinas
from scanside.datasets.skm_tea import write_skm_tea
from scanside.errors import ConfigError, FileFormatError
from scanside.recon.fourier import to_image, to_kspace
from scanside_training.data import DataConfig, ReconstructionData, SampleKey
from scanside_training.data.simulation import Sample
from scanside_training.data.volumes import CalgaryCampinas, SkmTea
from scanside_training.models import NetworkConfig
from scanside_training.models.consistency import NormalOperator

SIZE, ACQUIRED = (48, 40), (40, 30)

PLANES: dict[str, Any] = {
    "k1": [48, 48],
    "k0": [48, 48],
    "multiple": 8,
    "readout_crop": None,
    "masks": {"plane": {"acceleration": [3, 3], "acs": [14, 14]}},
}


def write_knee(path: Path, **settings: Any) -> None:
    coils = coils_of(3, 4, *SIZE) + 1e-3
    rss = np.sqrt((np.abs(coils) ** 2).sum(1))
    noise = np.random.default_rng(3).standard_normal((2, 3, *SIZE)) * 1e-3
    echoes = np.stack([rss, 0.4 * rss * np.exp(0.5j)], 1) + (noise[0] + 1j * noise[1])[:, None]
    write_skm_tea(path, echoes, coils / rss[:, None], acquired_size=ACQUIRED, **settings)


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    for name in ("MTR_001", "MTR_002", "MTR_003"):
        write_knee(tmp_path / f"{name}.h5")
    return tmp_path


@pytest.fixture
def brains(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    for number in range(3):
        coils = coils_of(5, 4, *SIZE)
        noise = rng.standard_normal((2, *coils.shape)) * 1e-3
        write_calgary_campinas(tmp_path / f"e{number}.h5", coils + noise[0] + 1j * noise[1])
    return tmp_path


def data_of(*sources: dict[str, Any], **changes: Any) -> ReconstructionData:
    settings = {"sources": sources, "simulation": PLANES, "batch_size": 1} | changes
    return ReconstructionData(DataConfig.model_validate(settings))


def numbers(sample: Sample, name: str) -> torch.Tensor:
    return torch.complex(*sample[name].unbind(-3))


def normal(sample: Sample, image: torch.Tensor) -> torch.Tensor:
    """``Aᴴ A``, by its definition."""
    maps = numbers(sample, "maps")
    return (maps.conj() * to_image(to_kspace(maps * image) * sample["mask"])).sum(0)


def test_samples_of_skm_tea_count_the_ellipse_alone(knees: Path) -> None:
    samples = data_of({"kind": "skm-tea", "folder": knees, "maps": "given"}).samples("train")
    assert samples.n_slices == 6  # two echoes of three positions of one scan
    with open_scan_file(next(knees.glob("*.h5"))) as file:
        acquired = torch.from_numpy(file.measured(file.places[2]).acquired)
        references = np.array([file.reference(place) for place in file.places])
    for n in range(4):
        sample = samples[SampleKey(0, n, n)]
        mask = sample["mask"] > 0
        assert mask.shape == sample["target"].shape[1:] == SIZE
        assert not bool((mask & ~acquired).any())
        assert int(mask.sum()) == round(int(acquired.sum()) / 3)
        assert bool(mask[24 - 7 : 24 + 7, 20 - 7 : 20 + 7].all())
        # Given maps are those that the file's own images were made with.
        magnitude = numbers(sample, "target").abs().numpy().ravel()
        assert max(np.corrcoef(one.ravel(), magnitude)[0, 1] for one in references) > 0.999


def test_data_consistency_is_that_of_the_plane(knees: Path) -> None:
    """``Aᴴ y`` of a sample is ``Aᴴ A`` of its target, for networks too, where coil maps explain the coils."""
    sample = data_of({"kind": "skm-tea", "folder": knees, "maps": "given"}).samples("train")[
        SampleKey(0, 0, 0)
    ]
    image, target = numbers(sample, "image"), numbers(sample, "target")

    def error(found: torch.Tensor) -> float:
        return float(torch.linalg.vector_norm(found - image) / torch.linalg.vector_norm(image))

    assert error(normal(sample, target)) < 0.02
    assert error(normal(sample | {"mask": sample["mask"].roll(3, 1)}, target)) > 0.08
    network = NetworkConfig.model_validate(
        {"kind": "unrolled", "n_cascades": 1, "channels": 4, "pools": 2, "consistency": {"kind": "cg"}}
    ).build()
    inputs = network.inputs({name: one[None] for name, one in sample.items()})
    operator = NormalOperator("fft", inputs[1], inputs[3:])
    found = operator(sample["target"][None])[0]
    torch.testing.assert_close(torch.complex(*found.unbind()), normal(sample, target), rtol=1e-3, atol=1e-4)
    output = network(*inputs)  # in training by conjugate gradients: columns hang together
    output.square().mean().backward()
    assert output.shape == (1, 2, *SIZE)
    assert all(bool(one.grad.isfinite().all()) for one in network.parameters() if one.grad is not None)


def test_maps_are_estimated_from_the_block(knees: Path) -> None:
    given, own = (
        data_of({"kind": "skm-tea", "folder": knees, "maps": maps}).samples("train")[SampleKey(0, 0, 0)]
        for maps in ("given", "espirit")
    )
    inside = given["roi"][0] > 0
    likeness = (numbers(given, "maps").conj() * numbers(own, "maps")).sum(0).abs()[inside]
    assert float(likeness.median()) > 0.98
    assert torch.equal(given["mask"], own["mask"])


def test_cg_sense_solves_for_the_plane(knees: Path) -> None:
    """Its image explains the samples: ``Aᴴ A x = Aᴴ y``."""
    source = {"kind": "skm-tea", "folder": knees, "maps": "given"}
    task = {"kind": "image", "input": "cg-sense", "channels": "complex", "iterations": 50, "l2": 0.0}
    unrolled, solved = (
        data_of(source, simulation=PLANES | one).samples("validation")[SampleKey(0, 0, 1)]
        for one in ({}, {"task": task})
    )
    image = numbers(solved, "image") * solved["scale"] / unrolled["scale"]
    adjoint = numbers(unrolled, "image")
    error = torch.linalg.vector_norm(normal(unrolled, image) - adjoint) / torch.linalg.vector_norm(adjoint)
    assert float(error) < 1e-3
    assert torch.equal(unrolled["mask"], solved["mask"])


def test_zeros_of_calgary_campinas_are_neither_truth_nor_acceleration(brains: Path) -> None:
    samples = data_of({"kind": "calgary-campinas", "folder": brains, "ends": 1}).samples("train")
    assert samples.n_slices == 3
    for n in range(3):
        sample = samples[SampleKey(0, n, n)]
        mask = sample["mask"] > 0
        assert not bool(mask[:, 34:].any())
        assert int(mask.sum()) == pytest.approx(48 * 34 / 3, abs=1)
        beyond = to_kspace(numbers(sample, "maps") * numbers(sample, "target"))[..., 34:].abs().square().sum()
        # Coil maps smear a little over the edge; the scanner's leftovers would be as large as their signal.
        assert float(beyond) < 0.01 * float(to_kspace(numbers(sample, "target")).abs().square().sum())


def test_matrices_are_extended_by_samples_that_nobody_measured(brains: Path) -> None:
    simulation = PLANES | {"multiple": 32, "k1": [64, 64], "k0": [64, 64]}
    source = {"kind": "calgary-campinas", "folder": brains, "ends": 0}
    sample = data_of(source, simulation=simulation).samples("train")[SampleKey(0, 0, 0)]
    mask = sample["mask"] > 0
    assert mask.shape == (64, 64)
    assert not bool(mask[:8].any() | mask[56:].any())
    assert not bool(mask[:, :12].any() | mask[:, 12 + 34 :].any())


def test_measured_and_simulated_planes_train_together(knees: Path) -> None:
    simulated = {"kind": "synthetic", "n_subjects": 5, "slices_per_subject": 1, "size": 64}
    simulation = PLANES | {"coils": {"n_coils": [5, 5], "measured": 0}}
    samples = data_of({"kind": "skm-tea", "folder": knees}, simulated, simulation=simulation).samples("train")
    drawn = [samples[SampleKey(0, n, n)] for n in range(10)]
    assert {len(one["maps"]) for one in drawn} == {4, 5}
    for one in drawn:
        if len(one["maps"]) == 5:
            assert one["mask"].shape == (48, 48)
            assert int(one["mask"].sum()) == 768


def test_images_of_skm_tea_are_slices(knees: Path) -> None:
    source = SkmTea(folder=knees, what="images")
    assert source.gives == "slices"
    assert source.open()[0].shape == SIZE
    with pytest.raises(ValueError, match="what is 'images', and calgary-campinas has kspace"):
        CalgaryCampinas(folder=knees, what="images")


def test_masks_of_lines_are_none_for_planes(knees: Path) -> None:
    with pytest.raises(ValueError, match=r"skm-tea have two phase encodings.* \(simulation\.masks\.plane\)"):
        data_of({"kind": "skm-tea", "folder": knees}, simulation=PLANES | {"masks": {"acs": [14, 14]}})
    with pytest.raises(ValueError, match="k-space of fastmri has one phase encoding"):
        data_of({"kind": "fastmri", "folder": knees, "what": "kspace"})


def test_files_of_the_test_are_no_truth(brains: Path) -> None:
    mask = np.random.default_rng(0).random(SIZE) < 0.4
    mask[20:28, 16:24] = True
    write_calgary_campinas(brains / "e9.h5", coils_of(3, 4, *SIZE) + 1e-3, mask=mask)
    with pytest.raises(FileFormatError, match=r"e9\.h5 is undersampled \(\d+ of 1920 samples, with gaps\)"):
        CalgaryCampinas(folder=brains, ends=0).open()


def test_nothing_is_left_between_the_ends(brains: Path) -> None:
    with pytest.raises(ConfigError, match="50 slices at either end are left out, and there are no others"):
        CalgaryCampinas(folder=brains).open()


def test_a_mask_of_another_size_is_refused(knees: Path) -> None:
    write_knee(knees / "MTR_009.h5", masks={4.0: np.ones((40, 28), bool)})
    with pytest.raises(FileFormatError, match=r"MTR_009\.h5: its masks have the size \(40, 28\)"):
        SkmTea(folder=knees).open()


def write_annotations(path: Path, subjects: dict[str, int]) -> Path:
    images = [
        {
            "id": number,
            "scan_id": name,
            "subject_id": subject,
            "orientation": ["SI", "AP", "LR"],
            "matrix_shape": [3, *SIZE],
            "voxel_spacing": [1, 1, 1],
            "inspected": True,
        }
        for number, (name, subject) in enumerate(subjects.items())
    ]
    path.write_text(json.dumps({"images": images, "categories": [], "tissues": [], "annotations": []}))
    return path


def test_tables_say_whose_scans_are(knees: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert set(SkmTea(folder=knees).open().subjects) == {"MTR_001", "MTR_002", "MTR_003"}
    assert "every scan counts as a subject" in caplog.text
    train = write_annotations(tmp_path / "train.json", {"MTR_001": 7, "MTR_002": 7})
    test = write_annotations(tmp_path / "test.json", {"MTR_003": 8})
    assert set(SkmTea(folder=knees, annotations=(train, test)).open().subjects) == {"7", "8"}
    with pytest.raises(ConfigError, match=r"1 files of 3, such as MTR_003\.h5, are in none of .*train\.json"):
        SkmTea(folder=knees, annotations=(train,)).open()
    other = write_annotations(tmp_path / "other.json", {"MTR_001": 9, "MTR_003": 8})
    with pytest.raises(ConfigError, match="MTR_001 to subject 9, and another table to subject 7"):
        SkmTea(folder=knees, annotations=(train, other)).open()
