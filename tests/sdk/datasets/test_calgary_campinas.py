"""Calgary-Campinas' files: real channels, the image's origin, partial Fourier, files of the test, broken rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import coils_of, recognised_as, rewrite

from scanside.datasets import Place, open_scan_file
from scanside.datasets.calgary_campinas import CalgaryCampinasFile, write_calgary_campinas
from scanside.datasets.fastmri import write_fastmri
from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.datasets.m4raw import write_m4raw
from scanside.errors import FileFormatError

Images = npt.NDArray[np.complex64]
NAME = "e14089s3_P53248.7.h5"
LAST = 55  # of 64 samples 85 % are 54.4: from 55 on there is nothing


@pytest.fixture
def path(tmp_path: Path, coil_images: Images) -> Path:
    write_calgary_campinas(tmp_path / NAME, coil_images)
    return tmp_path / NAME


def mask_of_the_test() -> npt.NDArray[np.bool_]:
    """Random samples around a whole centre, none where the scan acquired nothing."""
    mask = np.random.default_rng(5).random((36, 64)) < 0.2
    mask[15:21, 29:35] = True
    mask[:, LAST:] = False
    return mask


def test_kspace_is_that_of_the_coil_images_where_it_was_acquired(path: Path, coil_images: Images) -> None:
    with open_scan_file(path) as file:
        assert isinstance(file, CalgaryCampinasFile)
        assert file.subject == "e14089s3_P53248.7"
        assert file.facts == {"part": "training or validation"}
        assert file.places == [Place(0), Place(1), Place(2)]
        assert file.image_size == (36, 64)
        assert file.reference(Place(1)) is None
        found = file.measured(Place(1))
    assert found.kspace.shape == (4, 36, 64)
    assert found.kspace.dtype == np.complex64
    expected = np.zeros((36, 64), bool)
    expected[:, :LAST] = True
    np.testing.assert_array_equal(found.acquired, expected)
    np.testing.assert_allclose(found.kspace, centred_fft(coil_images[1]) * expected, atol=1e-5)


@pytest.mark.parametrize(("n1", "n0"), [(6, 10), (7, 10), (6, 11), (7, 11), (218, 170)])
def test_the_kspace_of_one_pixel_in_closed_form(tmp_path: Path, n1: int, n0: int) -> None:
    """Where the file's transform puts the pixel (p1, p0), Scanside's has to put it, with its phase."""
    p1, p0, weights = 2, n0 - 3, np.array([1.0, -2j, 0.5 + 1j])
    from_centre = np.meshgrid(np.arange(n1) - n1 // 2, np.arange(n0) - n0 // 2, indexing="ij")
    turns = from_centre[0] * p1 / n1 + from_centre[1] * p0 / n0
    stored = weights * np.exp(-2j * np.pi * turns)[..., None] / np.sqrt(n1 * n0)
    # As the data set's own readers see it: one pixel, in place without a last shift.
    seen = np.fft.ifft2(np.fft.ifftshift(stored, (0, 1)), axes=(0, 1), norm="ortho")
    np.testing.assert_allclose(seen[p1, p0], weights, atol=1e-12)
    channels = np.zeros((1, n1, n0, 6), np.float32)
    channels[0, ..., ::2], channels[0, ..., 1::2] = stored.real, stored.imag
    with h5py.File(tmp_path / NAME, "w") as file:
        file["kspace"] = channels

    with CalgaryCampinasFile(tmp_path / NAME) as scan:
        found = scan.measured(Place(0))
    centred = from_centre[0] * (p1 - n1 // 2) / n1 + from_centre[1] * (p0 - n0 // 2) / n0
    expected = weights[:, None, None] * np.exp(-2j * np.pi * centred) / np.sqrt(n1 * n0)
    np.testing.assert_allclose(found.kspace, expected * found.acquired, atol=1e-6)
    # Of the samples that there are, each gives the pixel its share, in phase.
    share = found.acquired.mean()
    np.testing.assert_allclose(centred_ifft(found.kspace)[:, p1, p0], weights * share, atol=1e-5)


def test_images_have_no_checkerboard(path: Path, coil_images: Images) -> None:
    """An image of low frequencies comes back whole, so its phase is seen at every pixel."""
    low = np.zeros((36, 64), bool)
    low[12:25, 22:43] = True
    smooth = centred_ifft(centred_fft(coil_images) * low).astype(np.complex64)
    with h5py.File(path, "a") as file:
        kspace = np.fft.fftshift(np.fft.fft2(smooth, norm="ortho"), (-2, -1)) + 1e-12
        channels = np.stack((kspace.real, kspace.imag), 2)  # (x, coil, part, k1, k0)
        rewrite(file, "kspace", channels.reshape(3, 8, 36, 64).transpose(0, 2, 3, 1).astype(np.float32))
    with CalgaryCampinasFile(path) as scan:
        for place in scan.places:
            images = centred_ifft(scan.measured(place).kspace)
            np.testing.assert_allclose(images, smooth[place.slice], atol=1e-5)


def test_the_file_is_laid_out_as_others_read_it(path: Path, coil_images: Images) -> None:
    with h5py.File(path) as plain:
        assert set(plain) == {"kspace"}
        assert not plain.attrs
        assert plain["kspace"].shape == (3, 36, 64, 8)
        assert plain["kspace"].dtype == np.float32
        stored = plain["kspace"][1]
    kspace = stored[..., ::2] + 1j * stored[..., 1::2]
    assert np.abs(kspace[:, LAST:]).min() > 0
    assert np.abs(kspace[:, LAST:]).max() < 1e-2 * np.abs(kspace).max()
    images = np.fft.ifft2(np.fft.ifftshift(kspace, (0, 1)), axes=(0, 1), norm="ortho")
    # One sample in seven is missing, at high frequencies: images are in place and nearly right, with their phase.
    truth = np.moveaxis(coil_images[1], 0, -1)
    assert np.linalg.norm(images - truth) < 0.2 * np.linalg.norm(truth)


def test_a_file_of_the_test_has_zeros_for_a_mask(tmp_path: Path, coil_images: Images) -> None:
    mask = mask_of_the_test()
    write_calgary_campinas(tmp_path / NAME, coil_images, mask=mask)
    with h5py.File(tmp_path / NAME) as plain:
        assert set(plain) == {"kspace"}
        assert not plain["kspace"][()][:, ~mask].any()
    with open_scan_file(tmp_path / NAME) as file:
        assert file.facts == {"part": "test"}
        found = file.measured(Place(2))
    np.testing.assert_array_equal(found.acquired, mask)
    np.testing.assert_allclose(found.kspace, centred_fft(coil_images[2]) * mask, atol=1e-5)


@pytest.mark.parametrize(("n0", "acquired"), [(170, 145), (174, 148), (180, 153), (20, 17)])
def test_how_much_of_partial_fourier_was_acquired(tmp_path: Path, n0: int, acquired: int) -> None:
    write_calgary_campinas(tmp_path / NAME, coils_of(1, 1, 8, n0))
    with CalgaryCampinasFile(tmp_path / NAME) as scan:
        found = scan.measured(Place(0))
    np.testing.assert_array_equal(found.acquired, np.broadcast_to(np.arange(n0) < acquired, (8, n0)))
    assert not found.kspace[..., acquired:].any()


def test_the_outer_images_are_not_scored(tmp_path: Path) -> None:
    write_calgary_campinas(tmp_path / NAME, np.repeat(coils_of(1, 2, 8, 10), 104, axis=0))
    with CalgaryCampinasFile(tmp_path / NAME) as scan:
        assert len(scan.places) == 104
        assert scan.scored == [Place(50), Place(51), Place(52), Place(53)]


def test_other_real_numbers_and_numbers_of_coils(tmp_path: Path) -> None:
    images = coils_of(1, 32, 8, 10)
    write_calgary_campinas(tmp_path / NAME, images)
    with h5py.File(tmp_path / NAME, "a") as file:
        rewrite(file, "kspace", file["kspace"][()].astype(np.float64))
    with CalgaryCampinasFile(tmp_path / NAME) as scan:
        found = scan.measured(Place(0))
    assert found.kspace.shape == (32, 8, 10)
    assert found.kspace.dtype == np.complex64
    np.testing.assert_allclose(found.kspace, centred_fft(images[0]) * found.acquired, atol=1e-5)


def test_files_of_others_are_not_mistaken(path: Path, tmp_path: Path, coil_images: Images) -> None:
    assert recognised_as(path) == ["calgary-campinas"]
    write_fastmri(tmp_path / "file1000001.h5", coil_images, patient="somebody", image_size=(32, 32))
    assert recognised_as(tmp_path / "file1000001.h5") == ["fastmri"]
    write_m4raw(tmp_path / "7_T101.h5", coil_images, patient="somebody", columns=(4, 30))
    assert recognised_as(tmp_path / "7_T101.h5") == ["m4raw"]
    with h5py.File(tmp_path / "7_T101.h5", "a") as file:  # a real part still has its header
        rewrite(file, "kspace", file["kspace"][()].real)
    assert recognised_as(tmp_path / "7_T101.h5") == ["m4raw"]


def test_a_damaged_image_is_told_when_it_is_read(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["kspace"][2, 20:] = 0
    with CalgaryCampinasFile(path) as scan:
        assert scan.measured(Place(0)).acquired.any()
        with pytest.raises(FileFormatError, match=r"53248\.7\.h5: 'kspace' at x = 2 is 0 elsewhere"):
            scan.measured(Place(2))


def without_kspace(file: h5py.File) -> None:
    file["images"] = file["kspace"][()]
    del file["kspace"]


def with_one_image(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][0])


def with_complex_numbers(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][()].view(np.complex64))


def with_an_odd_channel(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][..., :7])


def with_zeros_only(file: h5py.File) -> None:
    file["kspace"][...] = 0


def without_centre(file: h5py.File) -> None:
    file["kspace"][:, 18, 32] = 0


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (without_kspace, r"it has no 'kspace' \(x, k1, k0, channel\); it holds images"),
        (with_one_image, r"'kspace' has the shape \(36, 64, 8\), expected \(x, k1, k0, channel\)"),
        (with_complex_numbers, "'kspace' holds complex64, expected real numbers"),
        (with_an_odd_channel, "'kspace' has 7 channels, expected an even number"),
        (with_zeros_only, r"'kspace' is 0 at its centre, \(18, 32\)"),
        (without_centre, r"'kspace' is 0 at its centre, \(18, 32\)"),
    ],
)
def test_a_broken_rule_is_told_with_the_file(path: Path, broken: Any, text: str) -> None:
    with h5py.File(path, "a") as file:
        broken(file)
    with pytest.raises(FileFormatError, match=rf"e14089s3_P53248\.7\.h5: .*{text}"):
        CalgaryCampinasFile(path)


def test_half_a_download(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert recognised_as(path) == []
    with pytest.raises(FileFormatError, match=r"53248\.7\.h5: "):
        CalgaryCampinasFile(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CalgaryCampinasFile(tmp_path / NAME)
