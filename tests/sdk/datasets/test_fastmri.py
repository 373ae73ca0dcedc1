"""fastMRI's files: axes, padding, files of the test, narrow ones, and rules that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import coils_of, rewrite

from scanside.datasets import Place, open_scan_file
from scanside.datasets.fastmri import FastMriFile, write_fastmri
from scanside.datasets.fourier import centred_fft, centred_ifft, middle
from scanside.errors import FileFormatError

Images = npt.NDArray[np.complex64]
SIZE = (32, 32)


def write(path: Path, images: Images, **settings: Any) -> Path:
    write_fastmri(path, images, **({"patient": "somebody", "image_size": SIZE} | settings))
    return path


def test_kspace_is_that_of_the_coil_images(tmp_path: Path, coil_images: Images) -> None:
    path = write(tmp_path / "file1000001.h5", coil_images)
    with open_scan_file(path) as file:
        assert isinstance(file, FastMriFile)
        assert file.subject == "somebody"
        assert file.places == [Place(0), Place(1), Place(2)]
        found = file.measured(Place(1))
    assert found.kspace.shape == (4, 36, 64)
    assert found.kspace.dtype == np.complex64
    np.testing.assert_allclose(centred_ifft(found.kspace), coil_images[1], atol=1e-5)
    assert found.acquired.all()


def test_the_reference_is_the_root_sum_of_squares_of_its_middle(tmp_path: Path, coil_images: Images) -> None:
    path = write(tmp_path / "file.h5", coil_images)
    with h5py.File(path) as plain, FastMriFile(path) as file:
        # As others read it: the readout along the rows, of which the middle half is kept.
        shifted = np.fft.ifftshift(plain["kspace"][2], (1, 2))
        images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), (1, 2))
        rss = np.sqrt((np.abs(images) ** 2).sum(0))
        np.testing.assert_allclose(plain["reconstruction_rss"][2], rss[16:48, 2:34], rtol=1e-4, atol=1e-6)
        reference = file.reference(Place(2))
        assert reference is not None
        assert file.image_size == reference.shape == SIZE
        coils = centred_ifft(file.measured(Place(2)).kspace)
    own = middle(np.sqrt((np.abs(coils) ** 2).sum(0)), SIZE)
    np.testing.assert_allclose(reference, own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", [(3, 2), (0, 7)])
def test_padding_was_not_acquired(tmp_path: Path, coil_images: Images, padding: tuple[int, int]) -> None:
    path = write(tmp_path / "file.h5", coil_images, padding=padding)
    with h5py.File(path, "a") as file:  # what interpolation may leave there
        file["kspace"][:, :, :, : padding[0]] = 1e-6
    with FastMriFile(path) as scan:
        found = scan.measured(Place(0))
    expected = np.zeros(36, bool)
    expected[padding[0] : 36 - padding[1]] = True
    np.testing.assert_array_equal(found.acquired[:, 0], expected)
    assert not found.kspace[:, ~expected].any()
    truth = centred_fft(coil_images[0])
    np.testing.assert_allclose(found.kspace[:, expected], truth[:, expected], atol=1e-4)


def test_a_file_of_the_test_has_its_mask_and_no_reference(tmp_path: Path, coil_images: Images) -> None:
    mask = np.zeros(36, bool)
    mask[::3] = mask[14:22] = True
    with FastMriFile(write(tmp_path / "file.h5", coil_images, mask=mask, padding=(1, 0))) as file:
        assert file.facts["part"] == "test"
        found = file.measured(Place(0))
        assert file.reference(Place(0)) is None
    mask[0] = False
    np.testing.assert_array_equal(found.acquired[:, 0], mask)


def test_images_are_no_wider_than_a_narrow_file(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5", coils_of(1, 2, 20, 64), image_size=(20, 32))
    with h5py.File(path, "a") as file:
        before, encoded, recon = file["ismrmrd_header"][()].partition(b"</encodedSpace>")
        rewrite(file, "ismrmrd_header", before + encoded + recon.replace(b"<y>20</y>", b"<y>32</y>"))
    with FastMriFile(path) as scan:
        assert scan.image_size == (20, 32)


def test_a_single_coil(tmp_path: Path, coil_images: Images) -> None:
    path = write(tmp_path / "file.h5", coil_images[:, :1])
    with h5py.File(path, "a") as file:
        rewrite(file, "kspace", file["kspace"][:, 0])
        file["reconstruction_esc"] = file["reconstruction_rss"][()]
        del file["reconstruction_rss"]
    with FastMriFile(path) as scan:
        assert scan.measured(Place(2)).kspace.shape == (1, 36, 64)
        assert scan.reference(Place(2)) is not None


def without_patient(file: h5py.File) -> None:
    del file.attrs["patient_id"]


def with_another_header(file: h5py.File) -> None:
    header = file["ismrmrd_header"][()]
    rewrite(file, "ismrmrd_header", header.replace(b"<maximum>35<", b"<maximum>60<"))


def with_one_image(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][0, 0])


def with_real_numbers(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][()].real)


def with_a_short_mask(file: h5py.File) -> None:
    file["mask"] = np.ones(30, bool)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (without_patient, "no attribute 'patient_id'"),
        (with_another_header, r"lines 0 to 60 with the centre 18 on columns 0 to 60, and 'kspace' has 36"),
        (with_one_image, r"'kspace' has the shape \(64, 36\), expected \(slice, coil, row, column\)"),
        (with_real_numbers, "'kspace' holds float32, expected complex numbers"),
        (with_a_short_mask, r"'mask' has the shape \(30,\), and 'kspace' has 36 columns"),
    ],
)
def test_a_broken_rule_is_told_with_the_file(
    tmp_path: Path, coil_images: Images, broken: Any, text: str
) -> None:
    path = write(tmp_path / "file1000007.h5", coil_images)
    with h5py.File(path, "a") as file:
        broken(file)
    with pytest.raises(FileFormatError, match=rf"file1000007\.h5: .*{text}"):
        FastMriFile(path)


def test_half_a_download(tmp_path: Path, coil_images: Images) -> None:
    path = write(tmp_path / "file.h5", coil_images)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not FastMriFile.recognises(path)
    with pytest.raises(FileFormatError, match=r"file\.h5: "):
        FastMriFile(path)


def test_files_of_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("nothing")
    with pytest.raises(FileFormatError, match=r"looks like a file of no data set .*fastmri"):
        open_scan_file(tmp_path / "text.h5")
    with pytest.raises(FileNotFoundError):
        open_scan_file(tmp_path / "none.h5")
