"""Films and frames of CMRxRecon, from files that are built like its."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets.cmrxrecon import write_cmrxrecon
from scanside.errors import ConfigError, FileFormatError
from scanside_training.data import DataConfig, ReconstructionData, SampleKey
from scanside_training.data.cine_folders import CmrxRecon

SET = "CMRxRecon2024/MultiCoil/Cine/TrainingSet"
N_FRAMES, N_SLICES, SIZE = 5, 2, (48, 40)


def beat(n_frames: int = N_FRAMES) -> npt.NDArray[np.complex64]:
    """``(time, slice, coil, k1, k0)``: a body that grows from frame to frame."""
    sizes = coils_of(n_frames + N_SLICES, 4, *SIZE)
    return np.stack([sizes[t : t + N_SLICES] for t in range(n_frames)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for patient in ("P001", "P002", "P003"):
        write_cmrxrecon(tmp_path / SET / "FullSample" / patient / "cine_sax.mat", beat())
    return tmp_path


def test_films_are_the_frames_of_a_slice_in_their_order(folder: Path) -> None:
    source = CmrxRecon(folder=folder)
    assert source.gives == "films"
    films = source.open()
    assert len(films) == 3 * N_SLICES
    assert films.subjects == ("P001",) * N_SLICES + ("P002",) * N_SLICES + ("P003",) * N_SLICES
    for number in range(N_SLICES):
        film = films[number]
        assert film.dtype == np.float32
        truth = np.sqrt((np.abs(beat()[:, number]) ** 2).sum(1))
        np.testing.assert_allclose(film, truth, atol=1e-5 * truth.max())


def test_films_train(folder: Path) -> None:
    simulation = {
        "task": {"kind": "dynamic", "time": 4, "masks": {"acceleration": [2, 2], "acs": [6, 6]}},
        "k1": [48, 48],
        "k0": [32, 32],
        "readout_crop": None,
        "coils": {"n_coils": [2, 2], "measured": 0},
        "espirit": {"probability": 0},
    }
    config = DataConfig.model_validate(
        {"sources": [{"kind": "cmrxrecon", "folder": folder}], "simulation": simulation, "batch_size": 2}
    )
    batch = next(iter(ReconstructionData(config).train_dataloader()))
    assert batch["image"].shape == (2, 2, 4, 48, 32)


def test_single_frames_are_kspace(folder: Path) -> None:
    source = {"kind": "cmrxrecon", "folder": folder, "what": "kspace"}
    simulation = {"k1": [48, 48], "k0": [32, 32], "readout_crop": None, "multiple": 8}
    simulation |= {"masks": {"patterns": ["random"], "acceleration": [2, 2], "acs": [12, 12]}}
    config = DataConfig.model_validate({"sources": [source], "simulation": simulation, "batch_size": 2})
    samples = ReconstructionData(config).samples("train")
    assert samples.n_slices == N_FRAMES * N_SLICES
    sample = samples[SampleKey(0, 0, 0)]
    assert sample["maps"].shape == (4, 2, *SIZE)
    assert int(sample["mask"].sum()) == 24


def test_files_beside_kspace_and_undersampled_ones_are_no_films(folder: Path) -> None:
    mask = np.zeros((N_FRAMES, *SIZE), bool)
    mask[:, ::4] = mask[:, 18:30] = True
    undersampled = folder / SET.replace("TrainingSet", "ValidationSet") / "UnderSample_Task2" / "P009"
    write_cmrxrecon(undersampled / "cine_sax_kus_ktUniform4.mat", beat(), name="kus", mask=mask)
    assert len(list(folder.rglob("*.mat"))) == 5
    assert len(CmrxRecon(folder=folder).open()) == 3 * N_SLICES
    with pytest.raises(
        FileFormatError, match=r"ktUniform4\.mat is undersampled \(\d+ of 48 lines, with gaps\)"
    ):
        CmrxRecon(folder=folder, where={}).open()
    with pytest.raises(ConfigError, match=r"is of kind lax; there are kind cine_sax"):
        CmrxRecon(folder=folder, where={"kind": ("lax",)}).open()


def test_files_that_are_known_to_be_bad_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_cmrxrecon(folder / SET / "FullSample" / "P109" / "cine_sax.mat", beat())
    with caplog.at_level(logging.WARNING):
        assert "P109" not in CmrxRecon(folder=folder).open().subjects
    assert "1 files are left out, such as" in caplog.text


@pytest.mark.parametrize(("n_frames", "frames", "told"), [(1, 2, "1 frame, and"), (5, 8, "5 frames, and")])
def test_films_with_too_few_frames(folder: Path, n_frames: int, frames: int, told: str) -> None:
    write_cmrxrecon(folder / SET / "FullSample" / "P000" / "cine_lax.mat", beat(n_frames))
    with pytest.raises(FileFormatError, match=rf"cine_.ax\.mat has {told} films have at least {frames}"):
        CmrxRecon(folder=folder, frames=frames).open()


def test_there_are_no_images(folder: Path) -> None:
    with pytest.raises(ValueError, match="what is 'images', and cmrxrecon has films or kspace"):
        CmrxRecon(folder=folder, what="images")
