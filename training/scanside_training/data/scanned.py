"""A scan of a slice, as tasks make samples of it: an imaginary scanner's, or one that was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

from torch import Tensor

from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.scaling import image_scale
from scanside_training.data.simulation import object_of

__all__ = ["Columns", "Scan", "ScannedSlice", "combined", "encoded"]


class Columns(NamedTuple):
    """Some columns of a scan's image.

    Attributes:
        image: ``Aᴴ y``, complex ``(k1, k0)``.
        target: the noise-free coil images combined with the maps, of the same shape.
        maps: ``(coil, k1, k0)`` complex, those that the network gets.
    """

    image: Tensor
    target: Tensor
    maps: Tensor


class Scan(Protocol):
    """What tasks that apply the scan's operator ask of a scan."""

    @property
    def hybrid(self) -> Tensor:
        """``(coil, k1, k0)`` complex; lines along which nothing was acquired may hold anything."""

    @property
    def mask(self) -> Tensor:
        """``(k1, 1)``, which lines were acquired, or ``(k1, k0)``, which samples of two phase encodings were."""

    @property
    def noise(self) -> float:
        """Standard deviation of the noise's real and imaginary part per coil and voxel."""

    @property
    def marked(self) -> Tensor | None:
        """``(k1, k0)`` booleans, what somebody marked in the slice; None where the data have no marks."""

    @property
    def region(self) -> Tensor:
        """``(k1, k0)`` booleans, where the object is."""

    @property
    def scale(self) -> Tensor:
        """That of ``Aᴴ y``, see `scanside.recon.scaling.image_scale`."""

    def columns(self, chosen: slice) -> Columns:
        """Neighbouring columns of the image."""

    def only(self, lines: Tensor) -> Scan:
        """The same scan with some of its lines ``(k1,)``."""

    def whole(self) -> ScannedSlice:
        """The scan with its image in all columns."""


@dataclass(frozen=True, eq=False)
class ScannedSlice:
    """A whole scan; intensities are the slice's own.

    Attributes:
        hybrid: ``(coil, k1, k0)`` complex, k-space along k1, 0 where nothing was acquired, and image along k0; where
            the mask is over both axes, k-space along both.
        maps: ``(coil, k1, k0)`` complex, those that the network gets.
        mask: see `Scan`, like what follows.
        target: ``(k1, k0)`` complex, the noise-free coil images combined with the maps.
        noise: see there.
        marked: see there.
    """

    hybrid: Tensor
    maps: Tensor
    mask: Tensor
    target: Tensor
    noise: float
    marked: Tensor | None = None

    @cached_property
    def adjoint(self) -> Tensor:
        """``Aᴴ y``, complex ``(k1, k0)``."""
        return combined(to_image(self.hybrid, encoded(self.mask)), self.maps)

    @property
    def kspace(self) -> Tensor:
        """``y``, complex ``(coil, k1, k0)``, k-space along both axes."""
        return self.hybrid if len(encoded(self.mask)) == 2 else to_kspace(self.hybrid, (-1,))

    @cached_property
    def region(self) -> Tensor:
        """See `Scan.region`."""
        return object_of(self.target)

    @cached_property
    def scale(self) -> Tensor:
        """See `Scan.scale`."""
        return image_scale(self.adjoint)

    def columns(self, chosen: slice) -> Columns:
        """See `Scan.columns`."""
        return Columns(self.adjoint[:, chosen], self.target[:, chosen], self.maps[..., chosen])

    def only(self, lines: Tensor) -> ScannedSlice:
        """See `Scan.only`."""
        return replace(self, hybrid=self.hybrid * lines[:, None], mask=lines[:, None])

    def whole(self) -> ScannedSlice:
        """See `Scan.whole`."""
        return self


def combined(coils: Tensor, maps: Tensor) -> Tensor:
    """``Σ_coil conj(map) · image_coil``: from ``(coil, k1, k0)`` twice to ``(k1, k0)``."""
    return (maps.conj() * coils).sum(0)


def encoded(mask: Tensor) -> tuple[int, ...]:
    """The axes along which a mask ``(k1, 1 or k0)`` leaves something out."""
    return (-2,) if mask.shape[-1] == 1 else (-2, -1)
