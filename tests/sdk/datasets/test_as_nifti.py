"""Images as NIfTI: nibabel finds every voxel where the simulation put it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import open_scan_file
from scanside.datasets.as_nifti import images_as_nifti, reference_as_nifti
from scanside.datasets.calgary_campinas import write_calgary_campinas
from scanside.datasets.fastmri import write_fastmri
from scanside.errors import ConfigError, FileFormatError
from scanside.mrd.dtypes import IMAGE_HEADER
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.messages import ImageMessage

MATRIX, FOV = (6, 4, 1), (12.0, 12.0, 5.0)
# Directions of x, y, z as columns.
PLANES = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).T,
    "sagittal": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]).T,
    "left-handed": np.diag([1.0, 1, -1]),
}


def image(number: int = 0, value: Any = None, **fields: Any) -> ImageMessage:
    """Slice `number`, 6 mm from the next, unless told otherwise."""
    directions = fields.pop("directions", PLANES["axial"])
    header = np.zeros(1, IMAGE_HEADER)[0]
    at = np.array([10.0, -20.0, 30.0]) + 6 * number * directions[:, 2]
    Geometry(fields.pop("position", at), *directions.T, FOV, MATRIX).to_image_header(header)
    header["slice"] = number
    header["image_series_index"] = 1
    for name, given in fields.items():
        header[name] = given
    data = np.full(MATRIX[::-1], number, np.float32) if value is None else value
    return ImageMessage.from_array(np.asarray(data)[None], b"", header)


def write(path: Path, *images: ImageMessage) -> Path:
    with Hdf5Writer(path) as writer:
        for one in images:
            writer.write(one)
    return path


@pytest.mark.parametrize(
    ("plane", "codes"), [("axial", "LPS"), ("coronal", "LSA"), ("sagittal", "PSL"), ("left-handed", "LPI")]
)
def test_voxels_lie_where_headers_say(tmp_path: Path, plane: str, codes: str) -> None:
    directions = PLANES[plane]
    marked = np.zeros(MATRIX[::-1], np.float32)
    marked[0, 3, 5] = 1  # y = 3, x = 5
    slices = [image(n, marked if n == 2 else None, directions=directions) for n in (1, 0, 2)]
    assert images_as_nifti(write(tmp_path / "i.h5", *slices), tmp_path / "i.nii.gz") == 3
    found: Any = nibabel.load(tmp_path / "i.nii.gz")
    assert found.shape == (6, 4, 3)
    assert "".join(nibabel.aff2axcodes(found.affine)) == codes
    assert found.header.get_zooms() == pytest.approx((2, 3, 6))
    assert (found.header["sform_code"], found.header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(found.get_qform(), found.get_sform(), atol=1e-4)
    ((x, y, z),) = np.argwhere(found.get_fdata() == 1)[-1:]
    # By hand: from the centre of slice 2, voxel (3, 2), two voxels along x, one along y; LPS to RAS.
    lps = np.array([10.0, -20, 30]) + directions @ np.array([2 * 2, 1 * 3, 2 * 6])
    ras = nibabel.affines.apply_affine(found.affine, (x, y, z))
    np.testing.assert_allclose(ras, lps * (-1, -1, 1), atol=1e-4)


def test_several_frames_are_the_fourth_axis(tmp_path: Path) -> None:
    images = [
        image(n, np.full(MATRIX[::-1], 10 * t + n, np.int16), phase=t) for t in range(3) for n in range(2)
    ]
    images_as_nifti(write(tmp_path / "i.h5", *images), tmp_path / "i.nii")
    found: Any = nibabel.load(tmp_path / "i.nii")
    assert (found.shape, found.get_data_dtype()) == ((6, 4, 2, 3), np.dtype("int16"))
    np.testing.assert_array_equal(np.asarray(found.dataobj)[0, 0], [[0, 10, 20], [1, 11, 21]])


def test_what_does_not_tell_where_it_lies_becomes_a_file_that_does_not_either(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("read_dir", "phase_dir", "slice_dir"), (0, 0, 0))
    path = write(tmp_path / "i.h5", *(image(n, position=(0, 0, 0), **nothing) for n in (1, 0)))
    images_as_nifti(path, tmp_path / "i.nii")
    found: Any = nibabel.load(tmp_path / "i.nii")
    assert (found.header["sform_code"], found.header["qform_code"]) == (0, 0)
    assert found.header.get_zooms() == pytest.approx((2, 3, 5))
    np.testing.assert_array_equal(found.get_fdata()[0, 0], [0, 1])


def test_the_reconstruction_of_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "file1000001.h5"
    write_fastmri(path, coils_of(3, 4, 36, 64), patient="a", image_size=(30, 32))
    with open_scan_file(path) as file:
        reference_as_nifti(file, tmp_path / "out.nii.gz")
        expected = np.stack([file.reference(place) for place in file.places]).T  # type: ignore[arg-type]
    found: Any = nibabel.load(tmp_path / "out.nii.gz")
    assert found.header.get_zooms() == pytest.approx((0.4375, 0.4375, 4.5))
    assert found.header["sform_code"] == 0
    np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), expected)


def test_a_file_without_reconstruction(tmp_path: Path) -> None:
    write_calgary_campinas(tmp_path / "one.h5", coils_of(3, 2, 20, 20))
    with (
        open_scan_file(tmp_path / "one.h5") as file,
        pytest.raises(FileFormatError, match="without a reconstruction of slice 0: reconstruct it"),
    ):
        reference_as_nifti(file, tmp_path / "out.nii")


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        ((image(0), image(1), image(3)), FileFormatError, r"slices are no even stack \(3\.00 mm off"),
        ((image(0), image(1, directions=PLANES["coronal"])), FileFormatError, "are no even stack"),
        ((image(0), image(0)), FileFormatError, "two images of slice 0 with the same counters"),
        ((image(0), image(0, image_series_index=2)), ConfigError, r"holds the series image_1, image_2"),
        (
            (image(0), image(0, phase=1, position=(0, 0, 0))),
            FileFormatError,
            "of contrast 0, phase 1, .* elsewhere",
        ),
        ((image(0), image(1), image(0, phase=1)), FileFormatError, "lies elsewhere|volumes have the shapes"),
        ((), FileFormatError, "holds no images|has no group"),
    ],
)
def test_what_is_refused(tmp_path: Path, images: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        images_as_nifti(write(tmp_path / "i.h5", *images), tmp_path / "i.nii")
    assert not (tmp_path / "i.nii").exists()


def test_a_series_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "i.h5", image(0), image(1, image_series_index=2), image(2, image_series_index=2))
    assert images_as_nifti(path, tmp_path / "i.nii", series="image_2") == 2
