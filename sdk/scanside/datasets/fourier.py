"""Centred unitary Fourier transforms, of the last two axes unless others are named, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["centred_fft", "centred_ifft", "middle"]

_AXES = (-2, -1)

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def centred_fft(image: Complex, axes: tuple[int, ...] = _AXES) -> Complex:
    """From image to k-space, the middle of both at ``n // 2``."""
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)


def centred_ifft(kspace: Complex, axes: tuple[int, ...] = _AXES) -> Complex:
    """From k-space to image."""
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kspace, axes), axes=axes, norm="ortho"), axes)


def middle(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """The middle of the last two axes, pixel ``n // 2`` on pixel ``n // 2``."""
    k1, k0 = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(image.shape[-2:], size, strict=True)
    )
    return image[..., k1, k0]
