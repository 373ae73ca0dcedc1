"""Orthonormal wavelet transforms of images, volumes and films.

Daubechies, *Orthonormal bases of compactly supported wavelets*, Comm Pure Appl Math 41:909-996 (1988); Mallat, *A
theory for multiresolution signal decomposition: the wavelet representation*, IEEE Trans Pattern Anal Mach Intell
11:674-693 (1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, cached_property
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
        return image[(..., *(slice(n) for n in self.size))]

    def forward(self, image: torch.Tensor, shift: Sequence[int] | None = None) -> torch.Tensor:
        """The coefficients ``(*, *shape)`` of a complex image ``(*, *shape)``.

        Args:
            image: what is transformed.
            shift: for each axis, by how many voxels the image is moved around before it is transformed.
        """
        self._check(image)
        still = [0] * len(self.shape)
        moved = still if shift is None else shift
        coefficients = image.clone()
        for part, axes in self._steps:
            here = bands = coefficients[part]
            for axis in axes:
                bands = self._filter.halved(bands, axis - len(self.shape), moved[axis])
            here.copy_(bands)
            moved = still
        return coefficients

    def inverse(self, coefficients: torch.Tensor, shift: Sequence[int] | None = None) -> torch.Tensor:
        """The image of coefficients, inverse and adjoint of `forward`; `shift` is the same as there."""
        self._check(coefficients)
        image = coefficients.clone()
        for level, (part, axes) in reversed([*enumerate(self._steps)]):
            here = joined = image[part]
            for axis in reversed(axes):
                moved = 0 if level or shift is None else shift[axis]
                joined = self._filter.joined(joined, axis - len(self.shape), moved)
            here.copy_(joined)
        return image

    @cached_property
    def _steps(self) -> list[tuple[tuple[slice, ...], list[int]]]:
        """For each level, the coarse image so far, as slices of the last axes, and the axes that are halved."""
        steps = []
        for level in range(max(self.levels)):
            sizes = [n // 2 ** min(level, most) for n, most in zip(self.shape, self.levels, strict=True)]
            axes = [axis for axis, most in enumerate(self.levels) if level < most]
            steps.append(((..., *(slice(n) for n in sizes)), axes))
        return steps

    def shifts(self, n: int) -> list[tuple[int, ...]]:
        """Distances along the axes, spread evenly over what makes a difference.

        With the first of them, coefficients lie where BART's do.

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
    taps the others. Both are gathered once, with the turn around the end and a shift.
    """

    def __init__(self, low: Sequence[float]) -> None:
        high = [(-1) ** j * tap for j, tap in enumerate(reversed(low))]
        self._taps = [(low[phase::2], high[phase::2]) for phase in (0, 1)]
        self._reach = len(low) // 2

    def halved(self, image: torch.Tensor, dim: int, shift: int) -> torch.Tensor:
        """Low frequencies, then high ones."""
        n, reach = image.shape[dim], self._reach
        first = 2 * torch.arange(n // 2 + reach - 1, device=image.device) + (1 - reach - shift)
        low, high = _empty_bands(image, dim)
        for phase, taps in enumerate(self._taps):
            samples = torch.view_as_real(image.index_select(dim, torch.remainder(first + phase, n)))
            for band, weights in zip((low, high), taps, strict=True):
                for k, weight in enumerate(weights):
                    band.add_(samples.narrow(dim - 1, k, n // 2), alpha=weight)
        return torch.cat((torch.view_as_complex(low), torch.view_as_complex(high)), dim)

    def joined(self, bands: torch.Tensor, dim: int, shift: int) -> torch.Tensor:
        """The way back from `halved`."""
        n, reach = bands.shape[dim], self._reach
        before = torch.remainder(torch.arange(1 - reach, n // 2, device=bands.device), n // 2)
        low, high = (torch.view_as_real(bands.index_select(dim, before + start)) for start in (0, n // 2))
        phases = _empty_bands(bands, dim)
        for samples, taps in zip(phases, self._taps, strict=True):
            for band, weights in zip((low, high), taps, strict=True):
                for k, weight in enumerate(weights):
                    samples.add_(band.narrow(dim - 1, reach - 1 - k, n // 2), alpha=weight)
        place = torch.remainder(torch.arange(n, device=bands.device) + (reach - 1 + shift), n)
        both = torch.cat([torch.view_as_complex(samples) for samples in phases], dim)
        return both.index_select(dim, place // 2 + place % 2 * (n // 2))


def _empty_bands(image: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two times zeros, half as long along an axis, as real and imaginary part."""
    shape = list(image.shape)
    shape[dim] //= 2
    low, high = (torch.view_as_real(image.new_zeros(shape)) for _ in range(2))
    return low, high
