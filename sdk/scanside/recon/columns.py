"""SENSE solved exactly where whole readouts were sampled: a system of its own for every column of the image.

Where whole readouts are sampled, columns of the image, one for each position x along the readout, have nothing to do
with each other. With the point spread ``P = Fᴴ diag(m) F`` of the mask m along k1 and the maps S the normal operator
``Aᴴ A`` is there, element by element, the Hermitian matrix

    ``N_x = P ∘ Σ_c conj(S_c) S_cᵀ``

of k1 × k1 elements. ``argmin_u ‖A u − y‖² + λ ‖u − z‖² = (N + λ)⁻¹ (Aᴴ y + λ z)`` then takes one factorisation for
maps, mask and λ, and one product for each image. What is kept of the factorisation is ``K = λ (N + λ)⁻¹``: what data
consistency keeps of the image z that it is given. Its elements lie between −1 and 1, and it is the identity where no
coil sees anything, so that only the columns and rows that some coil sees are computed.

Memory grows with the third power of the matrix, `system_bytes`: 134 MB at 256 × 256, 1.1 GB at 512 × 512. With more
than `MAX_ROWS` rows, columns are not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scanside.errors import CalibrationError, NonFiniteError, ScanError, ShapeError
from scanside.recon.consistency import pmatrix

__all__ = [
    "MAX_ROWS",
    "ColumnSystem",
    "factorise",
    "normal_matrices",
    "on_grid",
    "point_spread",
    "system_bytes",
]

MAX_ROWS = 640
"""Images of more rows (k1) than this are not solved by columns."""

_STEPS_PER_OCTAVE = 8
_CHUNK_BYTES = (
    2**23
)  # so many bytes of matrices are computed together, so that they stay in the processor's cache
_SIDE_BY_SIDE = 32  # so many columns have one range of rows that some coil sees
_SMALLEST = 32  # matrices of no more rows are factorised by LAPACK


def system_bytes(n_rows: int, n_columns: int, dtype: torch.dtype = torch.complex64) -> int:
    """Memory of a `ColumnSystem` for an image of so many rows (k1) and columns (k0)."""
    return n_columns * n_rows**2 * dtype.itemsize


def on_grid(weight: float) -> float:
    """The power of ``2^(1/8)`` that is nearest to a weight λ > 0.

    A weight that follows the noise differs from repetition to repetition by what the estimate is uncertain, and would
    need a factorisation each time. It is put on the grid wherever it is used, so that images do not depend on what
    came before; at most 4.4 % lie between a weight and its place on the grid.
    """
    _check_weight(weight)
    return float(2.0 ** (round(_STEPS_PER_OCTAVE * math.log2(weight)) / _STEPS_PER_OCTAVE))


def point_spread(mask: torch.Tensor, dtype: torch.dtype = torch.complex64) -> torch.Tensor:
    """``P = Fᴴ diag(m) F`` along k1: from ``(*other, k1)`` bool, centre at ``n // 2``, to ``(*other, k1, k1)``."""
    planes = pmatrix(mask.reshape(-1, mask.shape[-1]).to(dtype.to_real()))
    return torch.complex(planes[:, 0], planes[:, 1]).reshape(*mask.shape, mask.shape[-1])


def normal_matrices(maps: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """``Aᴴ A`` as one Hermitian matrix for each column of the image.

    Args:
        maps: ``(*other, coil, k1, k0)`` complex coil sensitivities.
        spread: ``(*other, k1, k1)`` complex, from `point_spread`.

    Returns:
        ``(*other, k0, k1, k1)`` complex.
    """
    columns = maps.movedim(-1, -3).contiguous()
    return (columns.mH @ columns).mul_(spread.unsqueeze(-3))


@dataclass(frozen=True)
class _Box:
    """Columns side by side, and the rows of them that some coil sees."""

    columns: slice
    rows: slice

    @property
    def n_rows(self) -> int:
        """How many rows."""
        return int(self.rows.stop - self.rows.start)


def _seen(maps: torch.Tensor) -> list[_Box]:
    """The boxes of maps ``(*other, coil, k1, k0)`` outside of which no coil sees anything."""
    sees = (maps != 0).flatten(0, -3).any(0).cpu()
    boxes = []
    for first in range(0, sees.shape[-1], _SIDE_BY_SIDE):
        here = sees[:, first : first + _SIDE_BY_SIDE]
        rows, columns = (here.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
        if rows:
            inside = slice(first + columns[0], first + columns[-1] + 1)
            boxes.append(_Box(inside, slice(rows[0], rows[-1] + 1)))
    return boxes


class ColumnSystem:
    """``(N + λ)`` for every column of an image, factorised.

    Args:
        maps: ``(*other, coil, k1, k0)`` complex coil sensitivities; of complex128, all is computed so.
        mask: ``(*other, k1)`` bool, the sampled lines, centre of k-space at ``n // 2``; or, complex, its
            `point_spread` ``(*other, k1, k1)``.
        weight: λ > 0, one for all or ``(*other)``.

    Attributes:
        weight: λ, ``(*other)`` or a scalar.
        n_bytes: memory that it holds.
    """

    @torch.no_grad()
    def __init__(self, maps: torch.Tensor, mask: torch.Tensor, weight: float | torch.Tensor) -> None:
        *other, _, n1, n0 = maps.shape
        spread = mask if mask.is_complex() else point_spread(mask.to(maps.device), maps.dtype)
        self._other, self._n1, self._n0 = tuple(other), n1, n0
        self._boxes = _seen(maps)
        self.weight = torch.as_tensor(weight, dtype=maps.real.dtype, device=maps.device)
        self._planes = _zeros((*self._other, 2, n0, n1, n1), self.weight)
        self._completed = False
        for box in self._boxes:
            self._factorise(maps, spread, box)

    @property
    def n_bytes(self) -> int:
        """Memory that it holds, in bytes."""
        return self._planes.numel() * self._planes.element_size()

    def kept(self) -> torch.Tensor:
        """``K = λ (N + λ)⁻¹`` as real and imaginary planes ``(*other, 2, k0, k1, k1)``; not to be changed."""
        if not self._completed:
            self._complete(self._planes)
            self._completed = True
        return self._planes

    def kept_of_first(self, n_rows: int) -> torch.Tensor:
        """The part of `kept` between the first rows, a copy ``(*other, 2, k0, n_rows, n_rows)``."""
        planes = self._planes[..., :n_rows, :n_rows].contiguous()
        self._complete(planes)
        return planes

    def _complete(self, planes: torch.Tensor) -> None:
        """The identity where no coil sees anything, in planes of the first rows or of all."""
        unseen = torch.ones(self._n0, planes.shape[-1], dtype=torch.bool, device=planes.device)
        for box in self._boxes:
            unseen[box.columns, box.rows] = False
        planes.select(-4, 0).diagonal(dim1=-2, dim2=-1).masked_fill_(unseen, 1)

    def solve(self, right: torch.Tensor) -> torch.Tensor:
        """``(N + λ)⁻¹`` times one right-hand side or several, ``(*several, *other, k1, k0)`` complex.

        Gradients go back through it to the right-hand side.
        """
        if (
            right.shape[-2 - len(self._other) :] != (*self._other, self._n1, self._n0)
            or not right.is_complex()
        ):
            raise ShapeError(
                f"columns of images {(*self._other, self._n1, self._n0)} do not solve for {tuple(right.shape)} "
                f"of {right.dtype}"
            )
        solved: torch.Tensor = _Solved.apply(self._solved, right)  # type: ignore[no-untyped-call]
        return solved

    def _solved(self, right: torch.Tensor) -> torch.Tensor:
        return self._images(self._kept_of(self._columns(right / self.weight[..., None, None])), right.shape)

    def solve_near(
        self,
        weight: float,
        right: torch.Tensor,
        known: tuple[torch.Tensor, torch.Tensor],
        *,
        tolerance: float = 1e-4,
        max_iterations: int = 30,
    ) -> torch.Tensor:
        """``(N + λ')⁻¹`` times a right-hand side for another weight λ' that is not far from λ.

        By conjugate gradients with ``(N + λ)⁻¹`` as the preconditioner: the ratio of the weights is the condition, so
        that about six of them serve for twice the weight. As ``(N + λ)`` is known of every direction that they take,
        none needs ``N`` itself.

        Args:
            weight: λ' > 0.
            right: ``(k1, k0)`` complex.
            known: a right-hand side and the solution of *this* system for it, to start from.
            tolerance: at which to stop, relative to the known right-hand side, as the preconditioner measures both.
            max_iterations: where to stop anyway.
        """
        change = weight - float(self.weight)
        base, solution = (self._columns(one) for one in known)
        residual = self._columns(right) - base - change * solution
        size = float(_dot(base, solution))
        direction = applied = torch.zeros_like(residual)
        before = 1.0
        for _ in range(max_iterations):
            nearer = self._kept_of(residual) / self.weight
            power = float(_dot(residual, nearer))
            if power <= tolerance**2 * size:
                break
            direction = nearer.add_(direction, alpha=power / before)
            applied = torch.add(residual, applied, alpha=power / before)  # (N + λ) times the direction
            before = power
            image = torch.add(applied, direction, alpha=change)
            step = power / float(_dot(direction, image))
            solution.add_(direction, alpha=step)
            residual.sub_(image, alpha=step)
        return self._images(solution, right.shape)

    def _columns(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``(*several, *other, k1, k0)`` as real columns ``(system, k0, 2 · several, k1)``, real parts first.

        All that belongs to a column lies together, so that its matrix is read once for all images.
        """
        parts = torch.view_as_real(images).reshape(-1, math.prod(self._other), self._n1, self._n0, 2)
        return parts.permute(1, 3, 4, 0, 2).flatten(2, 3).contiguous()

    def _images(self, columns: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """What `_columns` was made of."""
        system, k0, several, k1 = columns.shape
        parts = columns.view(system, k0, 2, several // 2, k1).permute(3, 0, 4, 1, 2)
        return torch.view_as_complex(parts.contiguous()).reshape(shape)

    def _kept_of(self, columns: torch.Tensor) -> torch.Tensor:
        """``K`` times columns as `_columns` makes them."""
        kept = columns.clone()
        n = columns.shape[2] // 2
        planes = self._planes.reshape(-1, *self._planes.shape[-4:])
        for box in self._boxes:
            # A matrix from the left, and vectors that lie row by row: memory alone is the limit then.
            vectors = columns[:, box.columns, :, box.rows].mT
            re, im = (plane @ vectors for plane in planes[:, :, box.columns, box.rows, box.rows].unbind(1))
            here = kept[:, box.columns, :, box.rows].mT
            torch.sub(re[..., :n], im[..., n:], out=here[..., :n])
            torch.add(re[..., n:], im[..., :n], out=here[..., n:])
        return kept

    def _factorise(self, maps: torch.Tensor, spread: torch.Tensor, box: _Box) -> None:
        rows, n_systems = box.rows, math.prod(self._other)
        weight = self.weight[..., None, None, None]
        together = max(1, _CHUNK_BYTES // system_bytes(box.n_rows, n_systems, maps.dtype))
        for first in range(box.columns.start, box.columns.stop, together):
            columns = slice(first, min(first + together, box.columns.stop))
            matrices = normal_matrices(maps[..., rows, columns], spread[..., rows, rows])
            matrices.diagonal(dim1=-2, dim2=-1).add_(weight[..., 0])
            _invert(matrices)
            for plane, part in enumerate((matrices.real, matrices.imag)):
                torch.mul(part, weight, out=self._planes.select(-4, plane)[..., columns, rows, rows])


class _Solved(torch.autograd.Function):
    """The inverse of a Hermitian matrix is Hermitian: gradients go back through the same solution."""

    @staticmethod
    def forward(
        ctx: Any, solved: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor
    ) -> torch.Tensor:
        ctx.solved = solved
        return solved(right)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.solved(grads[0].resolve_conj())


def factorise(maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
    """The system of one image, or of several, from what a scan gives.

    Args:
        maps: ``(*other, coil, k1, k0)`` complex coil sensitivities.
        mask: ``(*other, k1)`` bool, the sampled lines, centre of k-space at ``n // 2``; or, complex, its
            `point_spread` ``(*other, k1, k1)``.
        weight: λ > 0, for all of them.

    Raises:
        ShapeError: maps and mask do not fit, the mask is one over two axes, or there are more rows than `MAX_ROWS`.
        CalibrationError: the maps are zero everywhere.
        NonFiniteError: the maps hold NaN or infinity.
        ScanError: λ is not a finite number above 0.
    """
    _check_weight(weight)
    lines = (*maps.shape[:-3], maps.shape[-2])
    if mask.is_complex():
        lines = (*lines, maps.shape[-2])
    if not maps.is_complex() or maps.ndim < 3 or mask.shape != lines:
        raise ShapeError(
            "columns take complex maps (*other, coil, k1, k0) and a mask over k1 alone, (*other, k1), as whole "
            f"readouts are sampled; got {tuple(maps.shape)} of {maps.dtype} and {tuple(mask.shape)}: where a mask "
            "has two axes, iterate (solver 'cg')"
        )
    if maps.shape[-2] > MAX_ROWS:
        raise ShapeError(
            f"columns take images of up to {MAX_ROWS} rows (k1), but this one has {maps.shape[-2]}, whose "
            f"factorisation would take {system_bytes(maps.shape[-2], maps.shape[-1]) / 1e6:.0f} MB: iterate "
            "(solver 'cg')"
        )
    peak = float(torch.view_as_real(maps).abs().max())
    if not math.isfinite(peak):
        raise NonFiniteError("the coil maps hold NaN or infinity: no image can be solved for with them")
    if peak == 0:
        raise CalibrationError(
            "the coil maps are zero everywhere: no coil sees anything that could be solved for"
        )
    return ColumnSystem(maps, mask, weight)


def _check_weight(weight: float) -> None:
    if not (math.isfinite(weight) and weight > 0):
        raise ScanError(
            f"columns are factorised with a weight λ > 0, got {weight:g}: without it there is no solution where no "
            "coil sees anything"
        )


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros of the type of another tensor, on its device."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    # NumPy asks the system for memory of zeros, which costs nothing where it is not written; torch writes all of it.
    return torch.from_numpy(np.zeros(shape, like.numpy().dtype))


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The real part of the product of two images, as real columns."""
    return torch.dot(a.flatten(), b.flatten())


def _invert(matrices: torch.Tensor) -> None:
    """Invert Hermitian positive definite matrices ``(*, n, n)`` in place.

    By halves, with the Schur complement of the first one: nearly all of it is products of many matrices at once, for
    which there is faster code than for the factorisation of one after the other.
    """
    n = matrices.shape[-1]
    if n <= _SMALLEST:
        matrices.copy_(torch.cholesky_inverse(torch.linalg.cholesky(matrices)))
        return
    half = n // 2
    first, across, last = (
        matrices[..., :half, :half],
        matrices[..., :half, half:],
        matrices[..., half:, half:],
    )
    _invert(first)
    solved = first @ across
    last.sub_(across.mH @ solved)
    _invert(last)
    both = solved @ last
    first.add_(both @ solved.mH)
    torch.neg(both, out=across)
    matrices[..., half:, :half] = across.mH
