"""Images of NIfTI files, turned to how they are looked at; nibabel writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from scanside.datasets import Place, open_image_file
from scanside.datasets.checking import check_folder
from scanside.errors import CounterError, FileFormatError, MissingExtra

# A point of the patient, LPS mm, by its value: the place of every voxel of a coarse grid.
SHAPE, VOXEL = (4, 5, 6), (2.0, 3.0, 4.0)


def patient(lps: np.ndarray) -> np.ndarray:
    """A value that tells where it is: left counts 1, back 100, head 10000."""
    return lps[..., 0] + 100 * lps[..., 1] + 10000 * lps[..., 2]


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SLA", "IPL", "ARS"])
def test_axes_in_any_order_are_turned_to_the_same_view(tmp_path: Path, codes: str) -> None:
    io = nibabel.orientations
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    values = patient(index).astype(np.float32)  # along L, P, S
    lps = np.diag([-1.0, -1, 1, 1]) @ np.diag([*VOXEL, 1])
    turn = io.ornt_transform(io.axcodes2ornt(tuple("LPS")), io.axcodes2ornt(tuple(codes)))
    turned = io.apply_orientation(values, turn)
    affine = lps @ io.inv_ornt_aff(turn, SHAPE)
    assert "".join(nibabel.aff2axcodes(affine)) == codes
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "sub-03_T1w.nii.gz")
    with open_image_file(tmp_path / "sub-03_T1w.nii.gz") as file:
        assert (file.FORMAT, file.subject, file.facts["plane"]) == ("nifti", "sub-03", "axial")
        assert file.voxel_mm == pytest.approx((4, 3, 2))
        found = np.stack([file.image(place) for place in file.places])
    # Slices to the head, rows to the back, columns to the left.
    np.testing.assert_array_equal(found, values.transpose(2, 1, 0))


@pytest.mark.parametrize(("plane", "codes"), [("coronal", "LIA"), ("sagittal", "PIL")])
def test_other_planes(tmp_path: Path, plane: str, codes: str) -> None:
    """Columns, rows and slices as stored; the first row is at the head, the first slice at the back or right."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    affine = np.diag([1.0, 1, 5, 1]) @ np.eye(4)
    directions = {"L": (-1, 0, 0), "P": (0, -1, 0), "I": (0, 0, -1), "A": (0, 1, 0)}
    for column, code in enumerate(codes):
        affine[:3, column] = np.array(directions[code]) * (1, 1, 5)[column]
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "one.nii")
    with open_image_file(tmp_path / "one.nii") as file:
        assert (file.subject, file.facts["plane"]) == ("one", plane)
        found = np.stack([file.image(place) for place in file.places])
    np.testing.assert_array_equal(found, values.transpose(2, 1, 0))


def test_time_and_scaling(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    image = nibabel.Nifti1Image(values, np.diag([-1.0, -1, 2, 1]))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "one.nii")
    expected = nibabel.load(tmp_path / "one.nii").get_fdata()
    with open_image_file(tmp_path / "one.nii") as file:
        assert len(file.places) == 8
        np.testing.assert_allclose(file.image(Place(3, phase=1)), expected[:, :, 3, 1].T)
        with pytest.raises(CounterError, match="has no image at"):
            file.image(Place(4))


def test_what_does_not_tell_where_it_lies(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), None)
    assert (image.header["sform_code"], image.header["qform_code"]) == (0, 0)
    nibabel.save(image, tmp_path / "one.nii")
    with open_image_file(tmp_path / "one.nii") as file:
        assert file.facts["plane"] == "not told, taken as axial by NIfTI's default"


def test_a_folder_and_half_a_download(tmp_path: Path) -> None:
    for name in ("sub-1_T1w.nii.gz", "sub-1_T2w.nii.gz", "sub-2_T1w.nii"):
        values = np.random.default_rng(0).random((8, 8, 8), np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name)
    for path in tmp_path.glob("*T1w*"):
        path.write_bytes(path.read_bytes()[:-200])
    found = check_folder(tmp_path)
    assert (found.datasets, len(found.broken)) == ({"nifti": 1}, 2)
    for path in tmp_path.glob("*T1w*"):
        with pytest.raises(FileFormatError, match=rf"{path.name}: "):
            open_image_file(path)


def test_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "one.nii"
    path.write_text("nothing")
    with pytest.raises(FileFormatError, match=r"one\.nii: is no NIfTI file"):
        open_image_file(path)
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.complex64), np.eye(4)), path)
    with pytest.raises(FileFormatError, match=r"one\.nii: holds complex64 .* expected real numbers"):
        open_image_file(path)


def test_without_nibabel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4)), path)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtra, match=r"nibabel.*scanside\[nifti\]"):
        open_image_file(path)
    (broken,) = check_folder(tmp_path).broken
    assert "scanside[nifti]" in str(broken.problem)
