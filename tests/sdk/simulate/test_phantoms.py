"""Phantoms: what they look like in numbers."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.simulate.config import PhantomConfig
from scanside.simulate.phantoms import Brain, Cardiac, ObjectState, Phantom, SheppLogan, make_phantom
from scanside.simulate.phantoms.cardiac import HEART_CENTER_MM, contraction

pytestmark = pytest.mark.torch_free

REST = ObjectState()


def volume(phantom: Phantom, step_mm: float = 6.0, state: ObjectState = REST) -> np.ndarray:  # type: ignore[type-arg]
    """Intensity (z, y, x) on a grid that is symmetric about the origin."""
    half = 132 if isinstance(phantom, Brain | SheppLogan) else 186
    axis = np.arange(-half + step_mm / 2, half, step_mm, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return phantom.evaluate(np.stack([x, y, z]), state)[0]


@pytest.mark.parametrize("kind", ["brain", "cardiac", "shepp-logan"])
def test_every_flip_transposition_and_rotation_shows(kind: str) -> None:
    image = volume(make_phantom(PhantomConfig(kind=kind)), 8.0)  # type: ignore[arg-type]
    scale = np.linalg.norm(image)
    for axes in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        assert np.linalg.norm(np.flip(image, axes) - image) > 0.05 * scale, axes
    for order in [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)]:
        assert np.linalg.norm(image.transpose(order) - image) > 0.2 * scale, order


@pytest.mark.parametrize("kind", ["brain", "cardiac", "shepp-logan"])
def test_phantoms_are_empty_beyond_their_box_and_repeat_themselves(kind: str) -> None:
    config = PhantomConfig(kind=kind)  # type: ignore[arg-type]
    phantom = make_phantom(config)
    rng = np.random.default_rng(2)
    points = rng.uniform(-300, 300, (3, 20_000)).astype(np.float32)
    intensity, share = phantom.evaluate(points, REST)
    low, high = phantom.bounds_mm
    outside = ((low > points.T) | (high < points.T)).any(axis=1)
    assert not intensity[outside].any()
    assert not share[outside].any()
    assert -1e-6 < intensity.min() <= intensity.max() < 1.3
    np.testing.assert_array_equal(make_phantom(config).evaluate(points, REST)[0], intensity)


def test_another_seed_folds_another_cortex_in_the_same_skull() -> None:
    points = np.stack(np.meshgrid(np.arange(-90, 90, 1.0), np.arange(-90, 90, 1.0), [30.0])).astype(
        np.float32
    )
    first, second = (Brain("t2", seed).evaluate(points, REST) for seed in (0, 1))
    assert 0.03 < (np.abs(first[0] - second[0]) > 0.1).mean() < 0.35
    np.testing.assert_array_equal(first[1], second[1])


def test_heart_contracts_and_comes_back() -> None:
    phantom = Cardiac()
    rng = np.random.default_rng(3)
    points = (np.array(HEART_CENTER_MM)[:, None] + rng.uniform(-35, 35, (3, 30_000))).astype(np.float32)

    def blood(beat: float) -> float:
        return float(np.mean(phantom.evaluate(points, ObjectState(beat))[0] > 0.8))

    rest, systole = blood(0.0), blood(0.33)
    assert systole < 0.75 * rest
    assert blood(0.999) == pytest.approx(rest, rel=0.02)
    curve = [contraction(t) for t in np.linspace(0, 1, 200)]
    assert max(curve) == pytest.approx(1.0, abs=1e-3)
    assert min(curve) >= 0
    assert np.max(np.abs(np.diff(curve))) < 0.05
    # Far from the heart nothing moves.
    spine = np.array([[0.0], [60.0], [3.0]], np.float32)
    assert phantom.evaluate(spine, ObjectState(0.33))[0] == phantom.evaluate(spine, REST)[0]


def test_shepp_logan_is_the_one_that_others_know() -> None:
    sigpy = pytest.importorskip("sigpy", reason="sigpy draws the reference", exc_type=ImportError)
    n = 64
    expected = np.abs(sigpy.shepp_logan((n, n, n), dtype=np.complex64))
    axis = ((np.arange(n) - n // 2) / (n / 2) * 110.0).astype(np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    # The definition's y axis points to the front, ours (LPS) to the back.
    agreement = {
        signs: np.corrcoef(
            SheppLogan().evaluate(np.stack([signs[0] * x, signs[1] * y, signs[2] * z]), REST)[0].ravel(),
            expected.ravel(),
        )[0, 1]
        for signs in [(1, -1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, -1)]
    }
    assert max(agreement, key=lambda signs: agreement[signs]) == (1, -1, 1)
    assert agreement[1, -1, 1] > 0.985


def test_tissue_decays_with_its_own_time() -> None:
    csf = np.array([[10.0], [0.0], [22.0]], np.float32)
    brain = Brain("t2")
    start = brain.evaluate(csf, REST)[0]
    later = brain.evaluate(csf, ObjectState(decay_ms=40.0))[0]
    assert later / start == pytest.approx(np.exp(-40 / 400), rel=1e-3)
