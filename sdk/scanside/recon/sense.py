"""SENSE: the image that explains the k-space of all coils, by conjugate gradients.

Pruessmann et al., *Advances in sensitivity encoding with arbitrary k-space trajectories*, MRM 46:638-651 (2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from scanside.errors import ShapeError
from scanside.recon.cg import CgResult, conjugate_gradient
from scanside.recon.fourier import spatial_dims

__all__ = ["SenseOperator", "SoftSenseOperator", "cg_sense", "seen_columns", "solve"]

_BLOCK_BYTES = 2**20


class SenseOperator:
    """``A``: image -> coil images -> k-space -> acquired samples.

    The Fourier transform is centred and orthonormal. ``other`` axes of maps, mask, images and k-space broadcast
    against each other.

    Moving the centre to index 0 and back takes as long as the transform. It is a phase ramp on either side of it, and
    these become part of the maps and of the mask once and for all.

    Args:
        maps: ``(*other, coil, z, y, x)`` coil sensitivities.
        mask: ``(*other, k2, k1)`` bool, which lines were acquired.
        readout: which samples of a line were acquired, as an asymmetric echo leaves some out; by default all.

    Raises:
        ShapeError: maps, mask and readout do not fit.

    Attributes:
        image_dims: the axes of one image.
    """

    image_dims: tuple[int, ...] = (-3, -2, -1)

    def __init__(self, maps: torch.Tensor, mask: torch.Tensor, readout: slice | None = None) -> None:
        if maps.ndim < 4 or mask.ndim < 2 or mask.shape[-2:] != maps.shape[-3:-1]:
            raise ShapeError(
                f"SENSE needs maps (*other, coil, z, y, x) and a mask (*other, k2, k1) of the same grid, "
                f"got {tuple(maps.shape)} and {tuple(mask.shape)}"
            )
        self._dims = spatial_dims(maps)
        self._mask = mask.to(maps.device)[..., None, :, :, None].to(maps.real.dtype)
        # Transforms along the readout cancel in the normal operator where whole lines were acquired.
        self._readout_cancels = readout is None
        if readout is not None:
            n = maps.shape[-1]
            samples = torch.zeros(n, dtype=self._mask.dtype, device=maps.device)
            samples[readout] = 1
            if not bool(samples.any()):
                raise ShapeError(f"SENSE with the samples {readout} of a readout of {n}: none was acquired")
            if not (whole := bool(samples.all())):
                self._mask = self._mask * samples
            self._readout_cancels = whole
        ramp = _ramp(maps, self._dims)
        turns = sum((n // 2) ** 2 % n / n for n in _sizes(maps, self._dims))
        turn = torch.exp(-2j * torch.pi * torch.tensor(turns, dtype=torch.float64))
        self._maps = maps * ramp
        self._phased_mask = self._mask * (ramp * turn.to(ramp))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From image ``(*other, z, y, x)`` to k-space ``(*other, coil, k2, k1, k0)``, 0 where not acquired."""
        kspace: torch.Tensor = torch.fft.fftn(self._maps * image.unsqueeze(-4), dim=self._dims, norm="ortho")
        return _times(kspace, self._phased_mask)

    def adjoint(self, kspace: torch.Tensor) -> torch.Tensor:
        """From k-space ``(*other, coil, k2, k1, k0)`` to image ``(*other, z, y, x)``."""
        # Computed as its conjugate, so that the maps, which are large, are taken as they are.
        acquired = (kspace * self._phased_mask.conj()).conj_physical_()
        coils: torch.Tensor = torch.fft.fftn(acquired, dim=self._dims, norm="ortho")
        return _times(coils, self._maps).sum(-4).conj_physical_()

    def normal(self, image: torch.Tensor) -> torch.Tensor:
        """``Aᴴ A`` on an image ``(*other, z, y, x)``, for less than half the cost of forward and adjoint.

        The phases cancel in it; and where whole lines were acquired, the transforms along the readout do, and phase
        encoding is transformed where it lies in memory without gaps, in the columns that some coil sees.
        """
        if not self._readout_cancels:
            return self.adjoint(self.forward(image))
        mask, columns, coils = self._phase_last
        dims = (-1,) if len(self._dims) == 2 else (-3, -1)
        turned = image[..., columns].mT.contiguous().unsqueeze(-4)
        result: torch.Tensor | None = None
        for maps, conjugate in coils:
            kspace: torch.Tensor = torch.fft.fftn(maps * turned, dim=dims)
            seen: torch.Tensor = torch.fft.ifftn(_times(kspace, mask), dim=dims)
            part = _times(seen, conjugate).sum(-4)
            result = part if result is None else result.add_(part)
        assert result is not None
        applied = result.new_zeros((*result.shape[:-2], *image.shape[-2:]))
        applied[..., columns] = result.mT
        return applied

    @cached_property
    def _phase_last(self) -> tuple[torch.Tensor, slice, list[tuple[torch.Tensor, torch.Tensor]]]:
        """The mask, which columns some coil sees, and maps of these with their conjugates, few coils at a time.

        Mask and maps have their last two axes exchanged.
        """
        columns = seen_columns(self._maps)
        maps = self._maps[..., columns].mT.contiguous()
        n_coils = maps.shape[-4]
        # What is computed of a few coils stays in the processor's cache, and in memory that is there already: blocks
        # of all coils are given back to the system and asked for again at every step, which takes longer than to
        # compute. A GPU has its own store of memory, and wants much at once.
        together = n_coils
        if maps.device.type == "cpu":
            together = max(1, _BLOCK_BYTES * n_coils // maps.nbytes)
        starts = range(0, n_coils, together)
        pieces = [maps.narrow(-4, first, min(together, n_coils - first)) for first in starts]
        return self._mask.mT, columns, [(piece, torch.conj_physical(piece)) for piece in pieces]


class SoftSenseOperator:
    """``A`` of two sets of maps: the k-space of two images ``(2, *other, z, y, x)`` that lie over each other.

    Where an object is larger than the field of view, a voxel holds what one image cannot: see
    `scanside.recon.espirit.espirit_sets`. It is what BART's ``pics`` does with two sets of maps.

    Args:
        sets: two sets of maps ``(*other, coil, z, y, x)``.
        mask: as `SenseOperator`.
        readout: as `SenseOperator`.

    Raises:
        ShapeError: as `SenseOperator`.

    Attributes:
        image_dims: the axes of one problem: both images belong together.
    """

    image_dims: tuple[int, ...] = (0, -3, -2, -1)

    def __init__(
        self, sets: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor, readout: slice | None = None
    ) -> None:
        self._sets = tuple(SenseOperator(maps, mask, readout) for maps in sets)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From images ``(2, *other, z, y, x)`` to k-space ``(*other, coil, k2, k1, k0)``, 0 where not acquired."""
        first, second = (of_set.forward(image) for of_set, image in zip(self._sets, images, strict=True))
        return first.add_(second)

    def adjoint(self, kspace: torch.Tensor) -> torch.Tensor:
        """From k-space ``(*other, coil, k2, k1, k0)`` to images ``(2, *other, z, y, x)``."""
        return torch.stack([of_set.adjoint(kspace) for of_set in self._sets])

    def normal(self, images: torch.Tensor) -> torch.Tensor:
        """``Aᴴ A`` on images ``(2, *other, z, y, x)``."""
        return self.adjoint(self.forward(images))


def seen_columns(maps: torch.Tensor) -> slice:
    """The range along x that some coil sees, of maps ``(*other, coil, z, y, x)``; one column where none sees any."""
    largest = torch.view_as_real(maps).flatten(0, -3).abs().amax(0)
    seen = largest.any(-1).nonzero()[:, 0]
    return slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 1)


def _times(own: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """The product, in the memory of the first tensor where it fits: new memory costs more than multiplying."""
    padded = (1,) * (own.ndim - factor.ndim) + factor.shape
    fits = len(padded) == own.ndim and all(n in (1, m) for n, m in zip(padded, own.shape, strict=True))
    return own.mul_(factor) if fits else own * factor


def _sizes(maps: torch.Tensor, dims: Sequence[int]) -> list[int]:
    return [maps.shape[dim] for dim in dims]


def _ramp(maps: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """``exp(2πi Σ c x / n)`` with the centres c = n // 2: a shift by c on the other side of the transform."""
    ramp = torch.ones((), dtype=maps.dtype, device=maps.device)
    for dim, n in zip(dims, _sizes(maps, dims), strict=True):
        # The product is taken modulo n before it becomes an angle: large angles lose digits.
        turns = torch.remainder(torch.arange(n, dtype=torch.float64) * (n // 2), n) / n
        along = torch.exp(2j * torch.pi * turns).to(ramp)
        ramp = ramp * along.reshape(-1, *[1] * (-1 - dim))
    return ramp


def cg_sense(
    kspace: torch.Tensor,
    maps: torch.Tensor,
    mask: torch.Tensor,
    *,
    readout: slice | None = None,
    l2: float = 0.0,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
) -> CgResult:
    """Minimise ``|A x - kspace|² + l2 |x|²``.

    With maps of ``Σ_coil |map|² = 1`` the largest eigenvalue of ``Aᴴ A`` is at most 1, whatever the matrix size
    or the scaling of the data: ``l2`` is relative to it. It is BART's ``pics -l2 -r l2``: there, too, transforms
    are orthonormal and data are divided by a scale that the solution gets back.

    Args:
        kspace: ``(*other, coil, k2, k1, k0)`` complex64; what was not acquired is ignored.
        maps: ``(*other, coil, z, y, x)`` coil sensitivities.
        mask: ``(*other, k2, k1)`` bool, which lines were acquired.
        readout: which samples of a line were acquired; by default all.
        l2: Tikhonov weight.
        tolerance: of the residual of the normal equations, relative to ``Aᴴ kspace``.
        max_iterations: of conjugate gradients.

    Returns:
        Its solution is the image ``(*other, z, y, x)``; every member of ``other`` is a system of its own.

    Raises:
        ShapeError: k-space, maps, mask and readout do not fit.
    """
    if kspace.ndim < 4 or kspace.shape[-4:] != maps.shape[-4:]:
        raise ShapeError(
            f"CG-SENSE needs k-space (*other, coil, k2, k1, k0) on the grid of the maps, "
            f"got {tuple(kspace.shape)} and maps {tuple(maps.shape)}"
        )
    operator = SenseOperator(maps, mask, readout)
    return solve(
        operator, operator.adjoint(kspace), l2=l2, tolerance=tolerance, max_iterations=max_iterations
    )


def solve(
    operator: SenseOperator | SoftSenseOperator,
    right: torch.Tensor,
    *,
    l2: float,
    tolerance: float,
    max_iterations: int,
) -> CgResult:
    """`cg_sense` where operator and right-hand side ``Aᴴ kspace`` are there already; or the same of two sets."""
    return conjugate_gradient(
        lambda image: operator.normal(image) + l2 * image,
        right,
        tolerance=tolerance,
        max_iterations=max_iterations,
        dims=operator.image_dims,
    )
