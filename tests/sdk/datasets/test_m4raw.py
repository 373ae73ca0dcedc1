"""M4Raw's files: axes, zeros at both ends, names, siblings, whose a file is, and rules that are broken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import recognised_as, rewrite

from scanside.datasets import Place, open_scan_file
from scanside.datasets.fastmri import FastMriFile, write_fastmri
from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.datasets.m4raw import M4RawFile, siblings, write_m4raw
from scanside.errors import FileFormatError

Images = npt.NDArray[np.complex64]
COLUMNS = (4, 30)
NAME = "2022061003_T201.h5"


def write(path: Path, images: Images, **settings: Any) -> Path:
    write_m4raw(path, images, **({"patient": "88448eec", "columns": COLUMNS} | settings))
    return path


@pytest.fixture
def path(tmp_path: Path, coil_images: Images) -> Path:
    return write(tmp_path / NAME, coil_images)


def test_kspace_is_that_of_the_coil_images_where_it_was_acquired(path: Path, coil_images: Images) -> None:
    with open_scan_file(path) as file:
        assert isinstance(file, M4RawFile)
        assert file.subject == "88448eec"
        found = file.measured(Place(1))
    assert found.kspace.shape == (4, 36, 64)
    assert found.kspace.dtype == np.complex64
    expected = np.zeros((36, 1), bool)
    expected[4:31] = True
    np.testing.assert_array_equal(found.acquired, expected)
    np.testing.assert_allclose(found.kspace, centred_fft(coil_images[1]) * expected, atol=1e-5)


def test_a_file_in_the_size_of_the_data_set(tmp_path: Path) -> None:
    images = np.zeros((1, 2, 256, 256), np.complex64)
    images[0, :, 100, 140] = (1, 2j)  # one pixel has k-space everywhere
    with M4RawFile(write(tmp_path / NAME, images, columns=(30, 224))) as file:
        assert file.image_size == (256, 256)
        found = file.measured(Place(0))
    assert list(np.flatnonzero(found.acquired)) == list(range(30, 225))
    line, sample = np.meshgrid(np.arange(30, 225) - 128, np.arange(256) - 128, indexing="ij")
    wave = np.exp(-2j * np.pi * (line * (100 - 128) + sample * (140 - 128)) / 256) / 256
    np.testing.assert_allclose(found.kspace[:, 30:225], [wave, 2j * wave], atol=1e-6)


def test_the_file_is_laid_out_as_others_read_it(path: Path) -> None:
    with h5py.File(path) as plain, M4RawFile(path) as file:
        assert set(plain) == {"kspace", "reconstruction_rss", "ismrmrd_header"}
        assert plain["kspace"].shape == (3, 4, 64, 36)
        assert plain["kspace"].dtype == np.complex64
        assert plain["reconstruction_rss"].dtype == np.float32
        assert set(plain.attrs) == {"acquisition", "max", "patient_id"}
        assert plain.attrs["acquisition"] == "AXT2"
        assert b"<ns0:echo_spacing>N/A<" in plain["ismrmrd_header"][()]
        kspace = plain["kspace"][2]
        assert not kspace[..., :4].any()
        assert not kspace[..., 31:].any()
        images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (1, 2)), norm="ortho"), (1, 2))
        rss = np.sqrt((np.abs(images) ** 2).sum(0))
        np.testing.assert_allclose(plain["reconstruction_rss"][2], rss, rtol=1e-4, atol=1e-6)
        reference = file.reference(Place(2))
        assert reference is not None
        assert reference.shape == file.image_size == (36, 64)
        np.testing.assert_allclose(reference, rss.T, rtol=1e-4, atol=1e-6)
        coils = centred_ifft(file.measured(Place(2)).kspace)
    np.testing.assert_allclose(np.sqrt((np.abs(coils) ** 2).sum(0)), reference, rtol=1e-4, atol=1e-6)


def test_a_file_without_reconstruction(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["reconstruction_rss"]
    with M4RawFile(path) as scan:
        assert scan.reference(Place(0)) is None


@pytest.mark.parametrize(
    ("name", "contrast", "repetition"),
    [
        ("7_T103.h5", "T1", "03"),
        ("7_T201.h5", "T2", "01"),
        ("7_FLAIR02.h5", "FLAIR", "02"),
        ("7_GRE10.h5", "GRE", "10"),
    ],
)
def test_the_name_says_contrast_and_repetition(
    tmp_path: Path, coil_images: Images, name: str, contrast: str, repetition: str
) -> None:
    with M4RawFile(write(tmp_path / name, coil_images)) as file:
        assert file.facts == {"study": "7", "contrast": contrast, "repetition": repetition}
        assert file.places == [Place(number, repetition=int(repetition) - 1) for number in range(3)]


@pytest.mark.parametrize("name", ["T201.h5", "7_T21.h5", "7_T200.h5", "7_PD01.h5", "7_T201_copy.h5"])
def test_a_name_that_does_not_say_them(path: Path, name: str) -> None:
    renamed = path.rename(path.with_name(name))
    assert M4RawFile.recognises(renamed)
    says = rf"{re.escape(name)}: the name does not say study, contrast and repetition, as 2022061003_T201\.h5 does"
    with pytest.raises(FileFormatError, match=says):
        M4RawFile(renamed)
    with pytest.raises(FileFormatError, match=says):
        siblings(renamed)
    with pytest.raises(FileFormatError, match=says):
        write(renamed, np.ones((1, 1, 8, 8), np.complex64))


def test_siblings_are_the_repetitions_of_one_contrast_of_one_study(tmp_path: Path) -> None:
    own = ["7_T201.h5", "7_T202.h5", "7_T210.h5"]
    for name in [*reversed(own), "7_T101.h5", "7_FLAIR01.h5", "77_T201.h5", "7_T2.h5", "7_T203.h5.part"]:
        (tmp_path / name).touch()
    assert siblings(tmp_path / "7_T202.h5") == [tmp_path / name for name in own]


def with_header(path: Path, header: bytes) -> Path:
    with h5py.File(path, "a") as file:
        rewrite(file, "ismrmrd_header", header)
    return path


PLAIN = b'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">%s</ismrmrdHeader>'
VENDOR = b"<acquisitionSystemInformation><systemVendor>%s</systemVendor></acquisitionSystemInformation>"
LIST = b"<measurementInformation><repetitionInformation/></measurementInformation>"


@pytest.mark.parametrize(
    ("header", "name", "owner"),
    [
        (LIST, "renamed.h5", "m4raw"),
        (VENDOR % b"XinGaoYi Medical", "renamed.h5", "m4raw"),
        (LIST + VENDOR % b"SIEMENS", "renamed.h5", "m4raw"),
        (VENDOR % b"SIEMENS", NAME, "fastmri"),
        (b"", NAME, "m4raw"),
        (VENDOR % b"", NAME, "m4raw"),
        (b"", "file_brain_AXT2_200_6002425.h5", "fastmri"),
        (b"no XML <", NAME, "m4raw"),
        (b"no XML <", "file1000001.h5", "fastmri"),
    ],
)
def test_whose_a_file_is_says_the_header_and_only_else_the_name(
    path: Path, header: bytes, name: str, owner: str
) -> None:
    renamed = with_header(path, PLAIN % header).rename(path.with_name(name))
    assert recognised_as(renamed) == [owner]


def test_files_of_m4raw_and_of_fastmri_are_not_mistaken(
    path: Path, tmp_path: Path, coil_images: Images
) -> None:
    assert recognised_as(path) == ["m4raw"]
    other = tmp_path / "file_brain_AXT2_200_6002425.h5"
    write_fastmri(other, coil_images, patient="somebody", image_size=(32, 32))
    assert recognised_as(other) == ["fastmri"]
    with h5py.File(
        other, "a"
    ) as file:  # the prefix is no sign: rewriting any header by Python's library makes it
        header = file["ismrmrd_header"][()].replace(b"xmlns=", b"xmlns:ns0=")
        rewrite(file, "ismrmrd_header", re.sub(rb"<(/?)(\w)", rb"<\1ns0:\2", header))
    assert recognised_as(other) == ["fastmri"]
    with FastMriFile(other) as scan:
        assert scan.measured(Place(0)).acquired.all()


def test_a_lost_slice_is_told_when_it_is_read(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["kspace"][2, :, :, 30] = 0
    with M4RawFile(path) as scan:
        assert scan.measured(Place(0)).acquired.sum() == 27
        with pytest.raises(FileFormatError, match=r"T201\.h5: slice 2 of 'kspace' has data in other columns"):
            scan.measured(Place(2))


def without_patient(file: h5py.File) -> None:
    del file.attrs["patient_id"]


def without_kspace(file: h5py.File) -> None:
    del file["kspace"]


def with_one_image(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][0])


def with_no_slices(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][:0])


def with_real_numbers(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][()].real)


def with_another_reconstruction(file: h5py.File) -> None:
    rewrite(file, "reconstruction_rss", file["reconstruction_rss"][:, 16:48])


def with_zeros_only(file: h5py.File) -> None:
    file["kspace"][...] = 0


def with_a_lost_line(file: h5py.File) -> None:
    file["kspace"][..., 9] = 0


def with_one_half(file: h5py.File) -> None:
    file["kspace"][..., 18:] = 0


def with_its_ends_filled(file: h5py.File) -> None:
    file["kspace"][..., :4] = 1e-9


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (without_patient, "it has no attribute 'patient_id'"),
        (without_kspace, r"it has no 'kspace' \(slice, coil, row, column\); it holds ismrmrd_header"),
        (with_one_image, r"'kspace' has the shape \(4, 64, 36\), expected \(slice, coil, row, column\)"),
        (with_no_slices, r"'kspace' has the shape \(0, 4, 64, 36\), expected \(slice, coil, row, column\)"),
        (with_real_numbers, "'kspace' holds float32, expected complex numbers"),
        (with_another_reconstruction, r"shape \(3, 32, 36\), expected that .* without coils, \(3, 64, 36\)"),
        (with_zeros_only, "the middle slice of 'kspace' is all zero"),
        (
            with_a_lost_line,
            "data in 26 columns from 4 to 30, expected one block around the centre, column 18",
        ),
        (with_one_half, "data in 14 columns from 4 to 17, expected one block around the centre"),
        (with_its_ends_filled, "data in 31 columns from 0 to 30, .* with zeros on both sides"),
    ],
)
def test_a_broken_rule_is_told_with_the_file(path: Path, broken: Any, text: str) -> None:
    with h5py.File(path, "a") as file:
        broken(file)
    with pytest.raises(FileFormatError, match=rf"2022061003_T201\.h5: .*{text}"):
        M4RawFile(path)


def test_half_a_download(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert recognised_as(path) == []
    with pytest.raises(FileFormatError, match=r"T201\.h5: "):
        M4RawFile(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        M4RawFile(tmp_path / NAME)
