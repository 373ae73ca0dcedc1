"""The measures agree with scikit-image, and with the project's definition of them where that is at hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from scanside.errors import NonFiniteError, ShapeError
from scanside.metrics import fill_holes, fitted, nrmse, object_mask, psnr, ssim, ssim_map

Image = npt.NDArray[np.complex128]


@pytest.fixture
def pair() -> tuple[Image, Image]:
    """A smooth object with a hole, a thin bridge and specks, and a noisy image of it on another scale."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-1:1:61j, -1:1:75j]
    r = np.hypot(y, x)
    truth = np.where((r < 0.7) & (r > 0.15), 1 + 0.4 * np.cos(7 * x) * np.sin(5 * y), 0.01)
    truth[30, 60:75] = 0.8
    truth[5:7, 5:7] = 0.9
    noise = rng.normal(size=(2, *truth.shape)) * 0.05
    phase = np.exp(1j * (2 * x + y))
    return 3.7 * (truth * phase + noise[0] + 1j * noise[1]), truth * phase


def test_as_scikit_image_has_it(pair: tuple[Image, Image]) -> None:
    image, truth = pair
    scaled, reference = fitted(image, truth)
    peak = reference.max()
    mean, whole = structural_similarity(scaled, reference, data_range=peak, full=True)
    assert ssim(image, truth) == pytest.approx(mean, abs=1e-9)
    np.testing.assert_allclose(ssim_map(image, truth), whole[3:-3, 3:-3], atol=1e-9)
    expected = peak_signal_noise_ratio(reference, scaled, data_range=peak)
    assert psnr(image, truth) == pytest.approx(expected, abs=1e-9)


def shared_metrics(folder: Path) -> ModuleType:
    path = folder / "metrics.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    spec = importlib.util.spec_from_file_location("shared_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_as_the_shared_measures_have_it(shared_data: Path, pair: tuple[Image, Image]) -> None:
    theirs = shared_metrics(shared_data)
    image, truth = pair
    assert (psnr(image, truth), ssim(image, truth)) == pytest.approx(theirs.whole(image, truth), abs=1e-9)
    mask = object_mask(truth)
    np.testing.assert_array_equal(mask, theirs.object_mask(truth))
    assert psnr(image, truth, mask) == pytest.approx(theirs.inside(image, truth), abs=1e-9)


def test_mask_has_no_specks_bridges_or_holes(pair: tuple[Image, Image]) -> None:
    mask = object_mask(pair[1])
    assert mask[30, 37], "the hole in the middle is filled"
    assert not mask[30, 70], "the bridge is gone"
    assert not mask[5:7, 5:7].any(), "the speck is gone"


def test_scale_does_not_matter_and_errors_do(pair: tuple[Image, Image]) -> None:
    image, truth = pair
    assert nrmse(5 * image, truth) == pytest.approx(nrmse(image, truth))
    assert nrmse(truth * 2, truth) == pytest.approx(0, abs=1e-12)
    assert psnr(truth, truth) > 200
    assert ssim(truth, truth) == pytest.approx(1)
    assert nrmse(np.roll(truth, 1, axis=1), truth) > 0.1
    assert ssim(np.roll(truth, 1, axis=1), truth) < 0.95


def test_nrmse_is_what_is_left_beside_the_reference() -> None:
    # The part of (1, 1) along (1, 0) is fitted away; what is left has the length sin 45° of the reference.
    assert nrmse(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(np.sqrt(0.5))


def test_only_the_mask_counts(pair: tuple[Image, Image]) -> None:
    image, truth = pair
    mask = object_mask(truth)
    spoiled = np.where(mask, truth, 100 * image)
    assert nrmse(spoiled, truth, mask) == pytest.approx(0, abs=1e-12)
    assert nrmse(spoiled, truth) > 0.5


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ShapeError, match=r"\(3, 3\).*\(4, 4\)"):
        nrmse(np.ones((3, 3)), np.ones((4, 4)))
    with pytest.raises(NonFiniteError):
        psnr(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(ShapeError, match="7 × 7"):
        ssim(np.ones((6, 9)), np.ones((6, 9)))
    assert nrmse(np.zeros(3), np.ones(3)) == 1


def test_holes_are_filled_as_scipy_fills_them() -> None:
    from scipy.ndimage import binary_fill_holes, gaussian_filter

    rng = np.random.default_rng(0)
    for _ in range(60):
        shape, blur = rng.integers(1, 50, 2), rng.uniform(0, 2)
        mask = gaussian_filter(rng.standard_normal(shape), blur) > 0.02
        np.testing.assert_array_equal(fill_holes(mask), binary_fill_holes(mask))
