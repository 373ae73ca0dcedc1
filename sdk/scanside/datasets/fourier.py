"""Centred unitary Fourier transforms, of the last two axes unless others are named, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["centred_fft", "centred_ifft", "middle", "middle_of_image"]

_AXES = (-2, -1)

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def centred_fft(image: Complex, axes: tuple[int, ...] = _AXES) -> Complex:
    """From image to k-space, the middle of both at ``n // 2``."""
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)


def centred_ifft(kspace: Complex, axes: tuple[int, ...] = _AXES) -> Complex:
    """From k-space to image."""
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kspace, axes), axes=axes, norm="ortho"), axes)


def middle_of_image(kspace: Complex, n: int) -> Complex:
    """The middle of the image along the last axis, of so many pixels, in the precision of k-space.

    It is what ``middle`` leaves of `centred_ifft`; in memory lines lie side by side. The halves of both are swapped
    after the rest is cut off, and coils are taken one by one: so much fits into a processor's cache.
    """
    *others, n1, size = kspace.shape
    pixel = np.arange(n) - n // 2
    # k-space whose centre stays at n // 2 turns the phase from pixel to pixel.
    turns = np.exp(-2j * np.pi * ((size // 2) * pixel % size / size)).astype(kspace.dtype)[:, None]
    found = np.empty((*others, n, n1), kspace.dtype)
    for coil in np.ndindex(*others):
        # NumPy before version 2 transforms in double precision.
        image = np.fft.ifft(kspace[coil].T, axis=0, norm="ortho").astype(kspace.dtype, copy=False)
        np.multiply(image[size - n // 2 :], turns[: n // 2], out=found[coil][: n // 2])
        np.multiply(image[: n - n // 2], turns[n // 2 :], out=found[coil][n // 2 :])
    return found.swapaxes(-1, -2)


def middle(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """The middle of the last two axes, pixel ``n // 2`` on pixel ``n // 2``."""
    k1, k0 = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(image.shape[-2:], size, strict=True)
    )
    return image[..., k1, k0]
