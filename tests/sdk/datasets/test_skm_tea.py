"""SKM-TEA's files: axes, echoes, padding, masks in the size acquired, maps, and rules that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import Place, open_scan_file
from scanside.datasets.fastmri import FastMriFile
from scanside.datasets.fourier import centred_fft
from scanside.datasets.skm_tea import SkmTeaFile, write_skm_tea
from scanside.errors import FileFormatError

SIZE = (32, 24)
ACQUIRED = (26, 12)

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def truth() -> tuple[Complex, Complex]:
    """Images ``(x, echo, k1, k0)`` and maps ``(x, coil, k1, k0)``."""
    coils = coils_of(3, 4, *SIZE) + 1e-3
    rss = np.sqrt((np.abs(coils) ** 2).sum(1))
    echoes = np.stack([rss, 0.4 * rss * np.exp(0.5j)], 1)
    return echoes, coils / rss[:, None]


def masks() -> dict[float, npt.NDArray[np.bool_]]:
    drawn = np.random.default_rng(3)
    made = {r: drawn.random(ACQUIRED) < 1 / r for r in (4.0, 10.0)}
    for mask in made.values():
        mask[10:16, 4:8] = True
    return made


def write(path: Path, **settings: Any) -> Path:
    write_skm_tea(path, *truth(), **({"acquired_size": ACQUIRED, "masks": masks()} | settings))
    return path


def rectangle(size: tuple[int, int] = ACQUIRED) -> npt.NDArray[np.bool_]:
    """Of the padded size, as others pad: half of the difference before."""
    before = [(n - m) // 2 for n, m in zip(SIZE, size, strict=True)]
    after = [n - m - b for n, m, b in zip(SIZE, size, before, strict=True)]
    return np.pad(np.ones(size, bool), list(zip(before, after, strict=True)))


def test_the_file_has_the_published_layout(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "MTR_005.h5")) as file:
        assert file["kspace"].shape == (3, *SIZE, 2, 4)
        assert file["maps"].shape == (3, *SIZE, 4, 1)
        assert file["target"].shape == (3, *SIZE, 2, 1)
        assert {file[name].dtype for name in ("kspace", "maps", "target")} == {np.dtype("complex64")}
        assert set(file["masks"]) == {"poisson_4.0x", "poisson_10.0x"}
        assert file["masks/poisson_4.0x"].shape == ACQUIRED
        assert not file["kspace"][()][:, ~rectangle()].any()
        # SENSE of what is complete is the sum over the coils, weighted by conjugate maps.
        shifted = np.fft.ifftshift(file["kspace"][1, :, :, 1], (0, 1))
        coils = np.fft.fftshift(np.fft.ifft2(shifted, axes=(0, 1), norm="ortho"), (0, 1))
        sense = (coils * file["maps"][1, :, :, :, 0].conj()).sum(-1)
        np.testing.assert_allclose(file["target"][1, :, :, 1, 0], sense, atol=1e-5)


def test_a_slice_is_an_x_and_a_contrast_an_echo(tmp_path: Path) -> None:
    images, maps = truth()
    with open_scan_file(write(tmp_path / "MTR_005.h5")) as file:
        assert isinstance(file, SkmTeaFile)
        assert file.subject == "MTR_005"
        assert file.places == [Place(x, contrast=echo) for x in range(3) for echo in range(2)]
        assert (file.image_size, file.acquired_size) == (SIZE, ACQUIRED)
        found = {echo: file.measured(Place(2, contrast=echo)) for echo in (0, 1)}
        np.testing.assert_allclose(file.maps(Place(2)), maps[2], atol=1e-6)
    for echo, slice_ in found.items():
        assert slice_.kspace.shape == (4, *SIZE)
        assert slice_.kspace.dtype == np.complex64
        expected = centred_fft(images[2, echo] * maps[2])
        np.testing.assert_allclose(slice_.kspace, expected * slice_.acquired, atol=1e-4)
    assert np.abs(found[0].kspace - found[1].kspace).max() > 0.1


def test_the_reference_is_the_magnitude_of_the_target(tmp_path: Path) -> None:
    images, _ = truth()
    path = write(tmp_path / "file.h5", acquired_size=SIZE, elliptical=False, masks=None)
    with SkmTeaFile(path) as file:
        reference = file.reference(Place(1, contrast=1))
    assert reference.dtype == np.float32
    np.testing.assert_allclose(reference, np.abs(images[1, 1]), atol=1e-5)


@pytest.mark.parametrize("elliptical", [True, False])
def test_neither_padding_nor_corners_were_acquired(tmp_path: Path, elliptical: bool) -> None:
    with SkmTeaFile(write(tmp_path / "file.h5", elliptical=elliptical)) as file:
        found = file.measured(Place(0))
    assert found.acquired.shape == SIZE
    assert not found.kspace[:, ~found.acquired].any()
    if not elliptical:
        np.testing.assert_array_equal(found.acquired, rectangle())
        return
    assert not found.acquired[~rectangle()].any()
    assert not found.acquired[3, 6]
    assert found.acquired[3, 12]
    # An ellipse fills π / 4 of its rectangle.
    assert found.acquired.sum() / rectangle().sum() == pytest.approx(np.pi / 4, abs=0.06)


@pytest.mark.parametrize("size", [ACQUIRED, (25, 13), (32, 11)])
@pytest.mark.parametrize("elliptical", [True, False])
def test_the_size_acquired_is_seen_without_masks(
    tmp_path: Path, size: tuple[int, int], elliptical: bool
) -> None:
    path = write(tmp_path / "file.h5", acquired_size=size, elliptical=elliptical, masks=None)
    with SkmTeaFile(path) as file:
        assert file.acquired_size == size
        assert file.masks() == {}


def test_masks_are_padded_as_kspace_is(tmp_path: Path) -> None:
    with SkmTeaFile(write(tmp_path / "file.h5", elliptical=False)) as file:
        found = file.masks()
        acquired = file.measured(Place(0)).acquired
        with pytest.raises(ValueError, match=r"a mask of the size \(32, 24\); file.h5 acquired \(26, 12\)"):
            file.padded(acquired)
    assert list(found) == [4.0, 10.0]
    for acceleration, mask in found.items():
        assert mask.shape == SIZE
        np.testing.assert_array_equal(mask[rectangle()].reshape(ACQUIRED), masks()[acceleration])
        assert not mask[~acquired].any()


def test_only_the_slice_that_is_asked_for_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5")
    with h5py.File(path, "a") as file:  # as large as the real ones, without their bytes
        for name in ("kspace", "maps", "target"):
            found = file[name][()]
            del file[name]
            shape = (100_000, *found.shape[1:])
            file.create_dataset(name, shape, np.complex64, chunks=(1, *found.shape[1:]))
            file[name][50_000] = found[1]
    with SkmTeaFile(path) as scan:
        place = Place(50_000, contrast=1)
        slice_ = scan.measured(place)  # all of it would be 20 GB
        assert slice_.kspace.any()
        assert scan.maps(place).any()
        assert scan.reference(place).any()
        assert not scan.measured(Place(7)).kspace.any()


def test_a_slice_with_samples_in_the_padding(tmp_path: Path) -> None:
    path = write(tmp_path / "MTR_007.h5")
    with h5py.File(path, "a") as file:
        file["kspace"][2, 2, 12, 1, 3] = 1
    with SkmTeaFile(path) as scan:
        scan.measured(Place(2, contrast=0))
        text = r"MTR_007\.h5: 'kspace' at x = 2, echo 1 is not zero outside its middle \(26, 12\)"
        with pytest.raises(FileFormatError, match=text):
            scan.measured(Place(2, contrast=1))


def rewrite(file: h5py.File, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


def without_target(file: h5py.File) -> None:
    del file["target"]


def with_four_axes(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][:, :, :, 0])


def with_real_numbers(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][()].real)


def with_maps_of_fewer_coils(file: h5py.File) -> None:
    rewrite(file, "maps", file["maps"][:, :, :, :3])


def with_one_echo_in_the_target(file: h5py.File) -> None:
    rewrite(file, "target", file["target"][:, :, :, :1])


def with_two_sets_of_maps(file: h5py.File) -> None:
    rewrite(file, "maps", np.repeat(file["maps"][()], 2, -1))


def with_zeros(file: h5py.File) -> None:
    file["kspace"][...] = 0


def with_a_padded_mask(file: h5py.File) -> None:
    file["masks/poisson_6.0x"] = np.ones(SIZE, bool)


def with_larger_masks(file: h5py.File) -> None:
    del file["masks"]
    file["masks/poisson_6.0x"] = np.ones((40, 12), bool)


def with_smaller_masks(file: h5py.File) -> None:
    del file["masks"]
    file["masks/poisson_6.0x"] = np.ones((26, 10), bool)


def with_another_mask(file: h5py.File) -> None:
    file["masks/radial_6"] = np.ones(ACQUIRED, bool)


def with_a_mask_of_lines(file: h5py.File) -> None:
    file["masks/poisson_6.0x"] = np.ones(ACQUIRED[0], bool)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (without_target, r"it has no 'target' \(x, ky, kz, echo, 1\); it holds kspace, maps, masks"),
        (with_four_axes, r"'kspace' has the shape \(3, 32, 24, 4\), expected \(x, ky, kz, echo, coil\)"),
        (with_real_numbers, "'kspace' holds float32, expected complex numbers"),
        (
            with_maps_of_fewer_coils,
            r"'maps' has the shape \(3, 32, 24, 3, 1\), expected \(3, 32, 24, 4, 1\)",
        ),
        (with_two_sets_of_maps, r"'maps' has the shape \(3, 32, 24, 4, 2\)"),
        (
            with_one_echo_in_the_target,
            r"'target' has the shape \(3, 32, 24, 1, 1\), expected \(3, 32, 24, 2, 1\)",
        ),
        (with_zeros, "'kspace' is zero at x = 1, its middle"),
        (with_a_padded_mask, r"masks differ in size, .*poisson_4.0x \(26, 12\), poisson_6.0x \(32, 24\)"),
        (with_larger_masks, r"masks have the size \(40, 12\), and 'kspace' is only \(32, 24\)"),
        (with_smaller_masks, r"masks have the size \(26, 10\), and 'kspace' is not zero in .* \(26, 12\)"),
        (with_another_mask, "'masks' has 'radial_6', expected names as poisson_4.0x"),
        (with_a_mask_of_lines, r"'masks/poisson_6.0x' has the shape \(26,\), expected \(ky, kz\)"),
    ],
)
def test_a_broken_rule_is_told_with_the_file(tmp_path: Path, broken: Any, text: str) -> None:
    path = write(tmp_path / "MTR_007.h5")
    with h5py.File(path, "a") as file:
        broken(file)
    with pytest.raises(FileFormatError, match=rf"MTR_007\.h5: .*{text}"):
        SkmTeaFile(path)


def test_half_a_download(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not SkmTeaFile.recognises(path)
    with pytest.raises(FileFormatError, match=r"file\.h5: "):
        SkmTeaFile(path)


def test_it_is_no_other_data_set(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5")
    assert SkmTeaFile.recognises(path)
    assert not FastMriFile.recognises(path)
