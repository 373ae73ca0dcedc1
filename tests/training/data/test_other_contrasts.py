"""Samples with other contrasts of the same slice, against what was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside.recon.scaling import image_scale
from scanside_training.data import DataConfig, SampleKey, SimulatedSamples
from scanside_training.data.generated import contrasts_of, slices_of
from scanside_training.data.other_contrasts import misplaced

pytestmark = pytest.mark.usefixtures("slice_cache")


def config(
    names: list[str], weightings: list[str], source: str = "contrast-heads", **task: object
) -> DataConfig:
    of = {"weightings": weightings} if source == "contrast-heads" else {}
    return DataConfig.model_validate(
        {
            "sources": [{"kind": source, "n_subjects": 6, "slices_per_subject": 1, "size": 96, **of}],
            "simulation": {
                "task": {"kind": "other-contrasts", "names": names, "channels": "complex", **task},
                "k1": [64, 64],
                "k0": [80, 80],
                "readout_crop": 48,
                "coils": {"n_coils": [1, 1]},
                "masks": {"acceleration": [1, 1]},
                "appearance": {"contrast": 0, "inverted": 0, "scalp": 0, "bias": 0, "phase": 0},
                "snr": [1000, 1000],
            },
            "validation_samples": 2,
            "seed": 5,
        }
    )


def sample_of(data: DataConfig) -> dict[str, torch.Tensor]:
    return SimulatedSamples(data, "validation")[SampleKey(0, 0, 0)]


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1])


def test_contrasts_are_of_one_head() -> None:
    draw = np.random.default_rng
    (both,) = contrasts_of("brain", 1, 72, draw(4), ["t2", "t1"])
    (t1,) = contrasts_of("brain", 1, 72, draw(4), ["t1"])
    assert both.shape == (2, 72, 72)
    np.testing.assert_array_equal(both[1], t1[0])
    assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] < 0.9


def test_fluid_is_dark_in_flair_and_bright_in_t2() -> None:
    (both,) = contrasts_of("brain", 1, 96, np.random.default_rng(1), ["t2", "flair"])
    fluid = both[0] > 0.85 * both[0].max()
    assert both[1][fluid].mean() < 0.3 * both[1].max()
    assert slices_of("brain", 1, 16, np.random.default_rng(1), "flair")[0].shape == (16, 16)


def test_an_image_of_the_scans_own_contrast_lies_as_the_scan_does() -> None:
    data = config(["same"], ["t2", "t2"], shift=0, rotation_deg=0)
    sample = sample_of(data)
    beside, target = sample["contrast:same"], sample["target"].square().sum(0, keepdim=True).sqrt()
    assert beside.shape == (1, 64, 48)
    torch.testing.assert_close(beside / beside.max(), target / target.max(), rtol=0, atol=1e-4)


def test_every_contrast_has_a_scale_of_its_own() -> None:
    data = config(["t1", "flair"], ["t2", "t1", "flair"])
    data = data.model_copy(update={"simulation": data.simulation.model_copy(update={"readout_crop": None})})
    sample = sample_of(data)
    for name in ("t1", "flair"):
        assert float(image_scale(sample[f"contrast:{name}"][0])) == pytest.approx(1)
    assert likeness(sample["contrast:t1"], sample["contrast:flair"]) < 0.95


def test_a_patient_who_has_moved() -> None:
    image = torch.zeros(40, 48)
    image[24, 30] = 1
    moved = misplaced(image, np.array([3.0, -2.0]), 0.0)
    assert moved.argmax() == 27 * 48 + 28
    turned = misplaced(image, np.zeros(2), 90.0)
    # About the middle (20, 24): (4, 6) becomes (-6, 4) or (6, -4); the distance stays.
    y, x = divmod(int(turned.argmax()), 48)
    assert math.hypot(y - 20, x - 24) == pytest.approx(math.hypot(4, 6), abs=0.8)
    assert (abs(y - 20), abs(x - 24)) == (6, 4)


def test_contrasts_come_from_sources_that_have_them() -> None:
    with pytest.raises(ValidationError, match="is made from contrasts, and synthetic gives slices"):
        config(["t1"], [], source="synthetic")


def test_more_names_than_contrasts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"slices have 2 contrasts, .* names 2 others"):
        sample_of(config(["t1", "pd"], ["t2", "t1"]))
