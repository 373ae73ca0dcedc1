"""Centred unitary Fourier transforms of the last two axes, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["centred_fft", "centred_ifft", "middle"]

_AXES = (-2, -1)

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def centred_fft(image: Complex) -> Complex:
    """From image to k-space, the middle of both at ``n // 2``."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, _AXES), norm="ortho"), _AXES)


def centred_ifft(kspace: Complex) -> Complex:
    """From k-space to image."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, _AXES), norm="ortho"), _AXES)


def middle(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """The middle of the last two axes, pixel ``n // 2`` on pixel ``n // 2``."""
    k1, k0 = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(image.shape[-2:], size, strict=True)
    )
    return image[..., k1, k0]
