"""Kernels that give samples of k-space as linear combinations of those around: how they are fitted and applied."""

from __future__ import annotations

import torch

__all__ = ["mixing_along_readout", "normal_equations", "solve_normal"]


def normal_equations(
    sources: torch.Tensor, targets: torch.Tensor, w0: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``Aᴴ A`` and ``Aᴴ B`` of the equations ``A x = B``.

    A row of ``A`` holds ``w0`` adjacent k0 samples of one window, a row of ``B`` the targets at their middle.
    ``Aᴴ A`` is made of ``w0 x w0`` blocks, one per pair of shifts along k0. Block ``(a + 1, b + 1)`` sums the
    same products as block ``(a, b)`` but for one sample at each end of the readout, so only the first row of
    blocks is computed in full: ``w0`` times less work.

    Args:
        sources: ``(*other, window, k0, source line and coil)``.
        targets: ``(*other, window, k0, target)``.
        w0: the kernel's length along k0.

    Returns:
        ``(*other, source, source)`` and ``(*other, source, target)``, sources ordered (k0, line, coil).
    """
    n = sources.shape[-2] - w0 + 1
    p = sources.shape[-1]
    a = sources.unfold(-2, w0, 1).mT.flatten(-2).flatten(-3, -2)  # (*other, equation, w0 p)
    b = targets[..., w0 // 2 : w0 // 2 + n, :].flatten(-3, -2)
    products = torch.cat([a[..., :p], b], -1).mH @ a
    rhs = products[..., p:, :].mH

    first, last = sources[..., : w0 - 1, :].flatten(-2), sources[..., n:, :].flatten(-2)
    step = last.mH @ last - first.mH @ first  # what block (a, b) has to gain to become (a + 1, b + 1)
    normal = products.new_empty(*products.shape[:-2], w0 * p, w0 * p)
    normal[..., :p, :] = products[..., :p, :]
    for i in range(1, w0):
        now, before = slice(i * p, (i + 1) * p), slice((i - 1) * p, i * p)
        normal[..., now, i * p :] = normal[..., before, (i - 1) * p : -p] + step[..., before, (i - 1) * p :]
        normal[..., now, : i * p] = normal[..., : i * p, now].mH
    return normal, rhs


def solve_normal(normal: torch.Tensor, rhs: torch.Tensor, regularisation: float) -> torch.Tensor | None:
    """Weights ``(*other, target, source)`` with ``(Aᴴ A + λ) wᵀ = Aᴴ B``.

    Args:
        normal: ``Aᴴ A``, ``(*other, source, source)``; it is changed.
        rhs: ``Aᴴ B``, ``(*other, source, target)``.
        regularisation: λ relative to the mean eigenvalue of ``Aᴴ A``.

    Returns:
        None where there is no solution: the equations are zero or not finite, or λ is too small.
    """
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    mean_eigenvalue = diagonal.real.mean(-1, keepdim=True)
    diagonal += regularisation * mean_eigenvalue
    factor, failed = torch.linalg.cholesky_ex(normal)
    if bool(failed.any()):
        return None
    return torch.cholesky_solve(rhs, factor).mT.contiguous()


def mixing_along_readout(values: torch.Tensor, w0: int, n_k0: int) -> torch.Tensor:
    """Weights as small matrices ``(*other, x, source line and coil, target)``, one for each place along the readout.

    Shifts along k0 are phase ramps along x.

    Args:
        values: ``(*other, target, source)``, sources ordered (k0, line, coil).
        w0: the kernel's length along k0.
        n_k0: number of samples of a readout.
    """
    position = torch.arange(n_k0, device=values.device, dtype=torch.float64)[:, None]
    shift = torch.arange(w0, device=values.device, dtype=torch.float64) - w0 // 2
    ramps = torch.exp(-2j * torch.pi / n_k0 * position * shift).to(values.dtype)
    by_shift = values.reshape(*values.shape[:-1], w0, -1)
    return torch.einsum("xd,...tdp->...xpt", ramps, by_shift)
