"""Images of several methods beside the truth of a simulated scan.

The truth that images are compared with is the simulated object as the receive array sees it: times the root sum of
squares of the true coil maps after prewhitening. Without parallel imaging, noise and limits of the calibration, a
reconstruction with unit-norm coil maps would give just that, up to one factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from scanside import metrics
from scanside.errors import ScansideError
from scanside.mrd.geometry import Geometry
from scanside.simulate import Truth

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = [
    "Magnitude",
    "Quality",
    "SliceResult",
    "as_seen",
    "compare_slices",
    "mean",
    "quality_of",
    "sensitivity_of",
    "true_slice",
]

Magnitude = npt.NDArray[np.float64]

LARGEST_DISTANCE = 0.1
"""How far a voxel may lie from the truth's, in voxels: further apart, the comparison would mean nothing."""


class Quality(NamedTuple):
    """How close an image is to the truth, in the whole image and inside the object (see `scanside.metrics`)."""

    psnr_db: float
    ssim: float
    psnr_inside_db: float
    ssim_inside: float


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """One slice compared with its truth; magnitudes ``(y, x)``, images scaled to fit the truth best.

    Attributes:
        slice: its counter.
        truth: what the receive array sees of the object.
        images: of each method, by its name.
        geometry: where the slice lies.
        distance_mm: largest distance of a voxel of an image from the truth's voxel.
        quality: of each image, by method.
    """

    slice: int
    truth: Magnitude
    images: Mapping[str, Magnitude]
    geometry: Geometry
    distance_mm: float
    quality: Mapping[str, Quality]


def compare_slices(methods: Mapping[str, Sequence[Image]], truth: Truth) -> list[SliceResult]:
    """Compare the images of several methods, each of every slice once, with the truth.

    Args:
        methods: images by the name of the method; the slices are those of the last. Of slabs the middle partition
            is compared.
        truth: of the scan.

    Returns:
        Slices in the order of their counters.

    Raises:
        ScansideError: an image lies elsewhere than its truth, or a method left a slice out.
    """
    seen = as_seen(truth)
    by_slice = {
        name: {int(image.header["slice"]): image for image in images} for name, images in methods.items()
    }
    *_, slices = by_slice.values()
    return [_compare(number, by_slice, truth, seen) for number in sorted(slices)]


def mean(slices: Sequence[SliceResult], method: str) -> Quality:
    """Quality of a method, averaged over slices."""
    return Quality(*np.mean([one.quality[method] for one in slices], axis=0).tolist())


def as_seen(truth: Truth) -> Magnitude:
    """The object as the array sees it: ``(slice, y, x)``, the middle partition of each slice."""
    seen: Magnitude = np.abs(truth.images[0, 0, 0, 0]) * sensitivity_of(truth)
    return seen[:, seen.shape[1] // 2]


def sensitivity_of(truth: Truth) -> Magnitude:
    """Root sum of squares of the coil maps after prewhitening, ``(slice, z, y, x)``."""
    whiten = np.linalg.inv(np.linalg.cholesky(truth.covariance))
    maps = np.einsum("dc,sczyx->sdzyx", whiten, truth.maps)
    sensitivity: Magnitude = np.sqrt((np.abs(maps) ** 2).sum(axis=1))
    return sensitivity


def true_slice(geometry: Geometry, truth: Truth) -> tuple[int, float]:
    """The slice of the truth that lies where an image does, and the largest distance between their voxels in mm.

    Counters are not asked: an image whose header is wrong must not be compared with what it claims to be.

    Raises:
        ScansideError: no slice of the truth lies there.
    """
    n_x, n_y, _ = geometry.matrix
    corners = np.array([(x, y, 0, 1) for x in (0, n_x - 1) for y in (0, n_y - 1)], np.float64)
    here = corners @ geometry.affine.T
    distances = [float(np.linalg.norm((corners @ a.T - here)[:, :3], axis=1).max()) for a in truth.affines]
    nearest = int(np.argmin(distances))
    if distances[nearest] > LARGEST_DISTANCE * float(geometry.voxel_size_mm.min()):
        raise ScansideError(
            f"an image at {geometry.position.tolist()} mm lies {distances[nearest]:.2f} mm from the nearest slice of "
            "the truth: its header is wrong"
        )
    return nearest, distances[nearest]


def _compare(
    number: int, methods: Mapping[str, Mapping[int, Image]], truth: Truth, seen: Magnitude
) -> SliceResult:
    pixels: dict[str, Magnitude] = {}
    found = []
    for name, images in methods.items():
        if number not in images:
            raise ScansideError(f"'{name}' gave no image of slice {number}")
        geometry = Geometry.from_image_header(images[number].header)
        found.append((*true_slice(geometry, truth), geometry))
        volume = images[number].data[0].abs().cpu().numpy().astype(np.float64)
        pixels[name] = volume[len(volume) // 2]
    true_number, _, geometry = found[-1]
    if any(one[0] != true_number for one in found):
        raise ScansideError(
            f"images of slice {number} lie in different slices of the truth: a header is wrong"
        )
    reference = seen[true_number]
    return SliceResult(
        slice=number,
        truth=reference,
        images={name: metrics.fitted(one, reference)[0] for name, one in pixels.items()},
        geometry=geometry,
        distance_mm=max(one[1] for one in found),
        quality={name: quality_of(one, reference) for name, one in pixels.items()},
    )


def quality_of(image: Magnitude, reference: Magnitude) -> Quality:
    """How close an image ``(y, x)`` is to its reference, which it was scaled to."""
    inside = metrics.object_mask(reference)
    similarity = metrics.ssim_map(image, reference)
    border = (reference.shape[0] - similarity.shape[0]) // 2
    kept = inside[border:-border, border:-border]
    return Quality(
        metrics.psnr(image, reference),
        float(similarity.mean()),
        metrics.psnr(image, reference, inside),
        float(similarity[kept].mean()),
    )
