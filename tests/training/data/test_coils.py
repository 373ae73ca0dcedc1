"""Coil maps: unit length everywhere, smooth, and different enough to unfold an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside_training.data import CoilsConfig
from scanside_training.data.coils import measured_maps, random_maps


def unfolding_noise(maps: torch.Tensor, factor: int) -> torch.Tensor:
    """The g factor of SENSE (Pruessmann 1999) for maps ``(coil, y, x)``, folded along y."""
    n_coils, n, width = maps.shape
    folded = maps.reshape(n_coils, factor, n // factor, width).permute(2, 3, 0, 1).to(torch.complex128)
    normal = folded.mH @ folded
    inverse = torch.linalg.inv(normal)
    product = inverse.diagonal(dim1=-2, dim2=-1).real * normal.diagonal(dim1=-2, dim2=-1).real
    return product.clamp_min(0).sqrt()


@pytest.mark.parametrize("n_coils", [2, 8, 16])
@pytest.mark.parametrize("seed", range(3))
def test_loops(n_coils: int, seed: int) -> None:
    check(
        random_maps(CoilsConfig(measured=0), None, n_coils, (96, 128), np.random.default_rng(seed)), n_coils
    )


@pytest.mark.parametrize("n_coils", [2, 8, 32])
@pytest.mark.parametrize("seed", range(3))
def test_measured(n_coils: int, seed: int, shared_data: Path) -> None:
    config = CoilsConfig(measured=1, n_coils=(n_coils, n_coils), root=shared_data)
    check(random_maps(config, config.load(), n_coils, (96, 128), np.random.default_rng(seed)), n_coils)


def check(maps: torch.Tensor, n_coils: int) -> None:
    assert maps.shape == (n_coils, 96, 128)
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(96, 128))
    y, x = torch.linspace(-1, 1, 96)[1:, None], torch.linspace(-1, 1, 128)
    steps = maps.diff(dim=1).abs().square().sum(0).sqrt()
    assert float(steps[y**2 + x**2 < 1].max()) < 0.3
    if n_coils >= 8:
        assert 1 < float(unfolding_noise(maps, 3).median()) < 5


def test_one_coil_sees_everything_alike() -> None:
    maps = random_maps(CoilsConfig(n_coils=(1, 1)), None, 1, (8, 9), np.random.default_rng(0))
    torch.testing.assert_close(maps, torch.ones(1, 8, 9, dtype=torch.complex64))
    assert CoilsConfig(n_coils=(1, 1), root=Path("/nowhere")).load() is None


def test_arrays_differ(rng: np.random.Generator) -> None:
    one, other = (random_maps(CoilsConfig(measured=0), None, 4, (32, 32), rng) for _ in range(2))
    assert float((one - other).abs().mean()) > 0.1


def test_the_file_that_is_read(shared_data: Path) -> None:
    maps = measured_maps(shared_data / "coil-maps-32ch" / "xGT.mat")
    assert (maps.shape, maps.dtype) == ((32, 128, 128), torch.complex64)


def test_maps_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"coil-maps-32ch.*does not exist.*SCANSIDE_DATA"):
        CoilsConfig(root=tmp_path).load()


def test_more_coils_than_were_measured() -> None:
    with pytest.raises(ValidationError, match="there are 32 measured coils"):
        CoilsConfig(n_coils=(8, 48))
    CoilsConfig(n_coils=(8, 48), measured=0)
