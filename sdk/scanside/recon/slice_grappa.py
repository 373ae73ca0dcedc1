"""Split slice-GRAPPA: slices that were read out at once, each as linear combinations of what all coils received.

Cauley et al., *Interslice leakage artifact reduction technique for simultaneous multislice acquisitions*, MRM
72:93 (2014); slice-GRAPPA: Setsompop et al., MRM 67:1210 (2012).

A kernel sits on an acquired line, reads samples around it in all coils (adjacent ones along k0, the next acquired
lines along k1), and gives the samples of one slice at its middle in all coils. It is learned from references of
single slices: from those of its own slice it is to give the samples themselves, from those of every other slice
nothing. So what leaks from one slice into another is part of what is made small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.grappa import find_lattice
from scanside.recon.kernel_fit import mixing_along_readout, normal_equations, solve_normal

__all__ = ["SliceWeights", "calibrate", "separate"]

DEFAULT_KERNEL = (5, 5)
"""Samples read along k0 and k1."""


@dataclass(frozen=True)
class SliceWeights:
    """What `calibrate` learned.

    Attributes:
        values: ``(slice, coil, source)``; sources in the order (k0, k1, coil).
        acceleration: distance of the acquired lines along k1.
        kernel: number of samples read along k0 and k1.
        leakage: ``(slice, slice)``, what comes out in the first from the references of the second, and on the
            diagonal what its own lack, as norms relative to those of the second's references.
    """

    values: torch.Tensor
    acceleration: int
    kernel: tuple[int, int]
    leakage: torch.Tensor

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return int(self.values.shape[-2])

    @property
    def worst_leakage(self) -> float:
        """The largest part of a slice that comes out in another."""
        return float(self.leakage.clone().fill_diagonal_(0).max())


def calibrate(
    references: torch.Tensor,
    acceleration: int,
    kernel: tuple[int, int] = DEFAULT_KERNEL,
    regularisation: float = 1e-4,
) -> SliceWeights:
    """Learn weights from references of single slices, with the phases that they have in the readouts to separate.

    Args:
        references: ``(slice, coil, 1, k1, k0)``, fully sampled lines.
        acceleration: distance of the lines to separate along k1.
        kernel: number of samples to read along k0 and k1, both odd.
        regularisation: Tikhonov weight relative to the mean eigenvalue of the normal matrix.

    Raises:
        CalibrationError: too few lines, or ones that give no solution.
        ShapeError: no references of several slices, or an impossible kernel.
    """
    if references.ndim != 5 or references.shape[2] != 1:
        raise ShapeError(
            f"slice-GRAPPA needs references (slice, coil, 1, k1, k0), got {tuple(references.shape)}"
        )
    w0, w1 = kernel
    if min(w0, w1, acceleration) < 1 or w0 % 2 == 0 or w1 % 2 == 0:
        raise ShapeError(
            f"slice-GRAPPA kernel {kernel} (k0, k1) at acceleration {acceleration}: all must be at least 1, and the "
            "kernel odd"
        )
    n_slices, n_coils, _, n_k1, n_k0 = references.shape
    n_windows, n_weights = n_k1 - (w1 - 1) * acceleration, n_coils * w0 * w1
    if n_slices * max(n_windows, 0) * max(n_k0 - w0 + 1, 0) < n_weights:
        needed = (w1 - 1) * acceleration + -(-n_weights // (n_slices * max(n_k0 - w0 + 1, 1)))
        raise CalibrationError(
            f"references of {n_k1} lines with {n_k0} samples are too few for a slice-GRAPPA kernel of {kernel} (k0, "
            f"k1) at acceleration {acceleration} with {n_coils} coils, which needs {needed} lines side by side; "
            "acquire more, or use a smaller kernel"
        )
    lines = references[:, :, 0].movedim(1, -1)  # (slice, k1, k0, coil)
    taps = [lines[:, tap * acceleration :][:, :n_windows] for tap in range(w1)]
    targets = taps[w1 // 2]
    normal, rhs = normal_equations(torch.cat(taps, -1), targets, w0)
    values = solve_normal(normal.sum(0), rhs, regularisation)
    if values is None:
        raise CalibrationError(
            f"references {tuple(references.shape)} (slice, coil, k2, k1, k0) give no slice-GRAPPA weights: they are "
            "zero or not finite, or the regularisation is too small"
        )
    middle = targets[:, :, w0 // 2 : n_k0 - w0 // 2]
    return SliceWeights(values, acceleration, kernel, _leakage(values, normal, rhs, middle))


def separate(weights: SliceWeights, kspace: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """The lines of each slice.

    Where a kernel reaches beyond the acquired lines, it reads zeros; along k0 it wraps around.

    Args:
        weights: from `calibrate`.
        kspace: ``(*other, coil, 1, k1, k0)``, of all slices together.
        sampled: ``(1, k1)`` bool, which lines were acquired; those between the lines of the lattice are left out.

    Returns:
        ``(slice, *other, coil, 1, k1, k0)``, zero where no line of the lattice was acquired.

    Raises:
        ShapeError: k-space, mask and weights do not fit, or the lines do not form a regular lattice.
    """
    n_coils, n_k2, n_k1, n_k0 = kspace.shape[-4:]
    if n_coils != weights.n_coils or n_k2 != 1 or sampled.shape != (1, n_k1):
        raise ShapeError(
            f"slice-GRAPPA weights for {weights.n_coils} coils and a mask {tuple(sampled.shape)} do not fit k-space "
            f"{tuple(kspace.shape)}: expected (*other, coil, 1, k1, k0) and (1, k1)"
        )
    r, (w0, w1) = weights.acceleration, weights.kernel
    first, _ = find_lattice(sampled, (r, 1))
    acquired = sampled[0, first::r].to(kspace.device)
    hybrid = torch.fft.ifft(kspace[..., 0, first::r, :] * acquired[:, None], dim=-1)
    n_lines = hybrid.shape[-2]
    padded = hybrid.new_zeros(*hybrid.shape[:-3], n_k0, n_lines + w1 - 1, n_coils)
    padded[..., w1 // 2 : w1 // 2 + n_lines, :] = hybrid.movedim((-1, -3), (-3, -1))
    around = torch.cat(
        [padded[..., tap : tap + n_lines, :] for tap in range(w1)], -1
    )  # (*other, x, line, source)
    result = kspace.new_zeros(len(weights.values), *kspace.shape)
    for values, slice_ in zip(weights.values, result, strict=True):
        found = around @ mixing_along_readout(values, w0, n_k0)
        found = torch.fft.fft(found.movedim((-3, -1), (-1, -3)), dim=-1)
        slice_[..., 0, first::r, :] = found * acquired[:, None]
    return result


def _leakage(
    values: torch.Tensor, normal: torch.Tensor, rhs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Norms ``(slice, slice)`` as in `SliceWeights`.

    Args:
        values: ``(slice, coil, source)``.
        normal: ``Aᴴ A`` of each slice's references, ``(slice, source, source)``.
        rhs: ``Aᴴ B``, ``(slice, source, coil)``.
        targets: ``B``, ``(slice, window, k0, coil)``.
    """
    weights = values.mT  # (slice, source, coil)
    given = torch.stack([(weights.conj() * (one @ weights)).sum((-2, -1)).real for one in normal], 1)
    energy = targets.abs().square().sum((-3, -2, -1))
    own = given.diagonal() - 2 * (weights.conj() * rhs).sum((-2, -1)).real + energy
    lost = torch.where(torch.eye(len(values), dtype=torch.bool, device=values.device), own[:, None], given)
    return (lost.clamp(min=0) / energy).sqrt()
