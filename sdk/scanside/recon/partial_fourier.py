"""Partial Fourier: completing k-space that was sampled on one side only.

An image whose phase varies slowly has nearly conjugate symmetric k-space, so that one half of it tells
the other half once the phase is known. The phase comes from the middle of k-space, which both sides share.

- Zero filling needs nothing from here: what was not sampled is zero on the grid already. It keeps the
  measured data as they are and loses resolution.
- `homodyne` (Noll, Nishimura, Macovski, "Homodyne detection in magnetic resonance imaging", IEEE TMI
  10:154 (1991)) needs one transform and serves one partial axis.
- `pocs` (Haacke, Lindskog, Lin, "A fast, iterative, partial-Fourier technique capable of local phase
  recovery", JMR 92:126 (1991)) keeps the measured samples, is more exact where the phase varies, and
  serves several partial axes at once: an asymmetric echo together with partial phase encoding. Homodyne
  along one axis after the other does not, as after the first the image no longer has a slow phase.

Bands are given as first and last sampled index along an axis whose centre is ``N // 2``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from scanside.errors import ConfigError, ShapeError
from scanside.recon.filters import apply_window, hann
from scanside.recon.fourier import to_image, to_kspace

__all__ = ["Band", "BandKind", "classify", "homodyne", "pocs", "sampled_band"]

#: First and last sampled index along an axis.
Band = tuple[int, int]
BandKind = Literal["full", "reduced-resolution", "partial"]

#: Over-relaxation of the phase constraint. With 1 the missing half grows by halves; any value below 2
#: converges, and 1.8 leaves a tenth of the error per iteration.
_RELAXATION = 1.8


def sampled_band(mask: Tensor, dim: int = -1) -> Band:
    """First and last index along an axis at which anything was sampled.

    Args:
        mask: boolean tensor of any shape, true where there are data.
        dim: the axis.

    Returns:
        ``(first, last)``; between them lines may be missing, as with parallel imaging.

    Raises:
        ShapeError: if nothing was sampled.
    """
    sampled = torch.nonzero(mask.movedim(dim, 0).flatten(1).any(1) if mask.ndim > 1 else mask)
    if not len(sampled):
        raise ShapeError(f"no sample along axis {dim} of a mask of shape {tuple(mask.shape)}")
    return int(sampled[0]), int(sampled[-1])


def classify(first: int, last: int, center: int, n: int, *, tolerance: int | None = None) -> BandKind:
    """Tell partial Fourier from reduced resolution by where the sampled band lies.

    A band of equal reach on both sides of the centre is symmetric: nothing can be completed, however far
    it stays from the edge. The sides of a symmetric scan still differ by a few lines, since an even grid has
    one more line on the left and accelerated sampling leaves out up to R − 1 lines at an end.

    Args:
        first: first sampled index.
        last: last sampled index.
        center: index of the centre of k-space.
        n: length of the axis.
        tolerance: the largest difference of the two sides' reach, and the largest distance from an end
            that still counts as reaching it, in samples. By default a sixteenth of the axis (rounded up),
            which is half of what partial Fourier 7/8 leaves out.

    Returns:
        ``"partial"`` where one side reaches further than the other, else ``"full"`` where the band spans
        the axis, else ``"reduced-resolution"``.

    Raises:
        ShapeError: if the band does not lie on the axis or misses the centre.
    """
    if not 0 <= first <= center <= last < n:
        raise ShapeError(
            f"the sampled band {first}..{last} must lie within 0..{n - 1} and hold the centre of k-space, {center}"
        )
    allowed = math.ceil(n / 16) if tolerance is None else tolerance
    if abs((center - first) - (last - center)) > allowed:
        return "partial"
    return "full" if first <= allowed and last >= n - 1 - allowed else "reduced-resolution"


def homodyne(kspace: Tensor, dim: int, band: Band, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """Image from k-space that is partial along one axis, by homodyne detection.

    k-space is weighted along the axis by a ramp that rises from 0 to 2 over the part that has both sides;
    the two sides' weights add up to 2 everywhere, so that the real part of the image, in the frame of its
    own slow phase, has full resolution. The image gets its phase back: the result is that real part times
    ``exp(iφ)``, so coil images keep the phase that combination and coil maps need. For an image of zero phase it
    is exact.

    Args:
        kspace: complex tensor, zero where nothing was sampled, for instance ``(*other, coil, k2, k1, k0)``.
        dim: the partial axis; one of ``dims``, written as there.
        band: first and last sampled index along it.
        dims: all axes to transform to the image.

    Returns:
        Complex image of the same shape and type.

    Raises:
        ShapeError: if the axis is not one of ``dims``, or the band is symmetric or lacks a line on either
            side of the centre.
    """
    shared, reach, side = _sides(kspace, dim, band, dims)
    partly = to_image(kspace, [d for d in dims if d != dim])
    phase = _slow_phase(partly, {dim: shared})

    n = kspace.shape[dim]
    distance = side * (torch.arange(n, dtype=torch.float64) - n // 2)
    ramp = (1 + distance / (shared + 1)).clamp(0, 2) * (distance.abs() <= reach)
    if n % 2 == 0:
        # The highest frequency of an even axis is its own mirror image.
        ramp[0] = ramp[0].clamp(max=1)
    image = to_image(apply_window(partly, ramp, dim), [dim])
    return (image * phase.conj()).real * phase


def pocs(
    kspace: Tensor, bands: Mapping[int, Band], dims: Sequence[int] = (-2, -1), *, n_iterations: int = 5
) -> Tensor:
    """Image from k-space that is partial along one or several axes, by projections onto convex sets.

    In turn the image is made real in the frame of its slow phase, and its k-space gets the measured samples
    back. What neither side has sampled, which is a corner and its mirror image with two partial axes, stays close to
    zero.

    Args:
        kspace: complex tensor, zero where nothing was sampled, for instance ``(*other, coil, k2, k1, k0)``.
        bands: for every partial axis (one of ``dims``, written as there) first and last sampled index. All
            that lies within is kept as measured.
        dims: all axes to transform to the image.
        n_iterations: how often to go through; the error that is left shrinks tenfold with each until the
            accuracy of the phase estimate is reached, which takes about five.

    Returns:
        Complex image of the same shape and type, whose k-space holds the measured samples.

    Raises:
        ConfigError: if there is no iteration.
        ShapeError: if there is no band, an axis is not one of ``dims``, or a band is symmetric or lacks a
            line on either side of the centre.
    """
    if n_iterations < 1:
        raise ConfigError(f"POCS needs at least one iteration, got {n_iterations}")
    if not bands:
        raise ShapeError("no partial axis to complete: give the sampled band of at least one")
    shared = {dim: _sides(kspace, dim, band, dims)[0] for dim, band in bands.items()}
    partial = list(bands)
    # Along fully sampled axes nothing is to be completed, so they are transformed once.
    measured = to_image(kspace, [dim for dim in dims if dim not in bands])
    phase = _slow_phase(measured, shared)

    missing = torch.zeros([1] * kspace.ndim, dtype=torch.bool, device=kspace.device)
    for dim, (first, last) in bands.items():
        index = torch.arange(kspace.shape[dim], device=kspace.device)
        outside = (index < first) | (index > last)
        missing = missing | outside.reshape([-1 if i == dim % kspace.ndim else 1 for i in range(kspace.ndim)])

    image = to_image(measured, partial)
    for _ in range(n_iterations):
        constrained = (image * phase.conj()).real * phase
        relaxed = image + _RELAXATION * (constrained - image)
        image = to_image(torch.where(missing, to_kspace(relaxed, partial), measured), partial)
    return image


def _sides(kspace: Tensor, dim: int, band: Band, dims: Sequence[int]) -> tuple[int, int, int]:
    """How far both sides reach from the centre, how far the longer one does, and its direction (±1)."""
    if dim not in dims:
        raise ShapeError(f"the partial axis {dim} must be one of those to transform, {tuple(dims)}")
    first, last = band
    n = kspace.shape[dim]
    center = n // 2
    left, right = center - first, last - center
    if not (first >= 0 and last < n and min(left, right) >= 1):
        raise ShapeError(
            f"the sampled band {first}..{last} of axis {dim} must lie within 0..{n - 1} and hold the centre, "
            f"{center}, with at least one line on either side, or the phase cannot be estimated"
        )
    if abs(left - right) <= 1:
        raise ShapeError(
            f"the sampled band {first}..{last} of axis {dim} is symmetric about the centre, {center}: "
            "there is nothing to complete, reconstruct it by zero filling"
        )
    return min(left, right), max(left, right), 1 if right > left else -1


def _slow_phase(kspace: Tensor, shared: Mapping[int, int]) -> Tensor:
    """``exp(iφ)`` of the image of the middle of k-space, ``±shared`` lines under a Hann window."""
    middle = kspace
    for dim, reach in shared.items():
        n = kspace.shape[dim]
        middle = apply_window(middle, hann(n, n // 2 - reach, n // 2 + reach), dim)
    image = to_image(middle, list(shared))
    magnitude = image.abs()
    return torch.where(magnitude > 0, image / magnitude, 1)
