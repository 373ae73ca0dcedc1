"""Batches of one shape each, of scans that have several."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.data.fastmri_files import write_images

from scanside.errors import ConfigError
from scanside_training.data import DataConfig, EpochKeys, ReconstructionData, SampleKeys
from scanside_training.data.batches import ByShape, ShapeBuckets
from scanside_training.data.fastmri import FastMri
from scanside_training.draws import Draws

SIZES = [(40, 32, 2), (40, 32, 2), (48, 32, 2), (48, 32, 3), (40, 32, 2), (48, 32, 2)]
"""Lines, columns and coils of files."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, (n1, n0, n_coils) in enumerate(SIZES):
        images = np.random.default_rng(n).uniform(0.1, 1, (3, n0, n1)).astype(np.float32)
        write_images(tmp_path / f"file{n}.h5", images, f"patient-{n}", n_coils=n_coils)
    return tmp_path


def data_of(folder: Path, *others: Any, **changes: Any) -> ReconstructionData:
    everyone = tuple(f"patient-{n}" for n in range(len(SIZES)))
    source = {"kind": "fastmri", "folder": folder, "what": "kspace"} | changes.pop("source", {})
    source.setdefault("split", {"train": everyone})
    simulation = {"k1": [32, 32], "k0": [32, 32], "readout_crop": None, "multiple": 8}
    simulation |= {
        "masks": {"acceleration": [2, 2], "acs": [12, 12]},
        "coils": {"n_coils": [4, 4], "measured": 0},
    }
    settings = {
        "sources": [source, *others],
        "simulation": simulation,
        "batch_size": 2,
        "samples_per_epoch": 40,
    }
    return ReconstructionData(DataConfig.model_validate(settings | changes))


def test_training_batches_have_one_shape(folder: Path) -> None:
    batches = list(data_of(folder, samples_per_epoch=80).train_dataloader())
    assert len(batches) == 40
    shapes = Counter(tuple(one["maps"].shape) for one in batches)
    assert set(shapes) == {(2, 2, 2, 40, 32), (2, 2, 2, 48, 32), (2, 3, 2, 48, 32)}
    assert max(shapes.values()) < 30
    scales = {round(float(scale), 6) for one in batches for scale in one["scale"]}
    assert len(scales) > 15, "whatever it is, not always the same slice"


def test_batches_are_the_same_for_all_workers_and_other_ones_in_other_epochs(folder: Path) -> None:
    def batches(workers: int = 0, epoch: int = 0) -> list[dict[str, torch.Tensor]]:
        loader = data_of(folder, samples_per_epoch=12, num_workers=workers).train_dataloader()
        assert isinstance(loader.sampler, EpochKeys)
        loader.sampler.set_epoch(epoch)
        return list(loader)

    first, again, later = batches(), batches(workers=2), batches(epoch=1)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    assert [one["scale"].tolist() for one in first] != [one["scale"].tolist() for one in later]


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_share_the_batches(folder: Path, rank: int) -> None:
    data = data_of(folder)
    alone = list(data.loader("train", EpochKeys(12, 2)))
    share = list(data.loader("train", EpochKeys(12, 2, rank, 2)))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(alone[rank::2], share, strict=True))
    endless = iter(data.loader("train", Draws(2, 6, rank=rank, n_ranks=2)))
    assert torch.equal(next(endless)["image"], share[0]["image"])


def test_measured_and_simulated_scans_are_in_batches_of_their_own(folder: Path) -> None:
    simulated = {"kind": "synthetic", "n_subjects": 5, "slices_per_subject": 1, "size": 32, "weight": 3}
    batches = list(data_of(folder, simulated, samples_per_epoch=80).train_dataloader())
    coils = Counter(one["maps"].shape[1] for one in batches)
    assert set(coils) == {2, 3, 4}
    assert coils[4] / len(batches) == pytest.approx(0.75, abs=0.2)


def test_samples_for_validation_are_the_same_whatever_the_batches(folder: Path) -> None:
    everyone = {"split": {"validation": [f"patient-{n}" for n in range(len(SIZES))]}}

    def scales(batch_size: int, workers: int = 0) -> tuple[list[float], list[int]]:
        data = data_of(
            folder, source=everyone, batch_size=batch_size, validation_samples=18, num_workers=workers
        )
        loader = data.val_dataloader()
        batches = list(loader)
        assert len(loader) == len(batches)
        return sorted(float(s) for one in batches for s in one["scale"]), [
            len(one["scale"]) for one in batches
        ]

    alone, _ = scales(1)
    assert len(set(alone)) == 18
    fours, sizes = scales(4)
    assert fours == alone
    assert sorted(sizes) == [1, 2, 3, 4, 4, 4]  # 9, 6 and 3 slices of a shape
    assert scales(4, workers=1)[0] == alone


def test_keys_are_put_together_by_shape() -> None:
    keys = SampleKeys(11, 4)
    batches = ByShape(keys, 3, lambda key: key.sample % 2)
    found = [[key.sample for key in batch] for batch in batches]
    assert found == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9]]
    assert len(batches) == 4


def test_weights_of_sources_hold_in_buckets() -> None:
    buckets = ShapeBuckets([["a", "b", "b"], ["a"]], [1.0, 3.0])
    drawn = Counter(
        buckets.draw(np.random.default_rng([0, n // 2]), np.random.default_rng([1, n])) for n in range(8000)
    )
    for slice_, share in {(0, 0): 1 / 12, (0, 1): 1 / 12, (0, 2): 1 / 12, (1, 0): 3 / 4}.items():
        assert drawn[slice_] / 8000 == pytest.approx(share, abs=0.02)
    for n in range(50):  # a batch's samples are of its shape
        batch = {buckets.draw(np.random.default_rng(n), np.random.default_rng([n, i])) for i in range(4)}
        assert batch <= {(0, 0), (1, 0)} or batch <= {(0, 1), (0, 2)}


def test_sources_that_do_not_tell_shapes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        subjects, recordings = ("patient-0",), ("",)

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
            return np.ones((2, 40, 32), np.complex64)

    monkeypatch.setattr(FastMri, "open", lambda *_: Silent())
    source = {"split": {"train": ["patient-0"]}}
    with pytest.raises(
        ConfigError, match=r"fastmri are measured scans, .* \(shape_of\).*set batch_size to 1"
    ):
        data_of(folder, source=source).samples("train")
    assert data_of(folder, source=source, batch_size=1).samples("train").n_slices == 1
