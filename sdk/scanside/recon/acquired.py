"""Acquired k-space beside the coil maps that explain it: what an image is fitted to, and compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch

from scanside.recon.fourier import to_image
from scanside.recon.sense import SenseOperator, SoftSenseOperator, seen_columns

__all__ = ["Acquired", "SeenMaps", "acquired"]


class SeenMaps:
    """Maps of one slice in the columns that some coil sees.

    Args:
        maps: ``(*other, coil, 1, y, x)``, all of `other` 1.

    Attributes:
        columns: the range along x.
        maps: ``(coil, y, x)`` there.
    """

    def __init__(self, maps: torch.Tensor) -> None:
        self.columns = seen_columns(maps)
        n_columns = self.columns.stop - self.columns.start
        self.maps = maps[..., self.columns].reshape(-1, maps.shape[-2], n_columns)


class Acquired(ABC):
    """The lines ``y`` of one or several images, and the operator ``A`` that gives them of an image.

    Args:
        kspace: ``(*other, coil, k2, k1, k0)`` complex, zero where nothing was sampled.
        maps: ``(*other, coil, z, y, x)`` coil sensitivities.
        mask: ``(*other, k2, k1)`` bool, which lines were acquired.
        readout: which samples of a line were acquired; by default all.
    """

    def __init__(
        self, kspace: torch.Tensor, maps: torch.Tensor, mask: torch.Tensor, readout: slice | None
    ) -> None:
        self._kspace, self._maps, self._mask, self._readout = kspace, maps, mask, readout

    @cached_property
    def operator(self) -> SenseOperator | SoftSenseOperator:
        """``A``."""
        return SenseOperator(self._maps, self._mask, self._readout)

    @cached_property
    @abstractmethod
    def right(self) -> torch.Tensor:
        """``Aᴴ y``, ``(*other, z, y, x)``: the right-hand side of the normal equations."""

    @abstractmethod
    def distance(self, image: torch.Tensor) -> float:
        """``‖A x − y‖ / ‖y‖`` of images ``(*other, z, y, x)``, the largest of all; 0 where y is 0."""

    def noise_share(self, level: torch.Tensor) -> float:
        """``‖n‖ / ‖y‖``, of which even the true image is away from the lines: the smallest of all images.

        Args:
            level: ``(*other)`` or ``()``, standard deviation of the real and of the imaginary part of the noise n.
        """
        width = self._kspace.shape[-1]
        n_samples = width if self._readout is None else len(range(*self._readout.indices(width)))
        n_lines = self._mask.sum((-2, -1)).broadcast_to(self._kspace.shape[:-4])
        noise = 2 * level.square() * n_lines * n_samples * self._kspace.shape[-4]
        size = torch.view_as_real(self._kspace).square().sum((-5, -4, -3, -2, -1))
        return float(torch.where(size > 0, noise / size, 0).min().clamp(0, 1).sqrt())


def acquired(
    kspace: torch.Tensor,
    maps: torch.Tensor,
    mask: torch.Tensor,
    readout: slice | None = None,
    seen: SeenMaps | None = None,
    second: torch.Tensor | None = None,
) -> Acquired:
    """Acquired k-space with its maps.

    Args:
        kspace: as `Acquired`, like all that follow.
        maps: coil sensitivities.
        mask: which lines were acquired.
        readout: which samples of a line were acquired.
        seen: of these maps, where they are at hand.
        second: a second set of maps of the same shape. Images are ``(2, *other, z, y, x)`` then.

    Raises:
        ShapeError: maps, mask and readout do not fit.
    """
    if second is not None:
        return _TwoSets(kspace, maps, mask, readout, second)
    whole = readout is None or readout.indices(kspace.shape[-1])[:2] == (0, kspace.shape[-1])
    alone = kspace.shape[:-4].numel() == maps.shape[:-4].numel() == 1 and kspace.shape[-3] == 1
    if whole and alone and bool(mask.any()) and mask.shape[-2:] == maps.shape[-3:-1]:
        return _Lines(kspace, maps, mask, seen or SeenMaps(maps))
    return _Any(kspace, maps, mask, readout)


class _Any(Acquired):
    """Whatever was acquired."""

    @cached_property
    def right(self) -> torch.Tensor:
        return self.operator.adjoint(self._kspace)

    def distance(self, image: torch.Tensor) -> float:
        difference = self.operator.forward(image) - self._kspace
        distance, size = (
            torch.linalg.vecdot(real, real)
            for real in (torch.view_as_real(one).flatten(-5) for one in (difference, self._kspace))
        )
        return float(torch.where(size > 0, distance / size, 0).max().sqrt())


class _TwoSets(_Any):
    """Whatever was acquired, seen by two sets of maps."""

    def __init__(
        self,
        kspace: torch.Tensor,
        maps: torch.Tensor,
        mask: torch.Tensor,
        readout: slice | None,
        second: torch.Tensor,
    ) -> None:
        super().__init__(kspace, maps, mask, readout)
        self._second = second

    @cached_property
    def operator(self) -> SoftSenseOperator:
        return SoftSenseOperator((self._maps, self._second), self._mask, self._readout)


class _Lines(Acquired):
    """Whole readouts of one slice.

    Those that were acquired are transformed along the readout, once. What is left are transforms along k1 of the
    columns that some coil sees; and as transforms keep energies, distances are those of the columns.
    """

    def __init__(self, kspace: torch.Tensor, maps: torch.Tensor, mask: torch.Tensor, seen: SeenMaps) -> None:
        super().__init__(kspace, maps, mask, None)
        self._columns, self._column_maps = seen.columns, seen.maps

    @cached_property
    def right(self) -> torch.Tensor:
        maps, columns = self._column_maps, self._columns
        spectrum = maps.new_zeros(maps.shape[1:])
        seen = torch.zeros_like(spectrum)
        for lines, sensitivity in zip(self._sampled[..., columns], maps, strict=True):
            # Computed as its conjugate, so that the maps are taken as they are; and coil by coil, in memory that is
            # there already.
            spectrum[self._places] = lines.conj()
            coil: torch.Tensor = torch.fft.fft(spectrum, dim=0, norm="ortho")
            seen.addcmul_(coil, sensitivity)
        image = seen.new_zeros((*self._kspace.shape[:-4], *self._kspace.shape[-3:]))
        image[..., columns] = seen.conj()
        return image

    def distance(self, image: torch.Tensor) -> float:
        columns, sampled = self._columns, self._sampled
        here = image.reshape(image.shape[-2:])[:, columns]
        left = _energy(sampled[..., : columns.start]) + _energy(sampled[..., columns.stop :])
        for lines, sensitivity in zip(sampled[..., columns], self._column_maps, strict=True):
            spectrum: torch.Tensor = torch.fft.fft(sensitivity * here, dim=0, norm="ortho")
            left += _energy(spectrum[self._places] - lines)
        size = _energy(sampled)
        return (left / size) ** 0.5 if size > 0 else 0.0

    @cached_property
    def _frequencies(self) -> torch.Tensor:
        return self._mask.reshape(-1).nonzero()[:, 0] - self._mask.shape[-1] // 2

    @cached_property
    def _places(self) -> torch.Tensor:
        """Where lines lie in a spectrum whose centre is at index 0."""
        return self._frequencies % self._mask.shape[-1]

    @cached_property
    def _sampled(self) -> torch.Tensor:
        """The acquired lines ``(coil, line, x)``, turned so that the image's centre counts as index 0, too."""
        n1, n0 = self._kspace.shape[-2:]
        lines = self._kspace.reshape(-1, n1, n0)[:, self._frequencies + n1 // 2]
        # The product is taken modulo n before it becomes an angle: large angles lose digits.
        turns = torch.remainder(self._frequencies * (n1 // 2), n1).double() / n1
        return to_image(lines, (-1,)) * torch.exp(-2j * torch.pi * turns).to(lines)[:, None]


def _energy(values: torch.Tensor) -> float:
    return float(torch.view_as_real(values).square().sum())
