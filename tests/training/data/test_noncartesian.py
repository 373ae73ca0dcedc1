"""Samples of scans along spokes and spiral arms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside_training.data import DataConfig, NonCartesianTask, ReconstructionData, SampleKey

SIMULATION: dict[str, Any] = {
    "k1": [24, 24],
    "k0": [24, 24],
    "multiple": 8,
    "readout_crop": None,
    "coils": {"n_coils": [3, 3], "measured": 0},
    "espirit": {"kernel": 4, "probability": 1},
}


def sample_of(**task: Any) -> dict[str, torch.Tensor]:
    config = DataConfig.model_validate(
        {
            "sources": [{"kind": "synthetic", "n_subjects": 6, "slices_per_subject": 1, "size": 40}],
            "simulation": SIMULATION | {"task": {"kind": "noncartesian", "calibration": 8, **task}},
            "batch_size": 1,
            "seed": 3,
        }
    )
    return ReconstructionData(config).samples("train")[SampleKey(0, 0, 0)]


@pytest.mark.parametrize("kind", ["radial", "spiral"])
def test_samples_hold_what_the_network_takes(kind: str) -> None:
    sample = sample_of(trajectories=[kind])
    assert sample["image"].shape == sample["target"].shape == (2, 24, 24)
    assert sample["toeplitz"].shape == (2, 2, 24, 24)
    assert sample["maps"].shape == (3, 2, 24, 24)
    assert float(sample["points"].abs().max()) <= 0.5
    assert all(bool(one.isfinite().all()) for one in sample.values())
    assert 0 < float(sample["noise"]) < 0.5


def test_the_number_of_spokes_is_that_of_the_acceleration() -> None:
    found = {len(sample_of(trajectories=["radial"], acceleration=[r, r])["points"]) for r in (2.0, 4.0)}
    assert found == {round(np.pi / 2 * 24 / 2), round(np.pi / 2 * 24 / 4)}


def test_where_the_centre_has_gaps_maps_are_the_true_ones() -> None:
    """Four spokes are too few to calibrate with; the true maps are there everywhere."""
    sample = sample_of(trajectories=["radial"], acceleration=[9.4, 9.4])
    torch.testing.assert_close(sample["maps"].square().sum((0, 1)), torch.ones(24, 24))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="set batch_size to 1"):
        DataConfig.model_validate(
            {
                "sources": [{"kind": "synthetic"}],
                "simulation": SIMULATION | {"task": {"kind": "noncartesian"}},
            }
        )
    with pytest.raises(ValueError, match="acceleration starts at 1"):
        NonCartesianTask(acceleration=(0.5, 2))
