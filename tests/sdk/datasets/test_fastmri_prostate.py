"""fastMRI's prostates: lattices, padding and orientation of T2; ramps, weightings and maps of diffusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import Place, open_scan_file
from scanside.datasets.fastmri import FastMriFile, write_fastmri
from scanside.datasets.fastmri_prostate import (
    WEIGHTINGS,
    EpiReadout,
    FastMriProstateDiffusionFile,
    FastMriProstateT2File,
    interleave,
)
from scanside.datasets.fastmri_prostate_writers import (
    sampled_on_ramps,
    write_prostate_diffusion,
    write_prostate_t2,
)
from scanside.datasets.fourier import centred_fft, centred_ifft, middle
from scanside.datasets.skm_tea import SkmTeaFile, write_skm_tea
from scanside.errors import FileFormatError

N, N_COLUMNS = 48, 33
SIZE = (24, 20)
EPI = EpiReadout(120, 120, 400, 30, 700)
READOUT_US = 580
ATTENUATION = (0.9, 0.8, 0.7, 0.3, 0.2, 0.1)


def write_t2(path: Path, **settings: Any) -> Path:
    given = {"image_size": SIZE, "n_columns": N_COLUMNS} | settings
    write_prostate_t2(path, given.pop("coil_images", coils_of(3, 4, N, N)), **given)
    return path


def write_diffusion(path: Path, **settings: Any) -> Path:
    given = {
        "attenuation": ATTENUATION,
        "image_size": (10, 12),
        "epi": EPI,
        "readout_us": READOUT_US,
    } | settings
    coils = given.pop("coil_images", coils_of(2, 3, 20, 24))
    write_prostate_diffusion(path, coils, maps_of(coils), **given)
    return path


def maps_of(coils: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return coils / (np.sqrt((np.abs(coils) ** 2).sum(1, keepdims=True)) + 1e-6)


def plain_images(kspace: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Along rows and columns, as others do it."""
    shifted = np.fft.ifftshift(kspace, (-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), (-2, -1))


def test_a_t2_file_has_the_published_layout(tmp_path: Path) -> None:
    with h5py.File(write_t2(tmp_path / "file_prostate_AXT2_001.h5")) as file:
        assert file["kspace"].shape == (3, 3, 4, N, N_COLUMNS)
        assert file["kspace"].dtype == np.complex64
        assert file["calibration_data"].shape == (3, 4, N, 8)
        assert file["reconstruction_rss"].shape == (3, SIZE[1], SIZE[0])
        assert set(file.attrs) == {"acquisition", "patient_id", "max", "norm"}
        found = file["kspace"][()].any((1, 2, 3))
        np.testing.assert_array_equal(found[0], np.arange(N_COLUMNS) % 2 == 0)
        np.testing.assert_array_equal(found[1], ~found[0])
        np.testing.assert_array_equal(found[2], found[0])
        # As its authors do: zeros on both sides, fewer before; turned over; cut.
        complete = file["kspace"][0, 1] + file["kspace"][1, 1]
        images = plain_images(np.pad(complete, ((0, 0), (0, 0), (7, 8))))
        rss = np.flipud(np.sqrt((np.abs(images) ** 2).sum(0)))[14:34, 12:36]
        np.testing.assert_allclose(file["reconstruction_rss"][1], rss, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("n_columns", "before"), [(33, 7), (34, 7), (48, 0)])
def test_columns_are_padded_and_averages_have_every_second_one(
    tmp_path: Path, n_columns: int, before: int
) -> None:
    path = write_t2(tmp_path / "file_prostate_AXT2_012.h5", n_columns=n_columns)
    truth = centred_fft(coils_of(3, 4, N, N))
    with open_scan_file(path) as file:
        assert isinstance(file, FastMriProstateT2File)
        assert (file.subject, file.patient, file.image_size) == ("prostate-012", 12, SIZE)
        assert file.places == [Place(number, average=a) for a in range(3) for number in range(3)]
        for place in file.places:
            found = file.measured(place)
            assert found.kspace.shape == (4, N, N)
            assert found.acquired.shape == (N, 1)
            columns = np.arange(before, before + n_columns)[place.average % 2 :: 2]
            np.testing.assert_array_equal(np.flatnonzero(found.acquired), columns)
            np.testing.assert_allclose(found.kspace[:, columns], truth[place.slice][:, columns], atol=1e-4)
            assert not found.kspace[:, ~found.acquired[:, 0]].any()


def test_kspace_and_reference_lie_alike(tmp_path: Path) -> None:
    """One bright pixel: above the middle in k-space's images, below it in the file's."""
    point = np.zeros((1, 2, N, N), np.complex64)
    k1, k0 = N // 2 + 3, N // 2 - 5
    point[..., k1, k0] = 1
    path = write_t2(tmp_path / "file_prostate_AXT2_001.h5", coil_images=point, n_columns=N)
    cut1, cut0 = N // 2 - SIZE[0] // 2, N // 2 - SIZE[1] // 2
    with h5py.File(path) as plain, FastMriProstateT2File(path) as file:
        row, column = np.argwhere(plain["reconstruction_rss"][0] > 0.5)[0]
        assert (row, column) == (N - 1 - k0 - cut0, k1 - cut1)
        reference = file.reference(Place(0, average=1))
        assert reference.dtype == np.float32
        assert reference.shape == file.image_size == SIZE
        complete = file.measured(Place(0)).kspace + file.measured(Place(0, average=1)).kspace
    rss = np.sqrt((np.abs(centred_ifft(complete)) ** 2).sum(0))
    assert rss[k1, k0] == pytest.approx(np.sqrt(2), abs=1e-4)
    assert reference[k1 - cut1, k0 - cut0] == pytest.approx(np.sqrt(2), abs=1e-4)
    np.testing.assert_allclose(reference, middle(rss, SIZE), atol=1e-4)


def test_calibration_lines_are_the_middle_of_kspace(tmp_path: Path) -> None:
    with FastMriProstateT2File(write_t2(tmp_path / "file_prostate_AXT2_001.h5")) as file:
        found = file.calibration(Place(2))
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, centred_fft(coils_of(3, 4, N, N))[2][:, 20:28], atol=1e-4)


def test_a_diffusion_file_has_the_published_layout(tmp_path: Path) -> None:
    with h5py.File(write_diffusion(tmp_path / "file_prostate_AXDIFF_001.h5")) as file:
        assert file["kspace"].shape == (50, 2, 3, 24, 20)
        assert file["calibration_data"].shape == (2, 3, 24, 8)
        assert file["coil_sens_maps"].shape == (2, 3, 24, 20)
        text = file["ismrmrd_header"][()].decode()
    assert "<name>rampUpTime</name><value>120</value>" in text


def test_volumes_are_interleaved_as_its_authors_average_them() -> None:
    expected = {
        (50, "x"): [*range(2, 21, 6)],
        (50, "y"): [*range(3, 22, 6)],
        (50, "z"): [*range(4, 23, 6)],
        (1000, "x"): [*range(5, 24, 6), *range(26, 48, 3)],
        (1000, "y"): [*range(6, 25, 6), *range(27, 49, 3)],
        (1000, "z"): [*range(7, 26, 6), *range(28, 50, 3)],
    }
    found: dict[tuple[int, str], list[int]] = {}
    for volume, weighting, average in interleave():
        likes = found.setdefault(tuple(WEIGHTINGS[weighting]), [])
        assert average == len(likes)
        likes.append(volume)
    assert found == expected


def test_diffusion_weightings_are_sets(tmp_path: Path) -> None:
    coils = coils_of(2, 3, 20, 24)
    with open_scan_file(write_diffusion(tmp_path / "file_prostate_AXDIFF_007.h5")) as file:
        assert isinstance(file, FastMriProstateDiffusionFile)
        assert (file.subject, file.patient, file.image_size) == ("prostate-007", 7, (10, 12))
        assert len(file.places) == len(set(file.places)) == 48 * 2
        assert file.reference(file.places[0]) is None
        unweighted = sampled_on_ramps(coils, EPI, READOUT_US)
        for place in file.places:
            found = file.measured(place)
            np.testing.assert_array_equal(np.flatnonzero(found.acquired), np.arange(0, 20, 2))
            expected = ATTENUATION[place.set] * unweighted[place.slice] * found.acquired
            np.testing.assert_allclose(found.kspace, expected, atol=1e-4)
        np.testing.assert_allclose(file.maps(Place(1)), maps_of(coils)[1], atol=1e-6)
        assert file.calibration(Place(1)).shape == (3, 8, 24)


def test_diffusion_is_not_on_a_grid_and_says_so(tmp_path: Path) -> None:
    path = write_diffusion(tmp_path / "file_prostate_AXDIFF_001.h5")
    with FastMriProstateDiffusionFile(path) as file:
        assert not file.CARTESIAN
        assert file.epi == EPI
        assert file.facts["trajectory"] == "echo-planar, sampled on ramps, not regridded"
        assert file.facts["phase_correction"] == "no"
    assert FastMriProstateT2File.CARTESIAN
    with h5py.File(path, "a") as file:
        file["phase_correction"] = np.zeros(3)
    with FastMriProstateDiffusionFile(path) as again:
        assert again.facts["phase_correction"] == "yes"


def test_samples_on_ramps_are_closer_together(tmp_path: Path) -> None:
    """Of one pixel, k-space turns by 2π·x/n per step of k0: on the ramps, by less."""
    point = np.zeros((1, 1, 20, 24), np.complex64)
    point[..., 10, 12 + 4] = 1
    turns = (
        -np.diff(np.unwrap(np.angle(sampled_on_ramps(point, EPI, READOUT_US)[0, 0, 10])))
        * 24
        / (2 * np.pi * 4)
    )
    assert turns.sum() == pytest.approx(23)
    np.testing.assert_allclose(turns[6:17], turns[11], rtol=1e-3)
    step = READOUT_US / 23
    # While the gradient rises, the area of a step is that of a trapezoid; at 42.6 µs its height is 42.6 / 120.
    assert turns[0] / turns[11] == pytest.approx((30 + step / 2) / 120, rel=1e-3)
    # Where a readout is on the flat top alone, it is on the grid.
    flat = EPI._replace(acquisition_delay_us=120)
    coils = coils_of(1, 2, 20, 24)
    np.testing.assert_allclose(sampled_on_ramps(coils, flat, 400), centred_fft(coils), atol=1e-4)


def rewrite(file: h5py.File, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


def without_calibration(file: h5py.File) -> None:
    del file["calibration_data"]


def with_a_short_calibration(file: h5py.File) -> None:
    rewrite(file, "calibration_data", file["calibration_data"][:, :2])


def with_four_axes(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][0])


def with_real_numbers(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][()].real)


def with_two_averages(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][:2])


def with_equal_averages(file: h5py.File) -> None:
    file["kspace"][1] = file["kspace"][0]


def with_averages_in_another_order(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][()][[0, 1, 1]])


def with_an_empty_average(file: h5py.File) -> None:
    file["kspace"][1] = 0


def with_fewer_images(file: h5py.File) -> None:
    rewrite(file, "reconstruction_rss", file["reconstruction_rss"][:2])


def without_images(file: h5py.File) -> None:
    del file["reconstruction_rss"]


def without_header(file: h5py.File) -> None:
    del file["ismrmrd_header"]


def with_another_header(file: h5py.File) -> None:
    rewrite(file, "ismrmrd_header", file["ismrmrd_header"][()].replace(b"<maximum>32<", b"<maximum>30<"))


def with_more_lines_than_rows(file: h5py.File) -> None:
    rewrite(file, "ismrmrd_header", file["ismrmrd_header"][()].replace(b"<maximum>32<", b"<maximum>60<"))


def told(broken: Any, name: str, kind: Any, text: str, path: Path) -> None:
    with h5py.File(path, "a") as file:
        broken(file)
    with pytest.raises(FileFormatError, match=rf"{name}\.h5: .*{text}"):
        kind(path)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (without_calibration, r"it has no 'calibration_data' \(slice, coil, row, column\)"),
        (
            with_a_short_calibration,
            r"'calibration_data' has the shape \(3, 2, 48, 8\) and 'kspace' .* differ",
        ),
        (
            with_four_axes,
            r"'kspace' has the shape \(3, 4, 48, 33\), expected \(average, slice, coil, row, column",
        ),
        (with_real_numbers, "'kspace' holds float32, expected complex numbers"),
        (with_two_averages, "'kspace' has 2 averages, expected 3"),
        (
            with_equal_averages,
            r"the first and third the same, .*: 17 columns \(0, 2, 4, …\), 17 columns \(0, 2",
        ),
        (
            with_averages_in_another_order,
            r"those between: 17 columns .*, 16 columns .*, 16 columns \(1, 3, 5",
        ),
        (with_an_empty_average, "17 columns .*, no columns, 17 columns"),
        (with_fewer_images, r"'reconstruction_rss' has the shape \(2, 20, 24\)"),
        (without_images, r"it has no 'reconstruction_rss' \(slice, row, column\)"),
        (without_header, r"it has no 'ismrmrd_header' \(text\)"),
        (
            with_another_header,
            "encodes 31 lines of 48, and 'kspace' has 33 columns, which with 17 more are not",
        ),
        (with_more_lines_than_rows, "encodes 61 lines of 48, .*header and data are not of one scan"),
    ],
)
def test_a_broken_rule_of_t2(tmp_path: Path, broken: Any, text: str) -> None:
    path = write_t2(tmp_path / "file_prostate_AXT2_003.h5")
    told(broken, "file_prostate_AXT2_003", FastMriProstateT2File, text, path)


def with_49_volumes(file: h5py.File) -> None:
    rewrite(file, "kspace", file["kspace"][:49])


def with_maps_of_fewer_coils(file: h5py.File) -> None:
    rewrite(file, "coil_sens_maps", file["coil_sens_maps"][:, :2])


def with_zeros(file: h5py.File) -> None:
    file["kspace"][...] = 0


def without_ramps(file: h5py.File) -> None:
    header = file["ismrmrd_header"][()]
    rewrite(
        file, "ismrmrd_header", header.replace(b"rampDownTime", b"other").replace(b"<value>30<", b"<value><")
    )


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (with_49_volumes, "'kspace' has 49 volumes, expected 50: their order says how each is weighted"),
        (
            with_maps_of_fewer_coils,
            r"'coil_sens_maps' has the shape \(2, 2, 24, 20\), expected \(2, 3, 24, 20\)",
        ),
        (with_zeros, "'kspace' is zero in its middle"),
        (without_ramps, "trajectoryDescription lacks rampDownTime, acqDelayTime: .* cannot be regridded"),
    ],
)
def test_a_broken_rule_of_diffusion(tmp_path: Path, broken: Any, text: str) -> None:
    path = write_diffusion(tmp_path / "file_prostate_AXDIFF_003.h5")
    told(broken, "file_prostate_AXDIFF_003", FastMriProstateDiffusionFile, text, path)


@pytest.mark.parametrize(
    ("write", "reader", "text"),
    [
        (
            write_t2,
            FastMriProstateT2File,
            r"slice 2 of volume 0 has other .*: 18 columns .*, expected 17 columns",
        ),
        (
            write_diffusion,
            FastMriProstateDiffusionFile,
            "slice 0 of volume 5 .*: 11 columns .*, expected 10 col",
        ),
    ],
)
def test_a_slice_with_columns_of_its_own(tmp_path: Path, write: Any, reader: Any, text: str) -> None:
    path = write(tmp_path / "file_prostate_AXT2_001.h5")
    with h5py.File(path, "a") as file:
        file["kspace"][0, 2 % file["kspace"].shape[1], 1, 3, 3] = 1
        file["kspace"][5 % len(file["kspace"]), 0, 1, 3, 3] = 1
    with reader(path) as scan:
        scan.measured(scan.places[1])
        with pytest.raises(FileFormatError, match=rf"file_prostate_AXT2_001\.h5: {text}"):
            scan.measured(next(p for p in scan.places if p.slice == 2 or p.set == 3))


def test_columns_that_a_slice_lacks_were_not_acquired(tmp_path: Path) -> None:
    path = write_t2(tmp_path / "file_prostate_AXT2_001.h5")
    with h5py.File(path, "a") as file:
        file["kspace"][0, 2, :, :, 4] = 0
    with FastMriProstateT2File(path) as scan:
        for place, expected in ((Place(2), False), (Place(0), True)):
            assert scan.measured(place).acquired[7 + 4] == expected


def test_a_name_without_the_patient(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"scan\.h5: its name is not as .* give it the name"):
        FastMriProstateT2File(write_t2(tmp_path / "scan.h5"))


@pytest.mark.parametrize(("write", "kind"), [(write_t2, "T2"), (write_diffusion, "DIFF")])
def test_half_a_download(tmp_path: Path, write: Any, kind: str) -> None:
    path = write(tmp_path / f"file_prostate_AX{kind}_001.h5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for reader in (FastMriProstateT2File, FastMriProstateDiffusionFile):
        assert not reader.recognises(path)
        with pytest.raises(FileFormatError, match=rf"AX{kind}_001\.h5: "):
            reader(path)


def test_each_data_set_recognises_its_own_files(tmp_path: Path) -> None:
    readers = (FastMriFile, FastMriProstateT2File, FastMriProstateDiffusionFile, SkmTeaFile)
    paths = [tmp_path / "knee.h5", write_t2(tmp_path / "t2.h5"), write_diffusion(tmp_path / "diffusion.h5")]
    write_fastmri(paths[0], coils_of(1, 2, 36, 64), patient="somebody", image_size=(32, 32))
    with h5py.File(paths[2], "a") as file:
        file.attrs["acquisition"] = "AXDIFF"
    paths.append(tmp_path / "skm-tea.h5")
    ones = np.ones((2, 2, 8, 6), np.complex64)
    write_skm_tea(paths[3], ones, ones, acquired_size=(6, 4))
    for number, path in enumerate(paths):
        assert [reader.recognises(path) for reader in readers] == [number == one for one in range(4)]
