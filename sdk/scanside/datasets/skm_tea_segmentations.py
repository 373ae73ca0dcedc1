"""SKM-TEA's segmentations: two of each knee, and each fits the images of one track only.

The scanner corrects what it reconstructs for gradients that are not linear, and k-space is not corrected. So there is
a segmentation of the raw-data track, over the images that k-space gives, and one of the DICOM track, over the
scanner's: the same tissues in other pixels. None is had here without the images that it is for.

The raw-data track's are NIfTI files in ``segmentation_masks/raw-data-track``. The DICOM track's are in
``segmentation_masks/dicom-track`` and in its files of images, as ``seg``, one-hot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.nifti import read_nifti
from scanside.datasets.scan_file import dataset, naming
from scanside.datasets.skm_tea import SkmTeaFile
from scanside.errors import FileFormatError

__all__ = ["TISSUES", "SkmTeaSegmentation", "Track", "read_skm_tea_segmentation", "write_skm_tea_images"]

TISSUES = (
    "patellar cartilage",
    "femoral cartilage",
    "medial tibial cartilage",
    "lateral tibial cartilage",
    "medial meniscus",
    "lateral meniscus",
)
"""Of the labels 1 to 6."""

Track = Literal["raw-data", "dicom"]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SkmTeaSegmentation:
    """Tissues of one scan.

    Attributes:
        track: whose images it lies over.
        labels: ``(x, y, z)``: 0, or 1 and the tissue's place in `TISSUES`.
    """

    track: Track
    labels: Labels


def read_skm_tea_segmentation(path: Path, images: Path) -> SkmTeaSegmentation:
    """Read a segmentation, for the images that it lies over.

    Args:
        path: ``.nii.gz`` or ``.nii`` in a folder ``raw-data-track`` or ``dicom-track``, or a file of ``image_files``.
        images: of the same scan and track: a file of ``files_recon_calib-24`` or of ``image_files``.

    Raises:
        FileFormatError: the images are of another track, scan or size; or a file is not what it should be.
        FileNotFoundError: there is no such file.
    """
    track, labels = _of_nifti(path) if ".nii" in path.suffixes else _of_images(path)
    images_track, shape = _track_of_images(images)
    if track != images_track:
        raise FileFormatError(
            f"{path}: is of the {track} track, and {images} of the {images_track} track: the scanner's images are "
            "corrected for its gradients and those of k-space are not; take the segmentation of the same track"
        )
    if _scan(path) != _scan(images):
        raise FileFormatError(f"{path}: is of another scan than {images}")
    if labels.shape != shape:
        raise FileFormatError(f"{path}: has the size {labels.shape}, and {images} {shape}")
    return SkmTeaSegmentation(track, labels)


def _of_nifti(path: Path) -> tuple[Track, Labels]:
    tracks: dict[str, Track] = {"raw-data-track": "raw-data", "dicom-track": "dicom"}
    track = tracks.get(path.resolve().parent.name)
    if track is None:
        raise FileFormatError(
            f"{path}: lies in neither of the folders raw-data-track and dicom-track, and nothing else tells of which "
            "track it is"
        )
    found = read_nifti(path)
    if found.ndim != 3 or found.min() < 0 or found.max() > len(TISSUES) or (found % 1).any():
        raise FileFormatError(
            f"{path}: has the size {found.shape} and values from {found.min()} to {found.max()}, expected labels "
            f"from 0 to {len(TISSUES)} in (x, y, z)"
        )
    return track, found.astype(np.uint8)


def _of_images(path: Path) -> tuple[Track, Labels]:
    with naming(path), h5py.File(path, "r") as file:
        axes = f"(x, y, z, {len(TISSUES)}), of the DICOM track"
        one_hot = dataset(file, "seg", (4,), axes)
        if one_hot.shape[-1] != len(TISSUES):
            raise FileFormatError(f"'seg' has the shape {one_hot.shape}, expected {axes}")
        labels: Labels = np.zeros(one_hot.shape[:3], np.uint8)
        for number in range(len(TISSUES)):
            here = one_hot[..., number] != 0
            if labels[here].any():
                raise FileFormatError(
                    f"'seg' has voxels of {TISSUES[number]} that are of another tissue, too"
                )
            labels[here] = number + 1
    return "dicom", labels


def _track_of_images(path: Path) -> tuple[Track, tuple[int, ...]]:
    """Of which track a file of images is, and their (x, y, z)."""
    with naming(path), h5py.File(path, "r") as file:
        if "echo1" in file:
            return "dicom", dataset(file, "echo1", (3,), "(x, y, z)").shape
    with SkmTeaFile(path) as scan:
        n_x = 1 + max(place.slice for place in scan.places)
        return "raw-data", (n_x, *scan.image_size)


def _scan(path: Path) -> str:
    return path.name.partition(".")[0]


def write_skm_tea_images(path: Path, echoes: npt.NDArray[np.floating], labels: Labels) -> None:
    """Write a file as the DICOM track's ``image_files`` are.

    Args:
        path: the file; its name is that of the scan.
        echoes: ``(2, x, y, z)``.
        labels: ``(x, y, z)``, 0 to 6.
    """
    with h5py.File(path, "w") as file:
        kinds = {"echo1": echoes[0], "echo2": echoes[1], "rss": np.sqrt((echoes**2).sum(0))}
        for name, image in kinds.items():
            if name != "rss":
                file[name] = image
            for figure in ("mean", "std", "min", "max"):
                file[f"stats/{name}/{figure}"] = getattr(image, figure)()
        file["seg"] = (labels[..., None] == np.arange(1, len(TISSUES) + 1)).astype(np.uint8)
