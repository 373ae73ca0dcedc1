"""What the tests of training data share: a cache of their own, and small things to simulate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from scanside_training.data import Synthetic


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slices")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def small_source() -> Synthetic:
    return Synthetic(n_subjects=8, slices_per_subject=2, size=64)


@pytest.fixture(scope="session")
def head() -> torch.Tensor:
    """A real slice ``(y, x)`` with a head in it."""
    return torch.from_numpy(
        Synthetic(n_subjects=1, slices_per_subject=1, size=128, shapes=0, hearts=0).open()[0]
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
