"""The dot-product test: does an operator's adjoint belong to the operator?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["assert_adjoint"]


def assert_adjoint(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    domain_shape: Sequence[int],
    range_shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
    seed: int = 0,
    rtol: float | None = None,
) -> None:
    """Check that ``⟨A u, v⟩ = ⟨u, Aᴴ v⟩`` for random ``u`` and ``v``, and that ``A`` is linear.

    Both sides are summed in double precision. A wrong sign, a missing conjugate, a scale factor or a shift by
    one sample in either function makes the two sides differ by far more than the tolerance.

    Args:
        forward: the operator ``A``, from ``domain_shape`` to ``range_shape``.
        adjoint: its adjoint ``Aᴴ``, from ``range_shape`` to ``domain_shape``.
        domain_shape: shape of what ``forward`` takes.
        range_shape: shape of what ``forward`` gives.
        dtype: real or complex floating type of the random tensors.
        device: where they are made.
        seed: of the random numbers.
        rtol: largest difference of the two sides relative to ``‖A u‖·‖v‖``; by default 100 times the
            precision of ``dtype``.

    Raises:
        AssertionError: if a shape is not the announced one, if ``forward`` is not linear, or if ``adjoint``
            is not its adjoint; says by how much.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator).to(device)

    u, u2, v = random(domain_shape), random(domain_shape), random(range_shape)
    tolerance = 100 * torch.finfo(dtype).eps if rtol is None else rtol
    # The operators may work in place, so each gets its own copy.
    a_u, ah_v = forward(u.clone()), adjoint(v.clone())
    if a_u.shape != v.shape:
        raise AssertionError(f"forward gives shape {tuple(a_u.shape)}, expected {tuple(v.shape)}")
    if ah_v.shape != u.shape:
        raise AssertionError(f"adjoint gives shape {tuple(ah_v.shape)}, expected {tuple(u.shape)}")

    factor = 0.6 - 0.8j if dtype.is_complex else -0.6
    combined = forward(factor * u + u2)
    expected = factor * a_u + forward(u2.clone())
    defect = _norm(combined - expected) / max(_norm(expected), torch.finfo(dtype).tiny)
    if not defect <= tolerance:
        raise AssertionError(
            f"forward is not linear: A(a·u + w) differs from a·A(u) + A(w) by {defect:.2e} of its norm "
            f"(allowed {tolerance:.2e})"
        )

    left, right = _inner(a_u, v), _inner(u, ah_v)
    scale = max(_norm(a_u) * _norm(v), torch.finfo(dtype).tiny)
    if not abs(left - right) / scale <= tolerance:
        raise AssertionError(
            f"not adjoint: <A u, v> = {left:.6g}, <u, A^H v> = {right:.6g}, "
            f"they differ by {abs(left - right) / scale:.2e} of |A u|·|v| (allowed {tolerance:.2e})"
        )


def _inner(a: Tensor, b: Tensor) -> complex:
    wide = torch.complex128
    return complex(torch.vdot(a.to(wide).flatten(), b.to(wide).flatten()).item())


def _norm(a: Tensor) -> float:
    return float(torch.linalg.vector_norm(a.to(torch.complex128)).item())
