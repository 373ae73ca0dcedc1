"""From reconstructed voxels to `Image` items with the right header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import torch

from scanside.errors import FormatError
from scanside.items import Image, KSpace, Samples
from scanside.mrd.dtypes import IMAGE_HEADER, IMAGE_TYPES, Headers
from scanside.mrd.geometry import Geometry
from scanside.scan import Scan

__all__ = ["geometry_of", "image_of_samples", "images_of"]

# Fields that an image takes over from the readout in the middle of its k-space.
_FROM_READOUT = (
    "measurement_uid",
    "position",
    "read_dir",
    "phase_dir",
    "slice_dir",
    "patient_table_position",
    "acquisition_time_stamp",
    "physiology_time_stamp",
    "user_int",
    "user_float",
)
_WRONG = "position and orientation of images are wrong or unknown"
_COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")


def images_of(scan: Scan, kspace: KSpace, voxels: torch.Tensor) -> Iterator[Image]:
    """One image for every entry of the leading axes, with position, directions, time and counters.

    Of a window of frames, only those that `KSpace.wanted` names become images.

    Time stamps, position and directions are those of the sampled line nearest to the centre of k-space, as
    contrast and position are what they were when the centre was acquired. Position and directions that cannot be
    right are handed on as they came; the operator is told once, and each such image says so in its meta attributes.

    Args:
        scan: is told of geometry that cannot be right.
        kspace: where the voxels come from.
        voxels: ``(*other, z, y, x)``, complex or real.
    """
    n_other = len(kspace.other)
    for index in np.ndindex(*voxels.shape[:n_other]):
        if kspace.wanted is not None and index[0] not in kspace.wanted:
            continue
        readout = _central_readout(kspace, kspace.headers[index])
        yield _image(scan, kspace, readout, kspace.extent_mm, voxels[index][None])


def image_of_samples(scan: Scan, samples: Samples, voxels: torch.Tensor) -> Image:
    """The image of samples, with the position, directions, time and counters of the readout in their middle.

    Args:
        scan: is told of geometry that cannot be right.
        samples: where the voxels come from.
        voxels: ``(z, y, x)``, complex or real.
    """
    readout = samples.headers[0, samples.headers.shape[1] // 2]
    return _image(scan, samples, readout, samples.field_of_view_mm, voxels[None])


def geometry_of(kspace: KSpace) -> Geometry:
    """Where the image lies that a Fourier transform of a k-space gives.

    Args:
        kspace: one image, or several of the same slice or slab.

    Raises:
        FormatError: position or directions cannot be right.
    """
    lines = kspace.headers.reshape(-1, *kspace.headers.shape[-2:])
    first = lines[int((lines["version"] > 0).any((1, 2)).argmax())]
    matrix = tuple(reversed(kspace.data.shape[-3:]))
    return Geometry.from_readout(_central_readout(kspace, first), kspace.extent_mm, matrix)


def _image(
    scan: Scan,
    source: KSpace | Samples,
    readout: np.void,
    extent_mm: tuple[float, float, float],
    data: torch.Tensor,
) -> Image:
    header = _header(source.counters, readout, extent_mm, data)
    meta = source.meta.copy()
    if (wrong := _wrong_geometry(header)) is not None:
        meta["ScansideGeometry"] = [wrong]
        if not any(_WRONG in told for told in scan.warnings):
            scan.warn(f"{_WRONG}: {wrong}")
    return Image(data=data, header=header, meta=meta, incomplete=source.incomplete, encoding=source.encoding)


def _header(
    counters: Mapping[str, int], readout: np.void, extent_mm: tuple[float, float, float], data: torch.Tensor
) -> np.void:
    header: np.void = np.zeros(1, IMAGE_HEADER)[0]
    for name in _FROM_READOUT:
        header[name] = readout[name]
    for name in _COUNTERS:
        header[name] = counters.get(name, readout["idx"][name])
    header["version"] = 1
    header["matrix_size"] = data.shape[:0:-1]
    header["field_of_view"] = extent_mm
    header["channels"] = data.shape[0]
    header["image_type"] = IMAGE_TYPES["complex" if data.is_complex() else "magnitude"]
    header["image_series_index"] = 1
    return header


def _wrong_geometry(header: np.void) -> str | None:
    """What is wrong with an image's position and directions, if anything is."""
    try:
        geometry = Geometry.from_image_header(header)
    except FormatError as error:
        return str(error)
    if geometry.assumed:
        return (
            "the readouts tell no directions (all are zero), x, y and z are assumed to run to the patient's left, "
            "back and head"
        )
    return None


def _central_readout(kspace: KSpace, lines: Headers) -> np.void:
    """Header of the sampled line nearest to the centre of k-space; zeros where none was sampled."""
    sampled = np.argwhere(lines["version"] > 0)
    if not len(sampled):
        return cast(np.void, np.zeros(1, lines.dtype)[0])
    n2, n1 = lines.shape
    center = (n2 // 2, n1 // 2)
    if kspace.ranges is not None:
        center = (kspace.ranges[2].center, kspace.ranges[1].center)
    distance = ((sampled - center) ** 2).sum(axis=1)
    k2, k1 = sampled[distance.argmin()]
    return cast(np.void, lines[k2, k1])
