"""Batches: the same whoever makes them, other ones in every epoch, and subjects that never meet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError
from scanside_training.data import (
    DataConfig,
    EpochKeys,
    ReconstructionData,
    SampleKey,
    SampleKeys,
    SimulationConfig,
    SubjectFolds,
    SubjectFractions,
    SubjectLists,
    Synthetic,
)
from scanside_training.data import module as data_module
from scanside_training.data.splits import PARTS

Batch = dict[str, torch.Tensor]

SIMULATION = SimulationConfig.model_validate(
    {
        "k1": (32, 64),
        "k0": (32, 48),
        "readout_crop": None,
        "coils": {"n_coils": (2, 5), "measured": 0},
        "masks": {"acceleration": (2, 3), "acs": (6, 8)},
        "espirit": {"probability": 0},
    }
)


def config_of(source: Synthetic, **changes: object) -> DataConfig:
    settings = {"sources": (source,), "simulation": SIMULATION, "batch_size": 2, "samples_per_epoch": 8}
    return DataConfig.model_validate(settings | {"validation_samples": 5} | changes)


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    return all(
        torch.equal(a[name], b[name]) for a, b in zip(list(one), list(other), strict=True) for name in a
    )


@pytest.fixture(scope="module")
def reference(small_source: Synthetic) -> list[Batch]:
    return list(ReconstructionData(config_of(small_source)).train_dataloader())


def test_batches_share_a_shape_and_differ_among_each_other(reference: list[Batch]) -> None:
    assert len(reference) == 4
    assert all(batch["image"].shape[0] == 2 for batch in reference)
    assert len({batch["maps"].shape for batch in reference}) > 1
    images = [image.sum().item() for batch in reference for image in batch["image"]]
    assert len(set(images)) == 8


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_make_the_same(
    small_source: Synthetic, reference: list[Batch], workers: int
) -> None:
    loader = ReconstructionData(config_of(small_source, num_workers=workers)).train_dataloader()
    assert same(loader, reference)


def test_epochs_and_seeds_differ(small_source: Synthetic, reference: list[Batch]) -> None:
    loader = ReconstructionData(config_of(small_source)).train_dataloader()
    assert isinstance(loader.sampler, EpochKeys)
    loader.sampler.set_epoch(1)
    later = list(loader)
    assert not torch.equal(later[0]["scale"], reference[0]["scale"])
    loader.sampler.set_epoch(0)
    assert same(loader, reference)
    other = next(iter(ReconstructionData(config_of(small_source, seed=1)).train_dataloader()))
    assert not torch.equal(other["scale"], reference[0]["scale"])


def test_processes_part_the_batches() -> None:
    keys = [list(SampleKeys(21, 4, rank, 2)) for rank in range(2)]
    assert [len(SampleKeys(21, 4, rank, 2)) for rank in range(2)] == [len(own) for own in keys] == [12, 9]
    assert sorted(key.sample for own in keys for key in own) == list(range(21))
    assert {key.batch for key in keys[0]} == {0, 2, 4}
    assert {key.batch for key in keys[1]} == {1, 3, 5}


def test_validation_is_fixed_whatever_the_batches(small_source: Synthetic) -> None:
    def samples(**changes: object) -> list[Batch]:
        data = ReconstructionData(config_of(small_source, **changes))
        loader = data.val_dataloader()
        return [
            {name: values[i] for name, values in batch.items()}
            for batch in loader
            for i in range(len(batch["scale"]))
        ]

    first = samples()
    assert len(first) == 5
    assert same(first, samples())
    assert same(first, samples(batch_size=5))
    assert not same(first, samples(seed=3))


def test_validation_spreads_over_its_slices(small_source: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_source.model_copy(update={"split": SubjectFractions(validation=0.5, test=0)})
    seen = sliced(config_of(source, validation_samples=4), "validation", range(4), monkeypatch)
    assert len(set(seen)) == 4
    assert len(set(sliced(config_of(source, validation_samples=8), "validation", range(8), monkeypatch))) == 8


def sliced(
    config: DataConfig, part: str, samples: Iterable[int], monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """What of its slices a part is made from, told by the sum of their pixels."""
    seen: list[float] = []

    def note(pixels: torch.Tensor, _: object) -> Batch:
        seen.append(round(float(pixels.double().sum()), 3))
        return {}

    monkeypatch.setattr(data_module, "simulate_sample", note)
    made = ReconstructionData(config).samples(part)  # type: ignore[arg-type]
    for sample in samples:
        made[SampleKey(0, sample, sample)]
    return seen


def test_no_slice_of_one_part_is_seen_in_another(
    small_source: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_source.model_copy(update={"split": SubjectFractions(validation=0.3, test=0.3, seed=2)})
    slices = source.open()
    owner = {round(float(slices[i].sum(dtype=float)), 3): slices.subjects[i] for i in range(len(slices))}
    assert len(owner) == len(slices)
    config = config_of(source, validation_samples=16)
    seen = {
        part: {owner[one] for one in sliced(config, part, range(200), monkeypatch)}
        for part in ("train", "validation", "test")
    }
    assert sorted(name for members in seen.values() for name in members) == sorted(set(slices.subjects))


def test_weights_of_sources(small_source: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    rare = Synthetic(n_subjects=4, slices_per_subject=1, size=48, seed=9, weight=1)
    often = small_source.model_copy(update={"weight": 3.0})
    own = {round(float(rare.open()[i].sum(dtype=float)), 3) for i in range(4)}
    seen = sliced(config_of(small_source, sources=(often, rare)), "train", range(400), monkeypatch)
    assert np.mean([one in own for one in seen]) == pytest.approx(0.25, abs=0.06)
    unused = rare.model_copy(update={"weight": 0.0})
    assert not own & set(
        sliced(config_of(small_source, sources=(often, unused)), "train", range(50), monkeypatch)
    )


def test_what_it_was_trained_on(small_source: Synthetic) -> None:
    source = small_source.model_copy(update={"split": SubjectLists(train=("0", "3"), validation=("1",))})
    (seen,) = ReconstructionData(config_of(source)).provenance
    assert seen == ("synthetic", "clean", ("0", "3"), 4)


def test_a_part_without_subjects(small_source: Synthetic) -> None:
    source = small_source.model_copy(update={"split": SubjectLists(train=("0",))})
    data = ReconstructionData(config_of(source))
    data.prepare_data()
    data.train_dataloader()
    with pytest.raises(
        ConfigError, match=r"no source \(synthetic\) has a slice for validation: name subjects"
    ):
        data.val_dataloader()


def test_default_settings_on_real_data(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_DATA", str(shared_data))
    config = DataConfig.model_validate(
        {
            "sources": [{"kind": "brain-t1w"}, {"kind": "phantom-array16"}],
            "batch_size": 2,
            "samples_per_epoch": 2,
        }
    )
    (batch,) = ReconstructionData(config).train_dataloader()
    assert all(values.isfinite().all() for values in batch.values())
    inside = batch["roi"].expand_as(batch["target"]) > 0
    error = (batch["image"] - batch["target"])[inside].square().mean()
    assert float(error) < float(batch["target"][inside].square().mean())


def test_one_subject_in_two_parts_through_two_sources_is_refused(small_source: Synthetic) -> None:
    train = small_source.model_copy(update={"split": SubjectLists(train=("0", "1"))})
    test = small_source.model_copy(update={"split": SubjectLists(test=("1",), validation=("2",))})
    config = config_of(train).model_copy(update={"sources": (train, test)})
    with pytest.raises(
        ConfigError, match=r"the same subject is in train as subject '1' of sources\[0\].*test as"
    ):
        ReconstructionData(config).samples("validation")
    others = test.model_copy(update={"seed": 9})
    ReconstructionData(config.model_copy(update={"sources": (train, others)})).samples("validation")


def test_folds_through_the_data(small_source: Synthetic) -> None:
    seen: list[str] = []
    for fold in range(4):
        source = small_source.model_copy(update={"split": SubjectFolds(folds=4, fold=fold, validation=0.3)})
        data = ReconstructionData(config_of(source))
        subjects = {part: set(data.samples(part).provenance[0].subjects) for part in PARTS}
        assert {part: len(members) for part, members in subjects.items()} == {
            "train": 4,
            "validation": 2,
            "test": 2,
        }
        seen += subjects["test"]
    assert sorted(seen) == [str(n) for n in range(8)]


def test_the_same_people_in_other_folds_are_refused(small_source: Synthetic) -> None:
    first, second = (
        small_source.model_copy(update={"split": SubjectFolds(folds=4, fold=fold)}) for fold in (0, 1)
    )
    with pytest.raises(ConfigError, match="the same subject is in"):
        ReconstructionData(config_of(first, sources=(first, second))).samples("train")
