"""The noise level that is found is the one that was put in."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.fourier import to_kspace
from scanside.recon.noise_level import noise_level


def noisy_disc(level: float, generator: torch.Generator) -> torch.Tensor:
    """K-space ``(4, 128, 160)`` of a disc of magnitude 1, with noise."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 160), indexing="ij")
    disc = (y.square() + x.square() < 0.5).to(torch.complex64)
    weights = torch.randn(4, 1, 1, dtype=torch.complex64, generator=generator)
    noise = torch.randn(4, 128, 160, 2, generator=generator)
    return to_kspace(weights * disc) + level * torch.view_as_complex(noise)


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0])
def test_finds_the_level(level: float) -> None:
    generator = torch.Generator().manual_seed(1)
    kspace = noisy_disc(level, generator)
    sampled = torch.rand(128, generator=generator) < 0.3
    assert float(noise_level(kspace, sampled)) == pytest.approx(level, rel=0.15)


def test_looks_at_acquired_samples_only() -> None:
    kspace = noisy_disc(0.1, torch.Generator().manual_seed(2))
    sampled = torch.zeros(128, dtype=torch.bool)
    sampled[::3] = True
    kspace[:, ~sampled] = 0
    kspace[..., :40] = 0
    assert float(noise_level(kspace, sampled, slice(40, None))) == pytest.approx(0.1, rel=0.15)


def test_refuses_k_space_without_lines() -> None:
    with pytest.raises(ShapeError, match="0 lines"):
        noise_level(torch.zeros(2, 8, 8, dtype=torch.complex64), torch.zeros(8, dtype=torch.bool))
