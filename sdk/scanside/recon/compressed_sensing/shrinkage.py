"""Sparsity in wavelets, as iterations use it."""

from __future__ import annotations

import torch

from scanside.recon.soft_threshold import soft_threshold_
from scanside.recon.wavelet import Wavelet

__all__ = ["WaveletShrinkage"]

_SMALL = 2**20  # voxels


class WaveletShrinkage:
    """The proximal map of the L1 norm of wavelet coefficients, or the mean of such maps for several shifts.

    Args:
        weight: of the norm.
        wavelet: of the last axes.
        shifts: how many.
        joint: an axis, counted from the end, along which coefficients have one magnitude together, such as coils.
    """

    def __init__(self, weight: float, wavelet: Wavelet, shifts: int = 1, joint: int | None = None) -> None:
        self._weight, self._wavelet, self._joint = weight, wavelet, joint
        self._shifts = wavelet.shifts(shifts)
        self._axes = tuple(range(-len(wavelet.shape), 0))

    def __call__(self, image: torch.Tensor, step: float) -> torch.Tensor:
        """The map for `step` times the norm, of an image ``(*, *wavelet.shape)``."""
        # Small images are shifted all at once: each call of torch takes its time.
        together = len(self._shifts) if image.numel() < _SMALL else 1
        mean = torch.zeros_like(image)
        for first in range(0, len(self._shifts), together):
            shifts = self._shifts[first : first + together]
            moved = torch.stack([image.roll(shift, self._axes) for shift in shifts])
            coefficients = soft_threshold_(self._wavelet.forward(moved), step * self._weight, self._joint)
            for shrunk, shift in zip(self._wavelet.inverse(coefficients), shifts, strict=True):
                mean += shrunk.roll([-distance for distance in shift], self._axes)
        return mean.div_(len(self._shifts))
