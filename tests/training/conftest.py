"""What tests of training share: a run that takes a second."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"kind": "unet", "image_channels": 2, "channels": 4, "pools": 2, "dropout": 0.1},
    "loss": {"terms": [{"kind": "l1"}]},
    "data": {
        "sources": [{"kind": "synthetic", "n_subjects": 6, "slices_per_subject": 2, "size": 48}],
        "simulation": {
            "task": {"kind": "image", "channels": "complex"},
            "k1": [32, 32],
            "k0": [32, 48],
            "readout_crop": 32,
            "coils": {"n_coils": [1, 1], "measured": 0},
            "masks": {"acceleration": [2, 2], "acs": [6, 6]},
            "espirit": {"probability": 0},
        },
        "batch_size": 2,
        "samples_per_epoch": 6,
        "validation_samples": 4,
    },
    "optimiser": {"lr": 0.01},
    "max_steps": 6,
    "validation": {"every_steps": 3, "images": 2},
    "log_every_steps": 1,
    "accelerator": "cpu",
}


TINY_FILMS: dict[str, Any] = {
    "model": {"kind": "temporal", "n_frames": 4, "n_cascades": 1, "channels": 4, "pools": 1},
    "data": {
        "sources": [
            {"kind": "beating-hearts", "n_subjects": 4, "films_per_subject": 2, "frames": 6, "size": 40}
        ],
        "simulation": {
            "task": {"kind": "dynamic", "time": 4, "masks": {"acceleration": [2, 2], "acs": [6, 6]}},
            "k1": [32, 32],
            "k0": [32, 32],
            "readout_crop": None,
            "coils": {"n_coils": [1, 1], "measured": 0},
            "espirit": {"probability": 0},
        },
        "batch_size": 2,
        "samples_per_epoch": 4,
        "validation_samples": 2,
    },
}


@pytest.fixture
def tiny_films(tiny: dict[str, Any]) -> dict[str, Any]:
    """The same for films; a copy to change."""
    return tiny | copy.deepcopy(TINY_FILMS)


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Settings of a training run that takes a second; a copy to change."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def slice_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generated slices are made once, and nothing is left in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(folder))
        yield folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums have one order, and processors that are busy with other tests are not waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
