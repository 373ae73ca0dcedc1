"""Centred, orthonormal Fourier transforms between k-space and image.

One convention throughout: index ``N//2`` is the centre on both sides, the scaling is orthonormal
(energy is kept, so the adjoint of one transform is the other), and going from k-space to the image takes the
inverse transform, ``image[x] = N^(-1/2) · Σ_k kspace[k] · exp(+2πi·(k − N//2)·(x − N//2)/N)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scanside.errors import ShapeError

__all__ = ["spatial_dims", "to_image", "to_kspace"]


def to_image(kspace: Tensor, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """From k-space to the image: the centred orthonormal inverse Fourier transform.

    Args:
        kspace: complex tensor of any shape, for instance ``(*other, coil, k2, k1, k0)``.
        dims: the axes to transform, each at most once; the default is one slice's phase and readout.
            Axes of length one are left as they are, so ``(-3, -2, -1)`` serves 2-D data as well.

    Returns:
        A new tensor of the same shape and precision, for instance ``(*other, coil, z, y, x)``.

    Raises:
        ShapeError: if an axis does not exist or is named twice.
    """
    return _centred(kspace, dims, inverse=True)


def to_kspace(image: Tensor, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """From the image to k-space: the centred orthonormal transform, inverse and adjoint of `to_image`.

    Args:
        image: tensor of any shape, for instance ``(*other, coil, z, y, x)``.
        dims: the axes to transform, each at most once.

    Returns:
        A new complex tensor of the same shape and precision, for instance ``(*other, coil, k2, k1, k0)``.

    Raises:
        ShapeError: if an axis does not exist or is named twice.
    """
    return _centred(image, dims, inverse=False)


def spatial_dims(data: Tensor) -> tuple[int, ...]:
    """The axes that are encoded: two for a slice, three where the partition axis is longer than one.

    Args:
        data: k-space ``(*other, coil, k2, k1, k0)`` or image ``(*other, coil, z, y, x)``.

    Returns:
        ``(-2, -1)`` for 2-D data, ``(-3, -2, -1)`` for 3-D data.

    Raises:
        ShapeError: if there are fewer than three axes.
    """
    if data.ndim < 3:
        raise ShapeError(
            f"data of shape {tuple(data.shape)} has no partition axis: "
            "k-space needs (..., k2, k1, k0) and images (..., z, y, x); give 2-D data a k2 or z of length one"
        )
    return (-2, -1) if data.shape[-3] == 1 else (-3, -2, -1)


def _centred(data: Tensor, dims: Sequence[int], *, inverse: bool) -> Tensor:
    axes = _checked(data, dims)
    odd = [axis for axis in axes if data.shape[axis] % 2]
    sign = _checkerboard(data, [axis for axis in axes if axis not in odd])

    # Half a turn of an even axis is an alternating sign on the other side of the transform: it is exact
    # and takes about half the time of moving the data. An odd axis would need complex phases; it is moved.
    shifted = torch.fft.ifftshift(data, dim=odd) if odd else data
    if sign is not None:
        shifted = shifted * sign
    transform = torch.fft.ifftn if inverse else torch.fft.fftn
    result: Tensor = transform(shifted, dim=axes, norm="ortho")
    if sign is not None:
        # The remaining constant, (−1)^(N/2) for every even axis, is part of the sign of this side.
        turns = sum(data.shape[axis] // 2 for axis in axes if axis not in odd)
        result = result.mul_(-sign if turns % 2 else sign)
    return torch.fft.fftshift(result, dim=odd) if odd else result


def _checked(data: Tensor, dims: Sequence[int]) -> list[int]:
    """The axes as indices from the front, without those of length one, which the transform leaves alone."""
    axes = [dim + data.ndim if dim < 0 else dim for dim in dims]
    if len(set(axes)) != len(axes) or not all(0 <= axis < data.ndim for axis in axes):
        raise ShapeError(
            f"cannot transform dims {tuple(dims)} of data of shape {tuple(data.shape)}: "
            f"name each axis once, between {-data.ndim} and {data.ndim - 1}"
        )
    return [axis for axis in axes if data.shape[axis] != 1]


def _checkerboard(data: Tensor, axes: Sequence[int]) -> Tensor | None:
    """Signs that alternate along each of ``axes``, +1 at index 0, broadcastable against ``data``."""
    board: Tensor | None = None
    for axis in axes:
        line = torch.ones(data.shape[axis], dtype=data.real.dtype, device=data.device)
        line[1::2] = -1
        line = line.reshape([-1 if i == axis else 1 for i in range(data.ndim)])
        board = line if board is None else board * line
    return board
