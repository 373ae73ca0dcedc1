"""Other matrices and fields of view: cropping, padding, interpolation, readout oversampling.

Index ``N // 2`` is the centre before and after, in k-space and in the image, for even and odd sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanside.errors import ShapeError
from scanside.recon.fourier import to_image, to_kspace

__all__ = ["crop_or_pad", "remove_oversampling", "resample_fov", "same_voxel"]

#: Voxel sizes that differ by less than this fraction are the same: headers round them.
_SAME_VOXEL = 1e-4


def crop_or_pad(data: Tensor, sizes: Sequence[int], dims: Sequence[int] = (-2, -1)) -> Tensor:
    """Cut axes to new sizes, or extend them by zeros, so that index ``N // 2`` comes to ``M // 2``.

    Cropping and padding between the same two sizes are adjoint to each other.

    Args:
        data: tensor of any shape and type.
        sizes: the new length of each axis of ``dims``, at least 1.
        dims: the axes to change, each at most once.

    Returns:
        A view where nothing is padded, else a new tensor.

    Raises:
        ShapeError: if there are not as many sizes as axes, an axis does not exist or is named twice, or a
            size is less than 1.
    """
    axes = _checked(data, sizes, dims)
    kept = data
    shape = list(data.shape)
    target: list[slice] = [slice(None)] * data.ndim
    for axis, size in zip(axes, sizes, strict=True):
        shift = size // 2 - data.shape[axis] // 2
        if size <= data.shape[axis]:
            kept = kept.narrow(axis, -shift, size)
        else:
            target[axis] = slice(shift, shift + data.shape[axis])
        shape[axis] = size
    if kept.shape == torch.Size(shape):
        return kept
    padded = data.new_zeros(shape)
    padded[tuple(target)] = kept
    return padded


def same_voxel(a: float, b: float) -> bool:
    """Whether two voxel sizes are the same but for the rounding of a header: `resample_fov` then only crops."""
    return abs(a / b - 1) <= _SAME_VOXEL


def resample_fov(
    image: Tensor,
    encoded_fov: Sequence[float],
    recon_fov: Sequence[float],
    recon_matrix: Sequence[int],
    dims: Sequence[int] = (-2, -1),
) -> Tensor:
    """Bring an image from the field of view and matrix of its encoding to those of reconstruction.

    Voxels of unchanged size are cropped or padded. Others are interpolated with the image's own Fourier
    series: zero-filling or cropping of k-space, but for any ratio and without the ringing that the edges of
    a cropped image would cause. Larger voxels keep the spatial frequencies that they can hold. Values
    stay those of the image, whatever the matrix, and the voxel ``N // 2`` stays where it was. What lies
    outside the encoded field of view is zero.

    Args:
        image: real or complex, for instance ``(*other, coil, z, y, x)``.
        encoded_fov: extent of the image along ``dims``, in mm.
        recon_fov: the extent to bring it to, in mm.
        recon_matrix: the number of voxels over that extent.
        dims: the axes, each at most once.

    Returns:
        The image with ``recon_matrix`` along ``dims``, same type; a view where it only crops.

    Raises:
        ShapeError: if the arguments' lengths differ, an extent is not positive, or an axis does not exist,
            is named twice or would become shorter than 1.
    """
    if not len(encoded_fov) == len(recon_fov) == len(recon_matrix) == len(dims):
        raise ShapeError(
            f"for dims {tuple(dims)} expected as many extents and sizes, got encoded FOV {tuple(encoded_fov)}, "
            f"recon FOV {tuple(recon_fov)}, recon matrix {tuple(recon_matrix)}"
        )
    if not all(extent > 0 and math.isfinite(extent) for extent in (*encoded_fov, *recon_fov)):
        raise ShapeError(
            f"fields of view must be positive, got encoded {tuple(encoded_fov)} mm, recon {tuple(recon_fov)} mm: "
            "a header without them needs its sizes filled in"
        )
    _checked(image, recon_matrix, dims)
    for dim, old_extent, extent, size in zip(dims, encoded_fov, recon_fov, recon_matrix, strict=True):
        n = image.shape[dim]
        step = (extent / size) / (old_extent / n)
        if same_voxel(step, 1):
            image = crop_or_pad(image, [size], [dim])
        else:
            kernel = _interpolation(n, size, step).to(image.device, image.dtype)
            image = (image.movedim(dim, -1) @ kernel.T).movedim(-1, dim)
    return image


def remove_oversampling(
    samples: npt.NDArray[np.complex64],
    factor: float,
    *,
    grid: int | None = None,
    center_sample: int | None = None,
) -> npt.NDArray[np.complex64]:
    """Crop the readouts' field of view: to the image, keep its middle, and back to k-space.

    The transforms are orthonormal, so white noise stays white with its variance. The voxel size stays.
    An asymmetric echo is first put on its full grid, with zeros where nothing was acquired; on the way
    the sample at ``grid // 2 + d`` comes to ``m // 2 + d / factor``, so the acquired part of the result
    is that of the input, shrunk by the factor.

    Args:
        samples: ``(n, coil, sample)`` complex64; views into a receive buffer are fine.
        factor: encoded over wanted field of view, at least 1.
        grid: the number of samples of a full readout; as many as there are, unless given.
        center_sample: index of the sample at the centre of k-space; ``sample // 2`` unless given.

    Returns:
        A new array ``(n, coil, m)`` complex64, or ``samples`` itself where there is nothing to do, with
        ``m = round(grid / factor)`` and the centre of k-space at ``m // 2``.

    Raises:
        ShapeError: if there are not three axes, the factor is less than 1, or the samples do not fit onto
            the grid with that centre.
    """
    if samples.ndim != 3:
        raise ShapeError(f"readouts must be (n, coil, sample), got shape {samples.shape}")
    if not 1 <= factor < math.inf:
        raise ShapeError(
            f"oversampling factor is {factor}, expected at least 1: encoded over reconstructed field of view"
        )
    n_samples = samples.shape[2]
    full = n_samples if grid is None else grid
    start = full // 2 - (n_samples // 2 if center_sample is None else center_sample)
    if start < 0 or start + n_samples > full:
        raise ShapeError(
            f"{n_samples} samples with the centre of k-space at {full // 2 - start} do not fit onto "
            f"a readout of {full} samples with its centre at {full // 2}"
        )
    n_kept = max(round(full / factor), 1)
    if n_kept == n_samples == full:
        return samples

    if full == n_samples:
        # torch takes neither unaligned nor read-only memory, nor strides of a part of a sample, which the view of
        # a single readout in a receive buffer has although NumPy calls it contiguous and aligned.
        usable = samples.flags.carray and not any(stride % samples.itemsize for stride in samples.strides)
        readouts = torch.from_numpy(samples if usable else samples.copy())
    else:
        padded = np.zeros((*samples.shape[:2], full), np.complex64)
        padded[..., start : start + n_samples] = samples
        readouts = torch.from_numpy(padded)
    return _crop_field_of_view(readouts, n_kept).numpy()


def _crop_field_of_view(readouts: Tensor, n_kept: int) -> Tensor:
    n = readouts.shape[-1]
    if n_kept == n:
        return readouts
    if n % 2 or n_kept % 2:
        return to_kspace(crop_or_pad(to_image(readouts, [-1]), [n_kept], [-1]), [-1])
    # For even lengths the shifts of both transforms are signs that cancel. Without them the middle of the
    # image lies half at the start and half at the end; what is left takes half the time of the above.
    image = torch.fft.ifft(readouts, norm="ortho")
    half = n_kept // 2
    image[..., half:n_kept] = image[..., n - half :]
    kept: Tensor = torch.fft.fft(image[..., :n_kept], norm="ortho")
    return kept


def _interpolation(n: int, size: int, step: float) -> Tensor:
    """Matrix ``(size, n)`` that samples the Fourier series of ``n`` voxels at every ``step`` voxels.

    The series is that of a real, even kernel: of an even number of voxels the highest frequency counts half
    on either side, and so does the highest one that the new voxels hold.
    """
    old = torch.arange(n, dtype=torch.float64) - n // 2
    new = (torch.arange(size, dtype=torch.float64) - size // 2) * step
    frequency = torch.arange(-(n // 2), n // 2 + 1, dtype=torch.float64)
    beyond = frequency.abs() - n / 2 / max(step, 1)
    weight = torch.where(beyond < -1e-6, 1.0, torch.where(beyond > 1e-6, 0.0, 0.5)).double()

    turn = 2 * math.pi / n * frequency
    cosines = torch.cos(torch.outer(new, turn)) * weight @ torch.cos(torch.outer(old, turn)).T
    sines = torch.sin(torch.outer(new, turn)) * weight @ torch.sin(torch.outer(old, turn)).T
    kernel = (cosines + sines) / n
    # The series repeats itself outside the field of view; the object does not. A voxel that reaches into the
    # field of view counts as inside, so that 32 voxels may become 45 over the same field of view.
    reach = 0.5 + step / 2 - 1e-6
    inside = (new > old[0] - reach) & (new < old[-1] + reach)
    return kernel * inside[:, None]


def _checked(data: Tensor, sizes: Sequence[int], dims: Sequence[int]) -> list[int]:
    """The axes as indices from the front; raises ShapeError as `crop_or_pad` says."""
    axes = [dim + data.ndim if dim < 0 else dim for dim in dims]
    if len(sizes) != len(axes) or len(set(axes)) != len(axes) or not all(0 <= a < data.ndim for a in axes):
        raise ShapeError(
            f"cannot give dims {tuple(dims)} of data of shape {tuple(data.shape)} the sizes {tuple(sizes)}: "
            "name each axis once and one size for each"
        )
    if min(sizes, default=1) < 1:
        raise ShapeError(f"cannot resize to {tuple(sizes)}: an axis needs at least one sample")
    return axes
