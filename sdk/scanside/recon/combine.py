"""One image from the images of many coils.

Roemer et al., "The NMR phased array", MRM 16:192 (1990). Both combinations take the noise to be white
with equal variance in all coils (see `scanside.recon.noise`); then the one with coil maps has the best
signal-to-noise ratio there is, and the root sum of squares comes close to it where the signal is strong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scanside.errors import ShapeError

__all__ = ["combine_sets", "combine_with_maps", "root_sum_of_squares"]

_COIL = -4


def root_sum_of_squares(images: Tensor) -> Tensor:
    """The magnitude image ``sqrt(Σ_c |image_c|²)``.

    Args:
        images: complex coil images ``(*other, coil, z, y, x)``.

    Returns:
        Real ``(*other, z, y, x)``.

    Raises:
        ShapeError: if there is no coil axis.
    """
    _require_coils(images)
    # Squares of the parts, as neither abs nor vector_norm of complex tensors uses vector instructions.
    return (images.real.square() + images.imag.square()).sum(_COIL).sqrt()


def combine_with_maps(images: Tensor, maps: Tensor) -> Tensor:
    """The matched filter ``Σ_c conj(map_c)·image_c / Σ_c |map_c|²``, the least-squares estimate of the object.

    Voxels where all maps are zero become zero, as nothing is known of the object there.

    Args:
        images: complex coil images ``(*other, coil, z, y, x)``.
        maps: complex coil sensitivities, ``(coil, z, y, x)`` or with leading axes that broadcast
            against ``other``.

    Returns:
        Complex ``(*other, z, y, x)`` with the phase of the object relative to the maps.

    Raises:
        ShapeError: if there is no coil axis, or coils or voxels of images and maps differ.
    """
    _require_coils(images)
    if maps.ndim < -_COIL or maps.shape[_COIL:] != images.shape[_COIL:]:
        raise ShapeError(
            f"coil maps of shape {tuple(maps.shape)} do not fit coil images of shape {tuple(images.shape)}: "
            "the last four axes, (coil, z, y, x), must be equal"
        )
    matched: Tensor = torch.linalg.vecdot(maps, images, dim=_COIL)
    power = (maps.real.square() + maps.imag.square()).sum(_COIL)
    # Where the power is zero so is the matched sum; dividing by one keeps it.
    return matched / torch.where(power > 0, power, 1)


def combine_sets(images: Tensor) -> Tensor:
    """One image of the images of two sets of maps: their root sum of squares, with the phase of the first.

    As both sets are orthogonal and of length 1, it is the root sum of squares of what all coils see there, noise
    taken off that neither set explains. Where the second image is zero, it is the first one.

    Args:
        images: complex ``(2, *other, z, y, x)``.

    Returns:
        Complex ``(*other, z, y, x)``.
    """
    magnitude: Tensor = torch.linalg.vector_norm(
        torch.view_as_real(images.movedim(0, -1)).flatten(-2), dim=-1
    )
    return torch.sgn(images[0]) * magnitude


def _require_coils(images: Tensor) -> None:
    if images.ndim < -_COIL:
        raise ShapeError(f"coil images must be (*other, coil, z, y, x), got shape {tuple(images.shape)}")
