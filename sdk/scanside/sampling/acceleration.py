"""How much faster a mask is, told in every way that papers tell it, and how its aliasing looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.sampling.draws import Mask
from scanside.sampling.space import Space

__all__ = ["Acceleration", "acceleration_of", "point_spread", "sidelobe"]


@dataclass(frozen=True)
class Acceleration:
    """Places of a mask, lines or points; of a series all frames together.

    Attributes:
        n_matrix: of the encoded matrix.
        n_region: of these, those that may be acquired: padding does not count, nor what partial Fourier and ellipse
            leave out.
        n_acquired: of these, those that are.
        n_acs: of these, those of the fully sampled centre.
    """

    n_matrix: int
    n_region: int
    n_acquired: int
    n_acs: int

    @property
    def with_acs(self) -> float:
        """R of the region, the centre counted: how many times fewer places are acquired."""
        return self.n_region / self.n_acquired

    @property
    def without_acs(self) -> float:
        """R beside the centre: places of the region there over those acquired there; infinite where none is."""
        beside = self.n_acquired - self.n_acs
        return (self.n_region - self.n_acs) / beside if beside else float("inf")

    @property
    def of_matrix(self) -> float:
        """R of the whole matrix: what is left out by partial Fourier and ellipse counts, too."""
        return self.n_matrix / self.n_acquired


def acceleration_of(mask: Mask, space: Space) -> Acceleration:
    """Count a mask.

    Args:
        mask: of the space's shape, or ``(frame, *shape)``; at least one place is acquired.
        space: which places may be acquired, and which ones make the fully sampled centre.
    """
    frames = mask.size // space.region.size
    return Acceleration(
        mask.size, frames * space.n_places, int(mask.sum()), int((mask & space.block & space.region).sum())
    )


def point_spread(mask: Mask) -> npt.NDArray[np.float64]:
    """Image of a point: magnitude of the mask's inverse Fourier transform, 1 at the point, which is at ``n // 2``.

    Args:
        mask: ``(k1,)`` or ``(k1, k2)``.
    """
    axes = tuple(range(mask.ndim))
    spread = np.abs(np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(mask, axes), axes=axes), axes))
    normed: npt.NDArray[np.float64] = spread / spread.max()
    return normed


def sidelobe(mask: Mask) -> float:
    """Largest sidelobe of the point spread over its peak: what aliases most (Lustig, Magn Reson Med 58, 2007)."""
    spread = point_spread(mask)
    spread[tuple(n // 2 for n in mask.shape)] = 0
    return float(spread.max())
