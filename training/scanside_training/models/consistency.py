"""Data consistency in real numbers: the normal operator in three lowerings, and the steps that use it.

Coil images and maps are pairs of real and imaginary planes, ``(B, coil, 2, k1, k0)``; images ``(B, 2, k1, k0)``.
With ``u = Aᴴ y`` at hand, neither step needs the k-space itself:

- gradient: ``x ← x − η (Aᴴ A x − u)``. With one coil, or maps whose squares add up to 1, and η = 1 it is the hard
  replacement of the acquired samples, ``k = m k₀ + (1 − m) F x``, coil by coil.
- conjugate gradients: ``argmin_x ‖A x − y‖² + λ ‖x − z‖²``, which is ``(Aᴴ A + λ) x = u + λ z``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from scanside.recon.columns import ColumnSystem
from scanside.recon.consistency import Lowering, pmatrix

__all__ = [
    "ColumnInverse",
    "NormalOperator",
    "ProximalSolver",
    "apply_to_columns",
    "blocks",
    "conjugate_gradients",
    "hermitian_sum",
    "numbers_of",
]


def hermitian_sum(maps: torch.Tensor, coils: torch.Tensor) -> torch.Tensor:
    """``Σ_c conj(S_c) x_c``: from ``(B, coil, 2, k1, k0)`` twice to ``(B, 2, k1, k0)``."""
    return (_map_blocks(maps) * coils.unsqueeze(3)).sum((1, 2))


class NormalOperator:
    """``Aᴴ A`` of one sampling and one set of maps, in float32 (or float64) also where autocast is on.

    Args:
        lowering: how the Fourier transforms are computed; see `scanside.recon.consistency`.
        maps: ``(B, coil, 2, k1, k0)`` coil sensitivities; those of one image hold for all of a batch.
        sampling: what `scanside.recon.consistency.sampling_inputs` makes for the lowering.

    Attributes:
        few_steps: whether conjugate gradients stop far from the solution, so that their gradient is none of it.
    """

    few_steps = False

    def __init__(self, lowering: Lowering, maps: torch.Tensor, sampling: tuple[torch.Tensor, ...]) -> None:
        self.lowering = lowering
        self.maps = maps
        self.sampling = sampling
        self._matrix = blocks(sampling[0]) if lowering == "pmatrix" else None

    def resampled(self, sampling: tuple[torch.Tensor, ...]) -> NormalOperator:
        """The operator with the same maps and another sampling; what was prepared of the maps is shared."""
        other = NormalOperator(self.lowering, self.maps, sampling)
        for name in ("_maps", "_rows", "_lines"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Apply to an image ``(B, 2, k1, k0)``, or to one that is `aligned`, which the result is then, too."""
        if image.ndim == 4:
            return self.plain(self(self.aligned(image)))
        if torch.compiler.is_exporting():
            return self._in_planes(image)
        with torch.autocast(image.device.type, enabled=False):
            if self.maps.requires_grad:
                return self._in_planes(image)
            applied: torch.Tensor = _SelfAdjoint.apply(self, self.plain(image))  # type: ignore[no-untyped-call]
            return self.aligned(applied)

    def aligned(self, image: torch.Tensor) -> torch.Tensor:
        """An image ``(B, 2, k1, k0)`` in the shape in which it is multiplied with maps."""
        return image.unsqueeze(3) if self._matrix is not None else image[:, None, None]

    def plain(self, image: torch.Tensor) -> torch.Tensor:
        """``(B, 2, k1, k0)`` of what `aligned` gives."""
        return image[:, :, :, 0] if self._matrix is not None else image[:, 0, 0]

    def compute(self, image: torch.Tensor) -> torch.Tensor:
        """Apply to ``(B, 2, k1, k0)`` without a trace for gradients, the fastest way."""
        if self.lowering != "fft" or self.sampling[0].shape[-1] > 1:
            return self.plain(self._in_planes(self.aligned(image)))
        maps, conjugate = self._lines
        mask = self.sampling[0].mT.unsqueeze(1)
        x = torch.view_as_complex(image.permute(0, 3, 2, 1).contiguous())
        spectrum = torch.fft.fft(maps * x.unsqueeze(1), dim=-1).mul_(mask)
        x = torch.fft.ifft(spectrum, dim=-1).mul_(conjugate).sum(1)
        return torch.view_as_real(x).permute(0, 3, 2, 1).contiguous()

    @property
    def along_k1_alone(self) -> bool:
        """Whether whole readouts were sampled, so that columns of the image have nothing to do with each other."""
        return self.lowering == "pmatrix" or self.sampling[0].shape[-1] == 1

    def point_spread(self) -> torch.Tensor:
        """``Fᴴ m F`` along k1 as a complex matrix, ``(B, k1, k1)``, where whole readouts were sampled."""
        if self.lowering == "pmatrix":
            planes = self.sampling[0]
        else:
            mask = self.sampling[0][..., 0]
            planes = pmatrix(torch.fft.fftshift(mask, dim=-1) if self.lowering == "fft" else mask)
        return torch.complex(planes[:, 0], planes[:, 1])

    @cached_property
    def _lines(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps and their conjugates with k1 last: transforms along the last axis are the fastest."""
        maps = torch.view_as_complex(self.maps.permute(0, 1, 4, 3, 2).contiguous())
        return maps, maps.conj().resolve_conj()

    @cached_property
    def _maps(self) -> torch.Tensor:
        """Once for all applications: graphs stay small."""
        return _map_blocks(self.maps)

    @cached_property
    def _rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Real and imaginary part of the maps, ``(B, k1, coil, k0)``: coils beside each other, as columns are."""
        re, im = self.maps.permute(0, 2, 3, 1, 4).unbind(1)
        return re.contiguous(), im.contiguous()

    def _in_planes(self, image: torch.Tensor) -> torch.Tensor:
        """Apply to what is `aligned` with real numbers only, but for ``torch.fft``."""
        if self._matrix is not None:
            return self._by_matrix(self._matrix, image)
        coils = (self._maps * image).sum(3)
        return (self._maps * self._project(coils)).sum((1, 2), keepdim=True)

    def _by_matrix(self, matrix: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """One product for all columns of all coils: a matrix that has to be repeated for each coil is copied."""
        re, im = self._rows
        x_re, x_im = image.unbind(1)
        coils = torch.cat((re * x_re - im * x_im, re * x_im + im * x_re), dim=1)
        *_, n_coils, k0 = coils.shape
        products = torch.bmm(matrix, coils.flatten(2)).reshape(len(matrix), 2, -1, n_coils, k0)
        y_re, y_im = products.unbind(1)
        parts = (re * y_re + im * y_im, re * y_im - im * y_re)
        return torch.stack([one.sum(2, keepdim=True) for one in parts], dim=1)

    def _project(self, coils: torch.Tensor) -> torch.Tensor:
        """``Fᴴ m F`` on coil images ``(B, coil, 2, k1, k0)``; gives ``(B, coil, 2, 1, k1, k0)``."""
        if self.lowering == "dft_matmul":
            return self._project_by_matrices(coils).unsqueeze(3)
        (mask,) = self.sampling
        dims = (-2, -1) if mask.shape[-1] > 1 else (-2,)
        # Complex only around the calls: exporters and compilers handle little else of it.
        planes = torch.complex(coils[:, :, 0].contiguous(), coils[:, :, 1].contiguous())
        planes = torch.fft.ifftn(torch.fft.fftn(planes, dim=dims) * mask.unsqueeze(1), dim=dims)
        return torch.stack((planes.real, planes.imag), dim=2).unsqueeze(3)

    def _project_by_matrices(self, coils: torch.Tensor) -> torch.Tensor:
        mask, *transforms = self.sampling
        spectrum = _along_k1(blocks(transforms[0]), coils)
        if len(transforms) > 1:
            spectrum = _along_k0(blocks(transforms[1]), spectrum)
        spectrum = spectrum * mask[:, None, None]
        if len(transforms) > 1:
            spectrum = _along_k0(blocks(_conjugate(transforms[1])), spectrum)
        return _along_k1(blocks(_conjugate(transforms[0])), spectrum)


class _SelfAdjoint(torch.autograd.Function):
    """The gradient of a self-adjoint operator is the operator."""

    @staticmethod
    def forward(ctx: Any, normal: NormalOperator, image: torch.Tensor) -> torch.Tensor:
        ctx.normal = normal
        return normal.compute(image)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.normal.compute(grads[0])


def _conjugate(matrix: torch.Tensor) -> torch.Tensor:
    """Complex conjugate of ``(2, n, n)``; as the transforms are symmetric, it is also their inverse."""
    return torch.stack((matrix[0], -matrix[1]))


def _map_blocks(maps: torch.Tensor) -> torch.Tensor:
    """Real matrices ``(B, coil, 2, 2, k1, k0)`` that do to a pair what the maps do to a number.

    A product and a sum are all that is left of a complex multiplication: few operators, few passes over memory.
    """
    re, im = maps.unbind(2)
    return torch.stack((torch.stack((re, -im), 2), torch.stack((im, re), 2)), dim=2)


def blocks(matrix: torch.Tensor) -> torch.Tensor:
    """The real matrix ``(…, 2n, 2n)`` that does to planes what a complex ``(…, 2, n, n)`` does to numbers."""
    re, im = matrix.unbind(-3)
    return torch.cat((torch.cat((re, -im), dim=-1), torch.cat((im, re), dim=-1)), dim=-2)


def _along_k1(matrix: torch.Tensor, coils: torch.Tensor) -> torch.Tensor:
    """A matrix of blocks ``(…, 2 k1, 2 k1)`` times ``(B, coil, 2, k1, k0)``."""
    return torch.matmul(matrix, coils.flatten(2, 3)).reshape(coils.shape)


def _along_k0(matrix: torch.Tensor, coils: torch.Tensor) -> torch.Tensor:
    """The same along the last axis; the matrix is symmetric."""
    return _along_k1(matrix, coils.mT).mT


class ColumnInverse:
    """``(Aᴴ A + λ)⁻¹`` by a factorisation for each column of the image, where whole readouts were sampled.

    Factorising costs what about twenty normal operations cost, and each use then no more than three; see
    `scanside.recon.columns`.

    Args:
        normal: ``Aᴴ A``.
        weight: λ > 0, ``(B or 1, 1, 1, 1)``.
    """

    def __init__(self, normal: NormalOperator, weight: torch.Tensor) -> None:
        maps = numbers_of(normal.maps)
        spread = normal.point_spread().to(maps.dtype)
        n = max(len(maps), len(spread))
        maps, spread = maps.expand(n, -1, -1, -1), spread.expand(n, -1, -1)
        self._system = ColumnSystem(maps, spread, weight.detach().flatten().expand(n))

    def __call__(self, right: torch.Tensor) -> torch.Tensor:
        """Solve for a right-hand side ``(B, 2, k1, k0)``."""
        solution = self._system.solve(numbers_of(right))
        return torch.view_as_real(solution).movedim(-1, -3).contiguous()


def numbers_of(planes: torch.Tensor) -> torch.Tensor:
    """Complex ``(…, k1, k0)`` of planes ``(…, 2, k1, k0)``."""
    return torch.view_as_complex(planes.movedim(-3, -1).contiguous())


class ProximalSolver:
    """Solves ``(Aᴴ A + λ) d = right``.

    In use that takes a fixed number of conjugate-gradient steps. In training it is a factorisation where whole
    readouts were sampled and maps are given: the network learns to correct what exact data consistency leaves, not
    what some number of steps does. Gradients are those of the exact solution in both (one more solve), so that memory
    does not grow with the number of steps; maps that are themselves trained are differentiated through the steps, and
    so is everything where steps are too few to come near the exact solution.

    Args:
        normal: ``Aᴴ A``.
        weight: λ > 0, ``(B or 1, 1, 1, 1)``.
    """

    def __init__(self, normal: NormalOperator, weight: torch.Tensor) -> None:
        self._normal = normal
        self._weight = weight
        self._implicit = (
            torch.is_grad_enabled()
            and not normal.maps.requires_grad
            and not normal.few_steps
            and not torch.compiler.is_exporting()
        )
        exact = self._implicit and normal.along_k1_alone
        self._inverse = ColumnInverse(normal, weight) if exact else None

    def __call__(self, right: torch.Tensor, iterations: int) -> torch.Tensor:
        """Solve for ``(B, 2, k1, k0)``, by so many steps where there are any."""

        def steps(right: torch.Tensor) -> torch.Tensor:
            return conjugate_gradients(self._normal, right, self._weight, iterations)

        if not self._implicit:
            return steps(right)
        solver = self._inverse or steps
        solution: torch.Tensor = _ImplicitSolve.apply(solver, right, self._weight)  # type: ignore[no-untyped-call]
        return solution


def apply_to_columns(matrices: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """A Hermitian matrix for each column of an image, in real numbers.

    Args:
        matrices: ``(B, 2, k0, k1, k1)`` real and imaginary parts.
        image: ``(B, 2, k1, k0)``.

    Returns:
        ``(B, 2, k1, k0)``.
    """
    # The image's columns as rows on the left: the faster product of the two. The imaginary part of a Hermitian matrix
    # is antisymmetric, and changes its sign there.
    rows = image.permute(0, 3, 1, 2)
    by_real, by_imaginary = rows @ matrices[:, 0], rows @ matrices[:, 1]
    real = by_real[:, :, 0] + by_imaginary[:, :, 1]
    imaginary = by_real[:, :, 1] - by_imaginary[:, :, 0]
    return torch.stack((real, imaginary), dim=1).mT


def conjugate_gradients(
    normal: NormalOperator, right: torch.Tensor, weight: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Solve ``(Aᴴ A + λ) d = right`` by a fixed number of conjugate-gradient steps from zero.

    Args:
        normal: ``Aᴴ A``.
        right: ``(B, 2, k1, k0)``.
        weight: λ > 0, ``(B or 1, 1, 1, 1)``.
        iterations: number of steps.
    """

    def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b).sum(axes, keepdim=True)

    # Networks have a hundred and more of these steps, all written out: everything stays in the shape in which it is
    # multiplied with the maps, and products and sums are one operator where they can be.
    right = normal.aligned(right)
    weight = weight.reshape(-1, *[1] * (right.ndim - 1))
    axes = tuple(range(1, right.ndim))
    tiny = 1e-30  # an empty image has the solution 0, not 0 / 0
    residual = direction = right
    energy = dot(residual, residual)
    solution = torch.zeros_like(right)
    for step in range(iterations):
        image = torch.addcmul(normal(direction), weight, direction)
        alpha = energy / (dot(direction, image) + tiny)
        solution = torch.addcmul(solution, alpha, direction)
        if step + 1 == iterations:
            break
        residual = torch.addcmul(residual, alpha, image, value=-1)
        previous, energy = energy, dot(residual, residual)
        direction = torch.addcmul(residual, energy / (previous + tiny), direction)
    return normal.plain(solution)


class _ImplicitSolve(torch.autograd.Function):
    """With ``M d = r``: ``∂L/∂r = M⁻¹ ∂L/∂d`` and ``∂L/∂λ = −⟨∂L/∂r, d⟩``, as M is Hermitian."""

    @staticmethod
    def forward(
        ctx: Any, solver: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        solution = solver(right)
        ctx.solver = solver
        ctx.save_for_backward(solution, weight)
        return solution

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        solution, weight = ctx.saved_tensors
        back = ctx.solver(grads[0])
        # One λ for the batch or one for each image.
        slope = -(back * solution).sum((1, 2, 3), keepdim=True).sum_to_size(weight.shape)
        return None, back, slope
