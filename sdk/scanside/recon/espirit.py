"""ESPIRiT: coil sensitivity maps from the null space of the calibration data.

Uecker et al., *ESPIRiT — an eigenvalue approach to autocalibrating parallel MRI: where SENSE meets GRAPPA*,
MRM 71:990-1001 (2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.coil_maps import virtual_coil, zero_phase_in
from scanside.recon.fourier import to_image

__all__ = ["FEW", "espirit", "espirit_sets", "fitting_kernel"]

FEW = 4
"""So many voxels of an axis are taken one by one: so few lines span no space of patches."""

_SECOND = (
    0.8  # a second set takes an eigenvalue of this at least, although a lower crop keeps the first everywhere
)
_ROUNDED = 1 - 1e-4  # so far below its bound an eigenvalue may seem to lie by rounding
_SMALL = 2048  # up to this size all eigenvectors of a matrix are found within seconds
_SHARE = 8  # of a larger one this part is looked for; it was twice what is needed for 24 coils in 3-D
_ITERATIONS = 3
_Sets: TypeAlias = tuple[torch.Tensor, torch.Tensor | None]
_LEAST = 3  # with maps of fewer lines an image is worse than with those that are missing left zero


def fitting_kernel(
    acs: torch.Tensor, shape: tuple[int, int, int], kernel: int = 6, calibration: int = 24
) -> tuple[int, int, int]:
    """The largest kernel (k2, k1, k0) up to a size that a calibration block can tell: half of the block's lines.

    Args:
        acs: ``(*other, coil, k2, k1, k0)`` complex64 without gaps.
        shape: ``(z, y, x)`` of the maps.
        kernel: longest edge.
        calibration: longest edge of the block that is used.

    Raises:
        CalibrationError: there are fewer than three adjacent lines or samples along an axis, and more voxels.
    """
    block = [min(n, calibration) for n in acs.shape[-3:]]
    if any(n < min(_LEAST, m) for n, m in zip(block, shape, strict=True)):
        raise CalibrationError(
            f"the ESPIRiT calibration block has {_by_axis(block)} lines and samples (k2 x k1 x k0) for maps of "
            f"{_by_axis(shape)} voxels: at least {_LEAST} along each axis are needed; acquire more calibration (ACS) "
            "lines, or check the encoded matrix in the header"
        )
    k2, k1, k0 = (min(kernel, (n + 1) // 2) for n in block)
    return k2, k1, k0


def espirit(
    acs: torch.Tensor,
    shape: tuple[int, int, int],
    kernel: int | tuple[int, int, int] = 6,
    calibration: int = 24,
    threshold: float = 0.0316,
    crop: float = 0.8,
) -> torch.Tensor:
    """Coil maps from a fully sampled block of k-space.

    All patches of the block lie in a space of few dimensions. In the image domain this says that the coil
    sensitivities of a voxel are an eigenvector, with eigenvalue 1, of a small matrix made from that space.
    The defaults are those of BART's ``ecalib``, whose ``-t`` is the square of ``threshold``.

    Args:
        acs: ``(*other, coil, k2, k1, k0)`` complex64 without gaps, of which the middle is used; 3-D where there
            is more than one k2 line.
        shape: ``(z, y, x)`` of the maps.
        kernel: edge of a patch in samples, or its edges along (k2, k1, k0).
        calibration: longest edge of the block that is used, in samples.
        threshold: singular values below this part of the largest belong to the null space.
        crop: maps are set to 0 where the eigenvalue lies below this, which is where there is no object.

    Returns:
        Maps ``(*other, coil, z, y, x)`` with ``Σ_coil |map|² = 1`` inside the object. Their phase is such that the
        principal component of the coils in the block, as one virtual coil, has zero phase, as BART has it.

    Raises:
        CalibrationError: the block is smaller than ``2 kernel - 1`` along an axis, or gives fewer patches than coils.
        ShapeError: not a k-space block, or a shape that does not fit.
    """
    return _sets(acs, shape, kernel, calibration, threshold, crop, 1)[0]


def espirit_sets(
    acs: torch.Tensor,
    shape: tuple[int, int, int],
    kernel: int | tuple[int, int, int] = 6,
    calibration: int = 24,
    threshold: float = 0.0316,
    crop: float = 0.8,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Two sets of coil maps, for voxels that hold the tissue of two places.

    Where an object is larger than the field of view, tissue lies over tissue that the coils see otherwise, or the
    sensitivities of one edge and of the opposite one meet: a second eigenvalue is 1 there, too.

    Args:
        acs: as `espirit`, like all that follow.
        shape: of the maps.
        kernel: edge of a patch.
        calibration: longest edge of the block.
        threshold: of singular values.
        crop: of the eigenvalues of both sets; that of the second one is not below 0.8.

    Returns:
        The maps of `espirit` and, of the same shape, those of the second eigenvector: orthogonal to the first, of
        length 1 where its eigenvalue reaches the crop, else 0; None where that is nowhere.

    Raises:
        CalibrationError: as `espirit`.
        ShapeError: as `espirit`.
    """
    return _sets(acs, shape, kernel, calibration, threshold, crop, 2)


def _sets(
    acs: torch.Tensor,
    shape: tuple[int, int, int],
    kernel: int | tuple[int, int, int],
    calibration: int,
    threshold: float,
    crop: float,
    n_sets: int,
) -> _Sets:
    """Maps ``(*other, coil, z, y, x)``, and those of the second set, where there are any and they are asked for."""
    if acs.ndim < 4 or (acs.shape[-3] == 1) != (shape[0] == 1):
        raise ShapeError(
            f"ESPIRiT needs a calibration block (*other, coil, k2, k1, k0) and the shape (z, y, x) of the maps, "
            f"both 2-D or both 3-D; got {tuple(acs.shape)} and {shape}"
        )
    for axis in (-3, -2):
        if 1 < acs.shape[axis] == shape[axis] <= FEW:
            return _one_by_one(acs, shape, axis, kernel, calibration, threshold, crop, n_sets)
    for axis in (-3, -2, -1):
        n = min(acs.shape[axis], calibration)
        acs = acs.narrow(axis, acs.shape[axis] // 2 - n // 2, n)
    edges = (kernel,) * 3 if isinstance(kernel, int) else kernel
    sizes = (1 if shape[0] == 1 else edges[0], 1 if shape[1] == 1 else edges[1], edges[2])
    _check_amount(acs, sizes)
    leading = acs.shape[:-3]
    made = [_maps(block, shape, sizes, threshold, crop, n_sets) for block in acs.reshape(-1, *acs.shape[-4:])]
    return _joined(made, lambda maps: torch.stack(maps).reshape(*leading, *shape))


def _one_by_one(
    acs: torch.Tensor,
    shape: tuple[int, int, int],
    axis: int,
    kernel: int | tuple[int, int, int],
    calibration: int,
    threshold: float,
    crop: float,
    n_sets: int,
) -> _Sets:
    """Maps for each of the few voxels of an axis, from the image that its lines give."""
    one = (1, *shape[1:]) if axis == -3 else (shape[0], 1, shape[2])
    images = to_image(acs, (axis,))
    made = [
        _sets(images.narrow(axis, i, 1), one, kernel, calibration, threshold, crop, n_sets)
        for i in range(shape[axis])
    ]
    virtual = virtual_coil(acs)
    return _joined(made, lambda maps: zero_phase_in(virtual, torch.cat(maps, axis)))


def _joined(made: Sequence[_Sets], join: Callable[[list[torch.Tensor]], torch.Tensor]) -> _Sets:
    """Both sets of several pieces; a piece without a second set has zeros there, unless none has one."""
    first = join([maps for maps, _ in made])
    if all(maps is None for _, maps in made):
        return first, None
    return first, join([torch.zeros_like(one) if two is None else two for one, two in made])


def _check_amount(acs: torch.Tensor, sizes: tuple[int, int, int]) -> None:
    """Refuse blocks of which the space of patches cannot be told.

    A block must move by a kernel's length along every axis. With less, the patches span hardly more than themselves:
    eigenvalues rise to 1 outside the object too or fall inside it, and maps are holes and noise.
    """
    n_coils, *block = acs.shape[-4:]
    needed = [2 * k - 1 for k in sizes]
    if any(n < least for n, least in zip(block, needed, strict=True)):
        raise CalibrationError(
            f"the ESPIRiT calibration block of {_by_axis(block)} lines and samples (k2 x k1 x k0) is too small for a "
            f"kernel of {_by_axis(sizes)}: at least {_by_axis(needed)} are needed; acquire more calibration (ACS) "
            "lines, allow a larger coil-maps.calibration if that is what limits them, or set a smaller "
            f"coil-maps.kernel ({(min(n for n, k in zip(block, sizes, strict=True) if k > 1) + 1) // 2} fits)"
        )
    patches = math.prod(n - k + 1 for n, k in zip(block, sizes, strict=True))
    if patches < n_coils:
        raise CalibrationError(
            f"the ESPIRiT calibration block of {_by_axis(block)} lines and samples (k2 x k1 x k0) gives {patches} "
            f"patches of {_by_axis(sizes)} for {n_coils} coils: acquire more calibration lines"
        )


def _by_axis(values: Sequence[int]) -> str:
    return " x ".join(map(str, values))


def _maps(
    acs: torch.Tensor,
    shape: tuple[int, int, int],
    sizes: tuple[int, int, int],
    threshold: float,
    crop: float,
    n_sets: int,
) -> _Sets:
    """Maps ``(coil, z, y, x)`` from one block ``(coil, k2, k1, k0)``; zeros where it holds no signal at all."""
    if not acs.any():
        return acs.new_zeros(len(acs), *shape), None
    operator = _autocorrelation(_row_space(acs, sizes, threshold)) / math.prod(sizes)
    to_z, to_y, to_x = (_fourier_sum(n, k, acs) for n, k in zip(shape, sizes, strict=True))
    maps, second = acs.new_empty(len(acs), *shape), None
    for z in range(
        shape[0]
    ):  # slice by slice, because the matrices take n_coils times the memory of the maps
        in_slice = (operator * to_z[z][:, None, None]).sum(-3)
        matrices = (to_y @ in_slice @ to_x.mT).permute(2, 3, 0, 1)
        values, vectors = _leading_pairs(matrices, crop)
        inside = values[..., -1:] >= crop
        maps[:, z] = (vectors[..., -1] * inside).permute(2, 0, 1)
        if n_sets > 1 and bool((twice := values[..., :1] >= max(crop, _SECOND)).any()):
            second = torch.zeros_like(maps) if second is None else second
            second[:, z] = (vectors[..., 0] * twice).permute(2, 0, 1)
    virtual = virtual_coil(acs)
    return zero_phase_in(virtual, maps), None if second is None else zero_phase_in(virtual, second)


def _leading_pairs(matrices: torch.Tensor, crop: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The two largest eigenvalues of positive matrices ``(y, x, n, n)``, and their eigenvectors.

    Outside of the object the largest is below the crop, and often that is known without it: no eigenvalue exceeds the
    root of the sum of the squares of a matrix.

    Returns:
        ``(y, x, 2)`` ascending and ``(y, x, n, 2)``; zeros where they are not looked for, or there is no second one.
    """
    bound = torch.view_as_real(matrices).square().sum((-3, -2, -1)).sqrt()
    possible = bound >= crop * _ROUNDED
    values, vectors = torch.linalg.eigh(matrices[possible])
    n = matrices.shape[-1]
    found = values.new_zeros(*possible.shape, 2), vectors.new_zeros(*possible.shape, n, 2)
    found[0][..., -n:][possible] = values[..., -2:]
    found[1][..., -n:][possible] = vectors[..., -2:]
    return found


def _row_space(acs: torch.Tensor, sizes: tuple[int, int, int], threshold: float) -> torch.Tensor:
    """Orthonormal patches ``(n, coil, k2, k1, k0)`` that span all patches of the block, but for noise."""
    patches = acs.unfold(1, sizes[0], 1).unfold(2, sizes[1], 1).unfold(3, sizes[2], 1)
    rows = patches.permute(1, 2, 3, 0, 4, 5, 6).reshape(-1, len(acs) * math.prod(sizes))
    if len(rows) < rows.shape[1]:
        # The singular vectors of the other side are fewer, and lead to the same space.
        leading = _leading_eigenvectors(rows.conj() @ rows.mT, threshold**2)
        leading = torch.linalg.qr(rows.mT @ leading).Q
    else:
        leading = _leading_eigenvectors(rows.mT @ rows.conj(), threshold**2)
    return leading.mT.reshape(-1, len(acs), *sizes)


def _leading_eigenvectors(gram: torch.Tensor, threshold: float) -> torch.Tensor:
    """Eigenvectors ``(n, m)`` of a positive matrix whose eigenvalue exceeds this part of the largest.

    Of a large matrix few do: then subspace iteration takes a fraction of the time of all eigenvectors. It starts from
    random vectors of a fixed seed and finds those that are well above the threshold to many digits (Halko,
    Martinsson, Tropp, SIAM Review 53:217 (2011)).
    """
    n = len(gram)
    if n > _SMALL:
        generator = torch.Generator(gram.device).manual_seed(0)
        shape = (n, n // _SHARE)
        basis = torch.randn(shape, dtype=gram.dtype, device=gram.device, generator=generator)
        for _ in range(_ITERATIONS):
            basis = torch.linalg.qr(gram @ basis).Q
        values, vectors = torch.linalg.eigh(basis.mH @ (gram @ basis))
        if values[0] < threshold / 2 * values[-1]:
            leading: torch.Tensor = basis @ vectors[:, values > threshold * values[-1]]
            return leading
    values, vectors = torch.linalg.eigh(gram)
    kept: torch.Tensor = vectors[:, values > threshold * values[-1]]
    return kept


def _autocorrelation(patches: torch.Tensor) -> torch.Tensor:
    """``r[a, b, lag] = Σ_n Σ_d patch_n[a, d + lag] conj(patch_n[b, d])``, negative lags at the end as in an FFT."""
    dims = (-3, -2, -1)
    size = [2 * k - 1 for k in patches.shape[-3:]]
    spectra: torch.Tensor = torch.fft.fftn(patches, size, dims).permute(
        2, 3, 4, 1, 0
    )  # (*frequency, coil, n)
    correlation: torch.Tensor = torch.fft.ifftn((spectra @ spectra.mH).permute(3, 4, 0, 1, 2), dim=dims)
    return correlation


def _fourier_sum(n: int, k: int, like: torch.Tensor) -> torch.Tensor:
    """``exp(2πi lag (x - n//2) / n)``, ``(n, 2 k - 1)``: from lags to the voxels of an axis."""
    lag = torch.cat([torch.arange(k), torch.arange(1 - k, 0)]).to(torch.float64)
    x = torch.arange(n, dtype=torch.float64)[:, None] - n // 2
    return torch.exp(2j * torch.pi / n * x * lag).to(like.dtype).to(like.device)
