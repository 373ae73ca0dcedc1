"""Calibration lines of another encoding space, brought onto the grid of an image.

A reference scan of its own, as before some accelerated scans, often has its own encoding space: another matrix,
another field of view. What it says of the coils holds for the image all the same where both lie in one place.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from scanside.items import AxisRange, KSpace
from scanside.mrd.dtypes import Headers
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.resize import crop_or_pad, resample_fov
from scanside.stages._calibration import calibration_region_of, sampled_readout

__all__ = ["disagreement", "fitted"]

_ANGLE = math.cos(math.radians(1))
_SAME = 1e-3  # of a field of view: headers round


def disagreement(reference: KSpace, image: KSpace) -> str | None:
    """Why calibration lines do not serve an image; None where they do.

    Directions must be the same within a degree; the centres may lie half a voxel of the reference apart in the plane,
    and half a slice across it.

    Args:
        reference: k-space of the calibration lines.
        image: k-space of the image.
    """
    n_image, n_reference = image.data.shape[-3], reference.data.shape[-3]
    if reference.n_coils != image.n_coils:
        return f"they are of {reference.n_coils} coils, the image of {image.n_coils}"
    if (n_image == 1) != (n_reference == 1):
        return "one of both is a volume, the other a slice"
    ours, theirs = (one.headers[one.headers["version"] > 0][:1] for one in (image, reference))
    if not len(ours) or not len(theirs):
        return "there are none"
    axes = [_directions(one[0]) for one in (ours, theirs)]
    if axes[0].any() and axes[1].any() and (np.einsum("ij,ij->i", *axes) < _ANGLE).any():
        return "their directions differ from those of the image"
    apart = axes[0] @ (theirs["position"][0] - ours["position"][0]).astype(np.float64)
    voxels = np.array(
        [mm / n for mm, n in zip(reference.extent_mm, reference.encoding.encoded.matrix, strict=True)]
    )
    if n_image == 1:
        voxels[2] = max(reference.extent_mm[2], image.extent_mm[2])
    if (np.abs(apart) > voxels / 2 + _SAME).any():
        return f"they lie {float(np.linalg.norm(apart)):.1f} mm away from the image"
    return None


def fitted(reference: KSpace, image: KSpace) -> KSpace:
    """Calibration lines with the field of view of an image, as the box at the centre of its k-space that they fill.

    Where the fields of view are equal, samples stay what they are; elsewhere the image of the calibration lines is
    cropped, padded or interpolated.

    Args:
        reference: k-space of the calibration lines.
        image: k-space of the image.

    Raises:
        CalibrationError: they form no block at the centre of k-space.
    """
    _, (k2, k1) = calibration_region_of(
        reference, "an image whose calibration lines lie in another encoding space"
    )
    k0 = sampled_readout(reference, at_center=True)
    data, headers = reference.data[..., k2, k1, k0], reference.headers[..., k2, k1]
    for axis, dim in enumerate((-1, -2, -3)):
        # Of a slice, the thickness is no field of view.
        if data.shape[dim] > 1 or image.data.shape[dim] > 1:
            data = _with_extent(data, dim, reference.extent_mm[axis], image.extent_mm[axis])
            data = crop_or_pad(data, [min(data.shape[dim], image.data.shape[dim])], [dim])
    n2, n1, n0 = data.shape[-3:]
    n_x = image.data.shape[-1]
    first = n_x // 2 - n0 // 2
    return reference.replace(
        data=crop_or_pad(data, [n_x], [-1]),
        mask=torch.ones((*data.shape[:-4], n2, n1), dtype=torch.bool, device=data.device),
        headers=_headers(headers, n2, n1),
        ranges=(
            AxisRange(first, first + n0 - 1, n_x // 2),
            AxisRange(0, n1 - 1, n1 // 2),
            AxisRange(0, n2 - 1, n2 // 2),
        ),
        encoding=image.encoding,
        field_of_view_mm=image.extent_mm,
    )


def _with_extent(data: torch.Tensor, dim: int, extent_mm: float, wanted_mm: float) -> torch.Tensor:
    """K-space with another field of view along an axis, its voxels about as large as before."""
    if abs(extent_mm / wanted_mm - 1) <= _SAME:
        return data
    n = max(round(data.shape[dim] * wanted_mm / extent_mm), 1)
    return to_kspace(resample_fov(to_image(data, (dim,)), [extent_mm], [wanted_mm], [n], [dim]), (dim,))


def _directions(header: np.void) -> npt.NDArray[np.float64]:
    """Read, phase and slice direction as rows."""
    return np.stack([header[name] for name in ("read_dir", "phase_dir", "slice_dir")]).astype(np.float64)


def _headers(headers: Headers, n2: int, n1: int) -> Headers:
    """For every line of the new grid the header of the nearest line ``(*other, k2, k1)`` of the old one."""
    m2, m1 = headers.shape[-2:]
    k2, k1 = (
        np.clip(np.round((np.arange(n) - n // 2) * m / n) + m // 2, 0, m - 1).astype(np.intp)
        for n, m in ((n2, m2), (n1, m1))
    )
    nearest: Headers = headers[..., k2[:, None], k1]
    return nearest
