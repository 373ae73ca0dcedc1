"""Windows over the sampled part of k-space, against ringing and noise.

All windows are symmetric about the centre of k-space, also where sampling is not: an even, real
window blurs without shifting the image or bending its phase. They reach their edge at the outermost
sample of the longer side; a shorter side is cut where sampling ends. They are 1 at the centre, so
that the mean signal keeps its value, and 0 outside the sampled range.

F. J. Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform",
Proc. IEEE 66:51 (1978).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scanside.errors import ConfigError, ShapeError

__all__ = ["apply_window", "gaussian", "hann", "to_unit_noise", "tukey"]


def gaussian(n: int, first: int, last: int, *, sigma: float = 1.0) -> Tensor:
    """The Gaussian ``exp(−(sigma·x)²/2)`` with ``x`` from −1 to 1 over the sampled range.

    A larger ``sigma`` blurs more; at 1 the outermost sample keeps 61 % of its value. This is the
    meaning of sigma in Gadgetron's k-space filters.

    Args:
        n: length of the axis; its centre is ``n // 2``.
        first: index of the first sample.
        last: index of the last sample.
        sigma: strength, at least 0 (which leaves the data as they are).

    Returns:
        ``(n,)`` float64 on the CPU.

    Raises:
        ConfigError: if sigma is negative or not finite.
        ShapeError: if the range does not lie on the axis or misses its centre.
    """
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ConfigError(f"a Gaussian filter's sigma must be a number of at least 0, got {sigma}")
    distance, reach = _distance(n, first, last)
    x = distance / max(reach, 1)
    return _cut(torch.exp(-0.5 * (sigma * x) ** 2), first, last)


def hann(n: int, first: int, last: int) -> Tensor:
    """The Hann window, ``(1 + cos πx)/2``, whose zeros lie just outside the sampled range.

    Args:
        n: length of the axis; its centre is ``n // 2``.
        first: index of the first sample.
        last: index of the last sample.

    Returns:
        ``(n,)`` float64 on the CPU.

    Raises:
        ShapeError: if the range does not lie on the axis or misses its centre.
    """
    return tukey(n, first, last, taper=1.0)


def tukey(n: int, first: int, last: int, *, taper: float = 0.5) -> Tensor:
    """The Tukey window: flat in the middle, with a Hann-shaped slope on the outer part.

    Args:
        n: length of the axis; its centre is ``n // 2``.
        first: index of the first sample.
        last: index of the last sample.
        taper: part of the half width that slopes; 0 is a box, 1 the Hann window.

    Returns:
        ``(n,)`` float64 on the CPU.

    Raises:
        ConfigError: if the taper is not between 0 and 1.
        ShapeError: if the range does not lie on the axis or misses its centre.
    """
    if not 0 <= taper <= 1:
        raise ConfigError(f"a Tukey filter's taper must lie between 0 and 1, got {taper}")
    distance, reach = _distance(n, first, last)
    if taper == 0:
        return _cut(torch.ones(n, dtype=torch.float64), first, last)
    # The zero of the slope lies one sample outside, so that no acquired line is thrown away.
    x = distance.abs() / (reach + 1)
    slope = ((x - (1 - taper)) / taper).clamp(0, 1)
    return _cut(0.5 * (1 + torch.cos(math.pi * slope)), first, last)


def to_unit_noise(window: Tensor) -> Tensor:
    """The window scaled so that white noise keeps its standard deviation, for images in units of SNR.

    The mean square over the sampled range becomes 1, and the value at the centre larger than 1.

    Args:
        window: ``(n,)``, zero outside the sampled range.

    Returns:
        ``(n,)`` of the same type.

    Raises:
        ShapeError: if the window is zero throughout.
    """
    support = window != 0
    if not support.any():
        raise ShapeError("the window is zero throughout: it has no noise to keep")
    return window / window[support].square().mean().sqrt()


def apply_window(kspace: Tensor, window: Tensor, dim: int) -> Tensor:
    """Multiply k-space with a window along one axis.

    Args:
        kspace: complex tensor of any shape.
        window: ``(n,)`` real.
        dim: the axis, of length ``n``.

    Returns:
        A new tensor of the same shape and type as ``kspace``, on its device.

    Raises:
        ShapeError: if the axis does not have the window's length.
    """
    if not -kspace.ndim <= dim < kspace.ndim or window.shape != (kspace.shape[dim],):
        raise ShapeError(
            f"a window of shape {tuple(window.shape)} does not fit axis {dim} "
            f"of k-space of shape {tuple(kspace.shape)}"
        )
    shape = [1] * kspace.ndim
    shape[dim] = -1
    return kspace * window.to(kspace.device, kspace.real.dtype).reshape(shape)


def _distance(n: int, first: int, last: int) -> tuple[Tensor, int]:
    """Signed distance of every sample from the centre, and that of the outermost acquired one."""
    center = n // 2
    if not 0 <= first <= center <= last < n:
        raise ShapeError(
            f"the sampled range {first}..{last} must lie within 0..{n - 1} "
            f"and hold the centre of k-space, {center}"
        )
    return torch.arange(n, dtype=torch.float64) - center, max(center - first, last - center)


def _cut(window: Tensor, first: int, last: int) -> Tensor:
    window[:first] = 0
    window[last + 1 :] = 0
    return window
