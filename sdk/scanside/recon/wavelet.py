"""Orthonormal wavelet transforms of images, volumes and films.

Daubechies, *Orthonormal bases of compactly supported wavelets*, Comm Pure Appl Math 41:909-996 (1988); Mallat, *A
theory for multiresolution signal decomposition: the wavelet representation*, IEEE Trans Pattern Anal Mach Intell
11:674-693 (1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, cached_property
from types import EllipsisType
from typing import Literal, TypeAlias

import numpy as np
import torch

from scanside.errors import ShapeError

__all__ = ["Wavelet", "WaveletName", "wavelet_filter"]

WaveletName: TypeAlias = Literal["haar", "db2", "db3", "db4"]
"""Daubechies' wavelets by their vanishing moments, 1 to 4; their filters have twice as many taps. BART's ``dau2`` is
``db2``."""

_MOMENTS: dict[WaveletName, int] = {"haar": 1, "db2": 2, "db3": 3, "db4": 4}
_COARSEST = 8  # voxels are left along an axis at least; BART goes about as far


class Wavelet:
    """A periodic orthonormal transform of the last axes of complex tensors.

    Every level halves the axes that have levels left. Coefficients lie as Mallat drew them: the coarse image first
    along every axis, details behind it. They are those of PyWavelets' ``wavedecn`` with mode ``periodization``.

    Halving has to come out even. An image of another size is continued at the end of its axes to `shape`, the next
    size that fits: see `continued`. BART does otherwise: it mirrors images at their edges, has more coefficients than
    voxels, and its transform is orthonormal but for the edges.

    Args:
        size: of the image along the last axes.
        name: which wavelet.
        levels: for each of these axes, how often it is halved; by default as long as 8 samples are left.

    Raises:
        ShapeError: an axis is too short for its levels: less than the taps of the filter would be left.

    Attributes:
        size: of the image.
        shape: of what is transformed.
        levels: for each axis.
    """

    def __init__(
        self, size: Sequence[int], name: WaveletName = "db4", levels: Sequence[int] | None = None
    ) -> None:
        low = wavelet_filter(name)
        taps = len(low)
        self._filter = _Filter(low)
        self.size = tuple(size)
        self.levels = tuple(levels_for(n, _COARSEST) for n in size) if levels is None else tuple(levels)
        if len(self.levels) != len(self.size) or min(self.levels) < 0:
            raise ShapeError(
                f"a wavelet transform of {self.size} got the levels {self.levels}: name one number, 0 or more, for "
                "each axis"
            )
        for n, level in zip(self.size, self.levels, strict=True):
            if level and -(-n // 2**level) < taps:
                raise ShapeError(
                    f"the wavelet {name} does not fit the matrix {self.size}: an axis of {n} halved {level} times "
                    f"leaves {-(-n // 2**level)} samples, and its filter has {taps} taps; at most "
                    f"{levels_for(n, taps)} levels fit, or a shorter wavelet"
                )
        self.shape = tuple(-(-n // 2**level) * 2**level for n, level in zip(size, self.levels, strict=True))

    def continued(self, image: torch.Tensor) -> torch.Tensor:
        """An image ``(*, *size)`` with zeros behind the end of its axes: ``(*, *shape)``."""
        if self.shape == self.size:
            return image
        behind = [(0, m - n) for n, m in zip(self.size, self.shape, strict=True)]
        return torch.nn.functional.pad(image, [end for pair in reversed(behind) for end in pair])

    def cut(self, image: torch.Tensor) -> torch.Tensor:
        """The way back from `continued`, and its adjoint."""
        return image[_first(self.size)]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The coefficients ``(*, *shape)`` of a complex image ``(*, *shape)``."""
        self._check(image)
        coefficients = image.clone()
        for part, axes in self._steps:
            here = bands = coefficients[part]
            for axis in axes:
                bands = self._filter.halved(bands, axis - len(self.shape))
            here.copy_(bands)
        return coefficients

    def inverse(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The image of coefficients: inverse and adjoint of `forward`."""
        self._check(coefficients)
        image = coefficients.clone()
        for part, axes in reversed(self._steps):
            here = joined = image[part]
            for axis in reversed(axes):
                joined = self._filter.joined(joined, axis - len(self.shape))
            here.copy_(joined)
        return image

    @cached_property
    def _steps(self) -> list[tuple[tuple[EllipsisType | slice, ...], list[int]]]:
        """For each level, the coarse image so far, as slices of the last axes, and the axes that are halved."""
        steps = []
        for level in range(max(self.levels)):
            sizes = [n // 2 ** min(level, most) for n, most in zip(self.shape, self.levels, strict=True)]
            axes = [axis for axis, most in enumerate(self.levels) if level < most]
            steps.append((_first(sizes), axes))
        return steps

    def shifts(self, n: int) -> list[tuple[int, ...]]:
        """Distances by which images are moved around before they are transformed.

        They are spread evenly over all that make a difference. After the first of them, coefficients lie where BART's
        do.

        Args:
            n: how many, a power of 2.

        Raises:
            ShapeError: it is none.
        """
        bits = n.bit_length() - 1
        if n < 1 or n != 1 << bits:
            raise ShapeError(
                f"a wavelet transform was asked for {n} shifts: take 1, 2, 4 or another power of 2"
            )
        found = []
        for i in range(n):
            # Bits change places from axis to axis, so that shifts are not all along the diagonal.
            turned = (i >> 1 | (i & 1) << bits >> 1) if n > 1 else 0
            steps = (turned if axis % 2 else i for axis in range(len(self.levels)))
            found.append(
                tuple(
                    2**level - 1 - round(step * (2**level - 1) / max(n - 1, 1))
                    for step, level in zip(steps, self.levels, strict=True)
                )
            )
        return found

    def _check(self, image: torch.Tensor) -> None:
        if not image.is_complex() or tuple(image.shape[image.ndim - len(self.shape) :]) != self.shape:
            raise ShapeError(
                f"a wavelet transform of complex tensors (*, {', '.join(map(str, self.shape))}) got "
                f"{image.dtype} of shape {tuple(image.shape)}"
            )


def levels_for(n: int, coarsest: int) -> int:
    """How often an axis of n samples can be halved until fewer than so many would be left."""
    levels = 0
    while n // 2 ** (levels + 1) >= coarsest:
        levels += 1
    return levels


@cache
def wavelet_filter(name: WaveletName) -> tuple[float, ...]:
    """The taps of the low-pass filter, as PyWavelets' ``rec_lo``; their sum is √2, and that of their squares 1.

    Of all filters with the wanted zeros at the highest frequency and an orthonormal transform, Daubechies' has the
    others inside the unit circle: as shown there, they are those of a polynomial in (2 − z − 1 / z) / 4.
    """
    moments = _MOMENTS[name]
    binomial = [math.comb(moments - 1 + k, k) for k in range(moments)]
    taps = np.ones(1)
    for root in np.roots(binomial[::-1]):
        # y = (2 − z − 1 / z) / 4 is a quadratic equation in z, whose solutions are each other's reciprocals.
        inside = min(np.roots([1, 4 * root - 2, 1]), key=abs)
        taps = np.convolve(taps, [1, -inside])
    for _ in range(moments):
        taps = np.convolve(taps, [1, 1])
    return tuple(float(tap) for tap in taps.real * (math.sqrt(2) / taps.real.sum()))


class _Filter:
    """One level along one axis.

    Coefficient m reads the samples 2 m + j + 1 − taps / 2, modulo n, with tap j: even taps those of one parity, odd
    taps the others.
    """

    def __init__(self, low: Sequence[float]) -> None:
        high = [(-1) ** j * tap for j, tap in enumerate(reversed(low))]
        self._taps = [(low[phase::2], high[phase::2]) for phase in (0, 1)]
        self._reach = len(low) // 2

    def halved(self, image: torch.Tensor, dim: int) -> torch.Tensor:
        """Low frequencies, then high ones."""
        # Slices and copies, as to gather by indices along the last axis takes several times as long.
        n, around = image.shape[dim], self._reach - 1
        ends = image.narrow(dim, n - around, around), image.narrow(dim, 0, around)
        turned = torch.cat((ends[0], image, ends[1]), dim)
        phases = [turned[_every_other(dim, phase)].contiguous() for phase in (0, 1)]
        bands = torch.empty_like(image, memory_format=torch.contiguous_format)
        for i, band in enumerate(_halves(bands, dim)):
            _sum_into(band, phases, [taps[i] for taps in self._taps], range(self._reach), dim)
        return bands

    def joined(self, bands: torch.Tensor, dim: int) -> torch.Tensor:
        """The way back from `halved`."""
        half, around = bands.shape[dim] // 2, self._reach - 1
        halves = []
        for start in (0, half):
            end = bands.narrow(dim, start + half - around, around)
            halves.append(torch.cat((end, bands.narrow(dim, start, half)), dim))
        phases = torch.empty_like(bands, memory_format=torch.contiguous_format)
        for samples, taps in zip(_halves(phases, dim), self._taps, strict=True):
            _sum_into(samples, halves, taps, range(around, -1, -1), dim)
        pairs = torch.stack(phases.chunk(2, dim), dim)
        return pairs.flatten(dim - 1, dim).roll(-around, dim)


def _first(sizes: Sequence[int]) -> tuple[EllipsisType | slice, ...]:
    """So many samples from the start of the last axes."""
    return (..., *(slice(n) for n in sizes))


def _every_other(dim: int, first: int) -> tuple[EllipsisType | slice, ...]:
    """Every other sample along an axis, counted from the end."""
    return (..., slice(first, None, 2), *[slice(None)] * (-1 - dim))


def _halves(image: torch.Tensor, dim: int) -> list[torch.Tensor]:
    """Both halves along an axis, as real and imaginary part."""
    half = image.shape[dim] // 2
    return [torch.view_as_real(image.narrow(dim, start, half)) for start in (0, half)]


def _sum_into(
    result: torch.Tensor,
    sources: Sequence[torch.Tensor],
    taps: Sequence[Sequence[float]],
    places: Sequence[int],
    dim: int,
) -> None:
    """Each source, from each place on, times its tap."""
    n = result.shape[dim - 1]
    first = True
    for source, weights in zip(sources, taps, strict=True):
        values = torch.view_as_real(source)
        for place, weight in zip(places, weights, strict=True):
            part = values.narrow(dim - 1, place, n)
            if first:
                torch.mul(part, weight, out=result)
                first = False
            else:
                result.add_(part, alpha=weight)
