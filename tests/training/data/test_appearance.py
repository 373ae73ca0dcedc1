"""Contrast, shading and phase: smooth, and only what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanside_training.data import AppearanceConfig
from scanside_training.data.appearance import random_appearance

NOTHING = {"contrast": 0.0, "scalp": 0.0, "bias": 0.0, "phase": 0.0}


def ramp() -> torch.Tensor:
    """Every intensity from 0 to 1, in every place the same along y."""
    return torch.linspace(0, 1, 128).expand(96, 128).to(torch.complex64).contiguous()


def changed(seed: int, image: torch.Tensor, **settings: object) -> torch.Tensor:
    config = AppearanceConfig.model_validate(NOTHING | settings)
    return random_appearance(config, image, np.random.default_rng(seed))


def test_nothing_asked_nothing_done() -> None:
    torch.testing.assert_close(changed(0, ramp()), ramp())


@pytest.mark.parametrize("seed", range(5))
def test_phase_leaves_magnitudes_and_has_its_spread(seed: int) -> None:
    image = torch.ones(96, 128, dtype=torch.complex64)
    phased = changed(seed, image, phase=1.0, phase_rad=(0.4, 0.4))
    torch.testing.assert_close(phased.abs(), image.abs())
    # Relative to one pixel the phase stays well within a turn, so that it needs no unwrapping.
    phase = (phased * phased[48, 64].conj()).angle()
    assert float(phase.std()) == pytest.approx(0.4, rel=0.02)
    assert float(phase.diff(dim=0).abs().max()) < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_contrast_depends_on_intensity_alone(seed: int) -> None:
    remapped = changed(seed, ramp(), contrast=1.0)
    assert not remapped[:, 0].any()
    torch.testing.assert_close(remapped, remapped[:1].expand_as(remapped))
    assert float((remapped - ramp()).abs().max()) > 0.02


def test_contrast_is_monotone_at_times_and_at_times_not() -> None:
    monotone = {bool((changed(seed, ramp(), contrast=1.0)[0].abs().diff() >= 0).all()) for seed in range(30)}
    assert monotone == {True, False}


def test_shading_is_smooth_and_positive() -> None:
    image = torch.ones(96, 128, dtype=torch.complex64)
    gains = torch.stack([changed(seed, image, bias=1.0) for seed in range(40)])
    assert float(gains.imag.abs().max()) == 0
    assert float(gains.real.min()) > 0
    assert float(gains.real.log().diff(dim=1).abs().max()) < 0.1
    assert float(gains.real.log()[:, ::95, ::127].std()) == pytest.approx(0.3, rel=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_scalp_is_brightened_and_nothing_deeper(seed: int) -> None:
    y, x = torch.meshgrid(torch.arange(96.0) - 48, torch.arange(128.0) - 64, indexing="ij")
    radius = torch.hypot(y, x)
    head = ((radius < 40) & ~((radius > 33) & (radius < 36))).to(torch.complex64)  # dark bone under the scalp
    brighter = changed(seed, head, scalp=1.0, scalp_gain=(3.0, 3.0), scalp_depth=(0.03, 0.03)).abs()
    assert 2.0 < float(brighter.max()) <= 3.0
    torch.testing.assert_close(brighter[radius < 32], head.abs()[radius < 32])
    assert not brighter[head == 0].any()
    assert float(brighter[(radius > 38) & (radius < 40)].min()) > 1.5


@pytest.mark.parametrize("seed", range(5))
def test_inverted_head_has_bright_fluid_and_dark_surroundings(seed: int) -> None:
    y, x = torch.meshgrid(torch.arange(96.0) - 48, torch.arange(128.0) - 64, indexing="ij")
    radius = torch.hypot(y, x)
    fluid, tissue = 0.1, 0.8
    head = torch.where(radius < 12, fluid, torch.where(radius < 40, tissue, 0.0))
    phase = torch.polar(torch.ones(96, 128), 0.02 * x)
    turned = changed(seed, head * phase, inverted=1.0)
    assert float(turned.abs()[radius < 11].min()) > 2 * float(
        turned.abs()[(radius > 14) & (radius < 36)].max()
    )
    assert float(turned.abs()[(radius > 14) & (radius < 36)].min()) > 0
    assert not turned[radius > 44].any()
    inside = radius < 36
    torch.testing.assert_close(turned[inside].angle(), phase[inside].angle())
