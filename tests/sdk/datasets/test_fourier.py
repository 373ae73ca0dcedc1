"""Transforms of readers beside NumPy's own, with and without cutting."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.datasets.fourier import centred_ifft, middle, middle_of_image

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize(("n", "m"), [(64, 32), (64, 31), (65, 32), (65, 13), (7, 7), (6, 6), (5, 1)])
def test_the_middle_of_an_image(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    kspace = (rng.standard_normal((3, 5, n)) + 1j * rng.standard_normal((3, 5, n))).astype(np.complex64)
    found = middle_of_image(kspace, m)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, middle(centred_ifft(kspace, axes=(-1,)), (5, m)), atol=3e-6)
