"""The disk's k-space is that of a disk."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.testing.disk import disk_kspace


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_image_is_a_disk_with_a_slope(slope: float) -> None:
    """Compared with a disk that is drawn, away from its blurred edge."""
    n, fov, diameter = 64, 200.0, 120.0
    kspace = disk_kspace(n, fov, diameter, slope)
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace), norm="ortho"))[:, n // 2 : 3 * n // 2]
    y, x = ((np.arange(n) - n // 2) * fov / n for _ in range(2))
    distance = np.hypot(y[:, None], x[None])
    drawn = np.where(distance < diameter / 2, 1 + slope * np.broadcast_to(x, (n, n)) / (diameter / 2), 0)
    away = np.abs(distance - diameter / 2) > 10
    np.testing.assert_allclose(image[away], drawn[away], atol=0.01)
