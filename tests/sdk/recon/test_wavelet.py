"""Wavelet transforms against PyWavelets."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch

from scanside.errors import ShapeError
from scanside.recon.wavelet import Wavelet, WaveletName, levels_for, wavelet_filter
from scanside.testing.adjoint import assert_adjoint

NAMES: list[WaveletName] = ["haar", "db2", "db3", "db4"]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_pywavelets(name: WaveletName) -> None:
    np.testing.assert_allclose(wavelet_filter(name), pywt.Wavelet(name).rec_lo, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "levels"), [((32,), 2), ((48, 32), 2), ((16, 24, 16), 1)])
def test_coefficients_are_pywavelets(name: WaveletName, shape: tuple[int, ...], levels: int) -> None:
    image = random(2, *shape)
    theirs = pywt.wavedecn(image[1].numpy(), name, mode="periodization", level=levels)
    ours = Wavelet(shape, name, [levels] * len(shape)).forward(image)[1]
    np.testing.assert_allclose(ours.numpy(), pywt.coeffs_to_array(theirs)[0], atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_orthonormal(name: WaveletName) -> None:
    wavelet = Wavelet((12, 32, 40), name, [0, 2, 1])
    image = random(3, 12, 32, 40)
    coefficients = wavelet.forward(image)
    torch.testing.assert_close(coefficients.norm(), image.norm())
    torch.testing.assert_close(wavelet.inverse(coefficients), image)
    assert_adjoint(wavelet.forward, wavelet.inverse, (12, 32, 40), (12, 32, 40))


def test_smooth_images_have_few_coefficients() -> None:
    """Polynomials of a degree below the vanishing moments have no details, away from where they turn around."""
    ramp = torch.arange(64, dtype=torch.float64).to(torch.complex128)[None]
    details = Wavelet((64,), "db2", [1]).forward(ramp)[0, 32:]
    assert int((details.abs() > 1e-9).sum()) == 2
    assert int((Wavelet((64,), "haar", [1]).forward(ramp)[0, 32:].abs() > 1e-9).sum()) == 32


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_shifts_are_spread(n: int) -> None:
    shifts = Wavelet((1, 128, 128)).shifts(n)
    assert len(set(shifts)) == n
    assert shifts[0] == (0, 15, 15)
    if n >= 4:
        # Every combination of odd and even distances has its share, so that finest details have no preferred place.
        assert sorted({(y % 2, x % 2) for _, y, x in shifts}) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_odd_sizes_are_continued() -> None:
    wavelet = Wavelet((1, 45, 230))
    assert wavelet.levels == (0, 2, 4)
    assert wavelet.shape == (1, 48, 240)
    image = random(2, 1, 45, 230)
    continued = wavelet.continued(image)
    assert continued.shape == (2, 1, 48, 240)
    assert float(continued.norm()) == pytest.approx(float(image.norm()))
    assert torch.equal(wavelet.cut(continued), image)


def test_levels_leave_enough() -> None:
    assert [levels_for(n, 8) for n in (1, 14, 15, 16, 256)] == [0, 0, 0, 1, 5]


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(
        ShapeError, match=r"db4 does not fit the matrix \(64, 20\): an axis of 20 halved 2 times"
    ):
        Wavelet((64, 20), "db4", [2, 2])
    with pytest.raises(ShapeError, match="name one number, 0 or more, for each axis"):
        Wavelet((64, 64), "db4", [2])
    with pytest.raises(ShapeError, match=r"a wavelet transform of complex tensors \(\*, 64\) got"):
        Wavelet((64,)).forward(random(3, 60))
    with pytest.raises(ShapeError, match="asked for 3 shifts: take 1, 2, 4"):
        Wavelet((64,)).shifts(3)


@pytest.mark.cuda
def test_cuda_gives_the_same() -> None:
    wavelet, image = Wavelet((64, 48)), random(64, 48)
    ours = wavelet.forward(image.cuda())
    torch.testing.assert_close(ours.cpu(), wavelet.forward(image))
    torch.testing.assert_close(wavelet.inverse(ours).cpu(), image)
