"""Quick ESPIRiT maps against those on the full grid, which agree with BART's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanside.errors import CalibrationError
from scanside.recon.espirit import espirit
from scanside.recon.fourier import to_kspace
from scanside_training.data import CoilsConfig, EspiritConfig
from scanside_training.data.calibration import espirit_maps, on_grid
from scanside_training.data.coils import random_maps


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """True maps ``(coil, y, x)``, and an object ``(y, x)`` that fills most of the field of view."""
    rng = np.random.default_rng(2)
    maps = random_maps(CoilsConfig(measured=0), None, 6, (100, 120), rng)
    y, x = torch.linspace(-1, 1, 100)[:, None], torch.linspace(-1, 1, 120)
    body = (y / 0.8) ** 2 + (x / 0.75) ** 2 < 1
    texture = torch.from_numpy(rng.uniform(0.5, 1, (100, 120)).astype(np.float32))
    return maps, body * texture * torch.exp(1j * y)


def acs_of(maps: torch.Tensor, object_: torch.Tensor, lines: int = 24) -> torch.Tensor:
    kspace = to_kspace(maps * object_)
    return kspace[:, 50 - lines // 2 : 50 - lines // 2 + lines]


def test_as_on_the_full_grid(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    acs = acs_of(*scene)
    quick = espirit_maps(EspiritConfig(crop=0.8), acs, (100, 120))
    full = espirit(acs[:, None], (1, 100, 120), crop=0.8)[:, 0]
    power = quick.abs().square().sum(0)
    assert bool((((power - 1).abs() < 1e-4) | (power == 0)).all())
    both = (power > 0) & (full.abs().square().sum(0) > 0)
    # Where one of them ends lies within the distance of the coarse points.
    assert float(both[scene[1].abs() > 0].float().mean()) > 0.995
    error = (quick - full).abs().square().sum(0).sqrt()[both & (scene[1].abs() > 0)]
    assert float(error.median()) < 1e-3
    assert float(error.quantile(0.99)) < 0.02


def test_target_keeps_the_object(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps, object_ = scene
    estimated = espirit_maps(EspiritConfig(), acs_of(*scene), (100, 120))
    target = (estimated.conj() * maps * object_).sum(0)
    energy = target.abs().square().sum() / object_.abs().square().sum()
    assert float(energy) > 0.995


def test_too_few_lines(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(CalibrationError, match="too small for a kernel"):
        espirit_maps(EspiritConfig(), acs_of(*scene, lines=8), (100, 120))


def smooth_maps(n1: int, n0: int) -> torch.Tensor:
    """Of three coils on a grid whose voxel n // 2 lies in the middle of the field of view."""
    y, x = ((torch.arange(n) - n // 2) / n for n in (n1, n0))
    y, x = torch.meshgrid(y, x, indexing="ij")
    coils = torch.stack(
        [torch.exp(a * y - b * x + 1j * (a * x + b * y)) for a, b in ((1, 0), (-1, 1), (0.5, -1))]
    )
    return coils / torch.linalg.vector_norm(coils, dim=0)


@pytest.mark.parametrize("shape", [(56, 48), (48, 61), (45, 48), (48, 48)])
def test_maps_on_another_grid_are_those_of_the_same_place(shape: tuple[int, int]) -> None:
    found = on_grid(smooth_maps(48, 48), shape)
    torch.testing.assert_close(found, smooth_maps(*shape), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("widths", "taken"), [(1, {14}), (2, {14, 20}), (4, {14, 17, 20, 23}), (99, set(range(14, 25)))]
)
def test_few_widths_of_the_block(widths: int, taken: set[int]) -> None:
    """Never more lines than were acquired, and never more than ESPIRiT takes."""
    config = EspiritConfig(widths=widths)
    found = [config.lines_of(n, 14, 26) for n in range(14, 27)]
    assert set(found) == taken
    assert all(width <= n for width, n in zip(found, range(14, 27), strict=True))
    assert found == sorted(found)


def test_some_rows_of_maps_are_those_of_all(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps = scene[0]
    some = slice(3, 90, 4)
    torch.testing.assert_close(on_grid(maps, (64, 48), some), on_grid(maps, (64, 48))[:, some])
