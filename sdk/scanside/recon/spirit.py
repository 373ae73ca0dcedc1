"""SPIRiT: every sample of k-space is what its neighbours in all coils say it is.

Lustig, Pauly: *SPIRiT: iterative self-consistent parallel imaging reconstruction from arbitrary k-space*, MRM
64:457-471 (2010).

`calibrate` learns from fully sampled lines how a sample depends on those around it. `fill` looks for the missing
lines with which all of k-space depends on itself like that, acquired lines staying as they are. `fill_sparse` has
the coils' images sparse in wavelets besides, those of a film along time, too.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.cg import CgResult, conjugate_gradient
from scanside.recon.compressed_sensing.descent import Descent
from scanside.recon.compressed_sensing.fista import fista
from scanside.recon.compressed_sensing.shrinkage import WaveletShrinkage
from scanside.recon.fourier import spatial_dims, to_image, to_kspace
from scanside.recon.wavelet import Wavelet

__all__ = ["SelfConsistency", "calibrate", "fill", "fill_sparse"]


def calibrate(
    acs: torch.Tensor, kernel: tuple[int, int, int] = (5, 5, 5), regularisation: float = 1e-3
) -> torch.Tensor:
    """Learn the kernels from fully sampled calibration lines, by least squares with Tikhonov regularisation.

    Args:
        acs: ``(coil, k2, k1, k0)`` complex.
        kernel: samples read along k0, k1 and k2, odd; along k2 one is read where there is one line only.
        regularisation: Tikhonov weight relative to the mean eigenvalue of the normal matrix.

    Returns:
        ``(target coil, source coil, w2, w1, w0)``; 0 where a sample would say what it is itself.

    Raises:
        CalibrationError: the block is too small for the kernel, or holds nothing.
        ShapeError: no such block, or a kernel that is even.
    """
    if acs.ndim != 4 or any(w < 1 or w % 2 == 0 for w in kernel):
        raise ShapeError(
            f"SPIRiT needs calibration lines (coil, k2, k1, k0) and a kernel of odd lengths (k0, k1, k2), got "
            f"{tuple(acs.shape)} and {kernel}"
        )
    widths, positions, n_weights = check_amount((*acs.shape,), kernel)
    n_coils = len(acs)
    windows = acs
    for dim, width in zip((1, 2, 3), widths, strict=True):
        windows = windows.unfold(dim, width, 1)
    rows = windows.movedim(0, 3).reshape(positions, n_weights)
    normal = rows.mH @ rows
    mean = normal.diagonal().real.mean()
    own = [n_weights // n_coils * coil + n_weights // n_coils // 2 for coil in range(n_coils)]
    kernels = acs.new_zeros(n_coils, n_weights)
    for coil, place in enumerate(own):
        others = torch.arange(n_weights, device=acs.device) != place
        matrix = normal[others][:, others]
        matrix.diagonal().add_(regularisation * mean)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if bool(failed):
            raise CalibrationError(
                f"SPIRiT calibration data {tuple(acs.shape)} give no solution: they are zero or not finite, or the "
                "regularisation is too small"
            )
        kernels[coil, others] = torch.cholesky_solve(normal[others, place][:, None], factor)[:, 0]
    return kernels.reshape(n_coils, n_coils, *widths)


def check_amount(
    shape: tuple[int, ...], kernel: tuple[int, int, int]
) -> tuple[tuple[int, int, int], int, int]:
    """Widths (w2, w1, w0) of the kernels, and how many equations and weights calibration lines give.

    Args:
        shape: ``(coil, k2, k1, k0)`` of the lines.
        kernel: as in `calibrate`.

    Raises:
        CalibrationError: the block is too small for the kernel.
    """
    n_coils, *sizes = shape
    widths = (1 if sizes[0] == 1 else kernel[2], kernel[1], kernel[0])
    positions = math.prod(max(n - w + 1, 0) for n, w in zip(sizes, widths, strict=True))
    n_weights = n_coils * math.prod(widths)
    if positions < n_weights:
        raise CalibrationError(
            f"SPIRiT calibration (ACS) block of {sizes[1]} k1 x {sizes[0]} k2 lines with {sizes[2]} samples is too "
            f"small: a kernel of {kernel} (k0, k1, k2) and {n_coils} coils has {n_weights} weights and the block "
            f"gives {positions} equations; acquire more lines, or use a smaller kernel"
        )
    return widths, positions, n_weights


class SelfConsistency:
    """``Q = (G − 1)ᴴ (G − 1)`` on images of coils: how far k-space is from what its kernels make of it.

    A convolution along k-space is a product of small matrices with every voxel.

    Args:
        kernels: ``(target coil, source coil, w2, w1, w0)`` from `calibrate`.
        shape: of the image ``(z, y, x)``.

    Raises:
        ShapeError: the grid is smaller than the kernels.
    """

    def __init__(self, kernels: torch.Tensor, shape: tuple[int, int, int]) -> None:
        if any(n < w for n, w in zip(shape, kernels.shape[2:], strict=True)):
            raise ShapeError(
                f"SPIRiT kernels {tuple(kernels.shape[2:])} (k2, k1, k0) do not fit the grid {shape}"
            )
        gain = kernels
        for dim, n in zip((2, 3, 4), shape, strict=True):
            width = gain.shape[dim]
            offset = torch.arange(width, dtype=torch.float64) - width // 2
            place = torch.arange(n, dtype=torch.float64) - n // 2
            turns = torch.exp(-2j * torch.pi / n * place[:, None] * offset).to(gain)
            gain = torch.tensordot(gain, turns, ([dim], [1])).movedim(-1, dim)
        coils = range(len(gain))
        for coil in coils:
            gain[coil, coil] -= 1
        # Voxel by voxel a Hermitian matrix.
        self._matrix = torch.stack(
            [torch.stack([(gain[:, a].conj() * gain[:, b]).sum(0) for b in coils]) for a in coils]
        )

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Of ``Q``."""
        matrices = self._matrix.flatten(2).movedim(-1, 0)
        return float(torch.linalg.eigvalsh(matrices)[:, -1].max())

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """``Q`` on images ``(*, coil, z, y, x)``."""
        return torch.stack([(row * images).sum(-4) for row in self._matrix], -4)


def fill(
    consistency: SelfConsistency,
    kspace: torch.Tensor,
    missing: torch.Tensor,
    *,
    l2: float = 0.0,
    tolerance: float,
    max_iterations: int,
) -> CgResult:
    """Find the missing lines m with which ``‖(G − 1) k‖² + l2 ‖m‖²`` is smallest.

    Args:
        consistency: from the kernels.
        kspace: ``(*other, coil, k2, k1, k0)`` complex, 0 where it is missing.
        missing: ``(*other, k2, k1)`` bool, the lines that are to be found.
        l2: Tikhonov weight.
        tolerance: of the residual, relative to the right-hand side.
        max_iterations: of conjugate gradients.

    Returns:
        Its solution is the missing lines, 0 elsewhere: add them to the k-space. Frames are systems of their own.
    """
    dims = spatial_dims(kspace)
    unknown = missing[..., None, :, :, None]

    def inconsistent(lines: torch.Tensor) -> torch.Tensor:
        return to_kspace(consistency(to_image(lines, dims)), dims) * unknown

    return conjugate_gradient(
        lambda lines: inconsistent(lines) + l2 * lines,
        -inconsistent(kspace),
        tolerance=tolerance,
        max_iterations=max_iterations,
        dims=(-4, -3, -2, -1),
    )


def fill_sparse(
    consistency: SelfConsistency,
    kspace: torch.Tensor,
    missing: torch.Tensor,
    *,
    wavelet: Wavelet,
    weight: float,
    consistency_weight: float = 1.0,
    tolerance: float,
    max_iterations: int,
) -> Descent:
    """Minimise ``½ |D F x − y|² + ½ consistency_weight |(G − 1) x|² + weight |W x|₁`` over the coils' images x.

    Coefficients of all coils at one place have one magnitude together: Murphy et al., *Fast l1-SPIRiT compressed
    sensing parallel imaging MRI*, IEEE Trans Med Imaging 31:1250-1262 (2012); with wavelets along time, too: Xue et
    al., *Distributed MRI reconstruction using Gadgetron-based cloud computing*, MRM 73:1015-1025 (2015). There
    acquired samples are fixed; here they are a term of what is minimised.

    Args:
        consistency: from the kernels.
        kspace: ``(time, coil, k2, k1, k0)`` or ``(coil, k2, k1, k0)`` complex, y: 0 where it is missing.
        missing: ``(time, k2, k1)`` or ``(k2, k1)`` bool; D takes all others.
        wavelet: of films ``(time, z, y, x)`` or images ``(z, y, x)``; of sizes that halve evenly, others are
            continued, see `Wavelet`.
        weight: of wavelet coefficients, in the unit of the images.
        consistency_weight: as above.
        tolerance: stop when x changes by less than this part of itself.
        max_iterations: stop then at the latest.

    Returns:
        The coils' images, in the order of `kspace`.
    """
    dims = spatial_dims(kspace)
    known = ~missing[..., None, :, :, None]
    # Wavelets run over the last axes, so that coils come first there.
    is_film = kspace.ndim == 5

    def turned(images: torch.Tensor) -> torch.Tensor:
        return images.transpose(0, 1).contiguous() if is_film else images

    def normal(images: torch.Tensor) -> torch.Tensor:
        inside = turned(wavelet.cut(images))
        seen = to_image(to_kspace(inside, dims) * known, dims)
        return wavelet.continued(turned(seen.add_(consistency(inside), alpha=consistency_weight)))

    right = wavelet.continued(turned(to_image(kspace * known, dims)))
    joint = -1 - len(wavelet.shape)
    result = fista(
        normal,
        right,
        WaveletShrinkage(weight, wavelet, joint=joint),
        # Samples that were acquired have the eigenvalue 1 at most, as transforms keep lengths.
        lipschitz=1 + consistency_weight * consistency.largest_eigenvalue,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    return Descent(turned(wavelet.cut(result.solution)), result.changes, result.converged)
