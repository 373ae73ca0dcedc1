"""The part of the encoded matrix that a pattern may draw from, and the fully sampled block in its centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scanside.errors import ConfigError
from scanside.sampling.densities import offsets
from scanside.sampling.draws import Mask
from scanside.sampling.temporal import central_lines

__all__ = ["Limits", "Space"]


@dataclass(frozen=True)
class Limits:
    """What a scan leaves out of the encoded matrix whatever its pattern.

    Attributes:
        partial_fourier: share of the lines along (k1, k2) that is acquired, from one end: 0.75 is 6/8; k2 is there
            for planes alone.
        side: which end partial Fourier leaves out, ``early`` (low positions) or ``late``.
        elliptical: of planes, leave out the corners, beyond the ellipse that touches the edges.
    """

    partial_fourier: tuple[float, float] = (1.0, 1.0)
    side: Literal["early", "late"] = "early"
    elliptical: bool = False

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in self.partial_fourier):
            raise ConfigError(
                f"partial Fourier is the share that is acquired, above 0 and at most 1, got {self.partial_fourier}"
            )

    def region(self, shape: tuple[int, ...]) -> Mask:
        """What may be acquired of a matrix ``(k1,)`` or ``(k1, k2)``.

        Raises:
            ConfigError: lines along one axis are to have an ellipse, or partial Fourier along two.
        """
        if len(shape) == 1 and (self.elliptical or self.partial_fourier[1] != 1):
            raise ConfigError(
                "an ellipse and partial Fourier along k2 need two phase encodings, and this pattern has one: leave "
                "them out, or take a pattern of planes"
            )
        region = np.ones(shape, bool)
        for axis, (n, share) in enumerate(zip(shape, self.partial_fourier, strict=False)):
            left_out = n - round(n * share)
            kept = np.arange(n) >= left_out if self.side == "early" else np.arange(n) < n - left_out
            region &= np.expand_dims(kept, tuple(other for other in range(len(shape)) if other != axis))
        if self.elliptical:
            k1, k2 = offsets(shape)
            n1, n2 = shape
            region &= (2 * k1 * n2) ** 2 + (2 * k2 * n1) ** 2 <= (n1 * n2) ** 2
        return region


@dataclass(frozen=True, eq=False)
class Space:
    """Where a pattern may draw, ``(k1,)`` for lines or ``(k1, k2)`` for points of a plane.

    Attributes:
        region: what may be acquired; the centre of k-space is at ``n // 2`` of the whole matrix.
        block: the fully sampled centre (ACS), within the region.
    """

    region: Mask
    block: Mask

    @classmethod
    def of(cls, region: Mask, acs: tuple[int, ...]) -> Space:
        """Space of a region with a block of `acs` lines along each axis, from ``n // 2 - acs // 2`` on; 0 for none.

        Raises:
            ConfigError: the matrix has no two lines along an axis, or the block reaches beyond matrix or region.
        """
        shape = region.shape
        if min(shape) < 2:
            raise ConfigError(
                f"a matrix of {_sizes(shape)} is too small to be undersampled: 2 lines are the least"
            )
        if len(acs) != len(shape) or min(acs) < 0:
            raise ConfigError(
                f"acs is one number of lines for each of {len(shape)} axes, 0 or more, got {acs}: correct it"
            )
        if any(count > n for count, n in zip(acs, shape, strict=True)):
            raise ConfigError(
                f"a fully sampled centre of {_sizes(acs)} does not fit into a matrix of {_sizes(shape)}: lower acs, "
                "or enlarge the matrix"
            )
        block = np.ones(shape, bool)
        for axis, (count, n) in enumerate(zip(acs, shape, strict=True)):
            others = tuple(other for other in range(len(shape)) if other != axis)
            block &= np.expand_dims(central_lines(n, count), others)
        cut = int((block & ~region).sum())
        if cut:
            raise ConfigError(
                f"partial Fourier or ellipse cut {cut} of {int(block.sum())} off the fully sampled centre of "
                f"{_sizes(acs)} in a matrix of {_sizes(shape)}: acquire a larger share of the matrix, or lower acs"
            )
        return cls(region, block)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        return self.region.shape

    @property
    def n_places(self) -> int:
        """Lines or points that may be acquired."""
        return int(self.region.sum())

    @property
    def n_block(self) -> int:
        """Lines or points of the fully sampled centre."""
        return int(self.block.sum())

    def wanted(self, acceleration: float) -> int:
        """How many places an acceleration leaves.

        Raises:
            ConfigError: none.
        """
        wanted = round(self.n_places / acceleration)
        if wanted < 1:
            raise ConfigError(
                f"an acceleration of {acceleration:g} leaves nothing of {self.n_places} {self._noun}: lower it, or "
                "enlarge the matrix"
            )
        return wanted

    def missing(self, acceleration: float) -> int:
        """How many places an acceleration leaves beside the fully sampled centre.

        Raises:
            ConfigError: fewer than none.
        """
        wanted = self.wanted(acceleration)
        if wanted < self.n_block:
            most = np.floor(100 * self.n_places / self.n_block) / 100
            raise ConfigError(
                f"an acceleration of {acceleration:g} leaves {wanted} of {self.n_places} {self._noun}, but the fully "
                f"sampled centre has {self.n_block}: lower acs, or the acceleration to {most:g} or less"
            )
        return wanted - self.n_block

    @property
    def _noun(self) -> str:
        return "lines" if len(self.shape) == 1 else "points"


def _sizes(numbers: tuple[int, ...]) -> str:
    return " × ".join(map(str, numbers))
