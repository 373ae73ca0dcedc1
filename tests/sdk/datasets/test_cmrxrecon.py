"""CMRxRecon's files: both formats of MATLAB, axes, masks beside them, what paths tell, and rules that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import Place, open_scan_file
from scanside.datasets.cmrxrecon import CmrxReconFile, known_defect, write_cmrxrecon
from scanside.datasets.fastmri import FastMriFile, write_fastmri
from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.errors import CounterError, FileFormatError

Images = npt.NDArray[np.complex64]
N_TIMES, N_SLICES, N_COILS, N_KY, N_KX = 3, 2, 4, 20, 32

CINE = "MultiCoil/Cine/TrainingSet/FullSample/P001/cine_sax.mat"
CINE_2023 = "MultiCoil/Cine/TrainingSet/AccFactor04/P001/cine_sax.mat"
CINE_2024 = "MultiCoil/Cine/ValidationSet/UnderSample_Task2/P003/cine_lax_kus_ktRadial8.mat"
CINE_2025 = "MultiCoil/Cine/TrainingSet/FullSample/Center005/Siemens_30T_Vida/P003/cine_sax.mat"
LGE_2025 = (
    "MultiCoil/LGE/ValidationSet/UnderSample_TaskR1/Center001/UIH_15T_umr670/P009/lge_lax_kus_Uniform8.mat"
)
FLOW_2026 = "TaskR1&R2/Aorta/TrainSet/Center001/UIH_30T_uMR890/P007/kdata_full.mat"
FLOW_UNDERSAMPLED = "TaskR1R2/ValidationSet/Aorta/Center002/Siemens_30T_VIDA/P007/kdata_ktGaussian10.mat"


@pytest.fixture
def film() -> Images:
    """``(time, slice, coil, k1, k0)``."""
    return coils_of(N_TIMES * N_SLICES, N_COILS, N_KY, N_KX).reshape(N_TIMES, N_SLICES, N_COILS, N_KY, N_KX)


@pytest.fixture
def flow() -> Images:
    """``(velocity encoding, time, coil, kz, ky, kx)``."""
    volume = coils_of(6, N_COILS, N_KY, N_KX).swapaxes(0, 1)
    return np.stack([[(1 + t) * np.exp(1j * v) * volume for t in range(2)] for v in range(4)]).astype(
        np.complex64
    )


def write_old(path: Path, images: Images, name: str = "kspace", **settings: Any) -> None:
    """As MATLAB saved before version 7.3: its own order of axes, those at the end dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: centred_fft(images).T}, **settings)


def rewrite(path: Path, name: str, value: Any) -> None:
    with h5py.File(path, "a") as file:
        for known in list(file):
            del file[known]
        file[name] = value


def lines_of(n_times: int) -> npt.NDArray[np.bool_]:
    """Every third line and the middle, other lines in every frame: ``(time, ky, kx)``."""
    mask = np.zeros((n_times, N_KY, N_KX), np.bool_)
    for time in range(n_times):
        mask[time, time % 3 :: 3] = True
    mask[:, 8:12] = True
    return mask


def spokes() -> npt.NDArray[np.bool_]:
    """Spokes on the grid, other ones in every frame: ``(time, ky, kx)``."""
    y, x = np.meshgrid(np.arange(N_KY) - N_KY // 2, np.arange(N_KX) - N_KX // 2, indexing="ij")
    turned = [np.abs(np.sin(np.arctan2(y, x) * 4 + time)) < 0.3 for time in range(N_TIMES)]
    return np.stack(turned) | (np.hypot(y, x) < 3)


@pytest.mark.parametrize("single", [True, False])
def test_files_are_written_as_matlab_writes_them(tmp_path: Path, film: Images, single: bool) -> None:
    path = tmp_path / CINE
    write_cmrxrecon(path, film, single=single)
    content = path.read_bytes()
    assert content.startswith(b"MATLAB 7.3 MAT-file")
    assert content[124:128] == b"\x00\x02IM"
    with h5py.File(path) as file:
        assert list(file) == ["kspace_full"]
        stored = file["kspace_full"]
        real = "<f4" if single else "<f8"
        assert stored.dtype == np.dtype([("real", real), ("imag", real)])
        assert stored.shape == (N_TIMES, N_SLICES, N_COILS, N_KY, N_KX)
        assert stored.attrs["MATLAB_class"] == (b"single" if single else b"double")
        kspace = stored["real"] + 1j * stored["imag"]
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (3, 4)), norm="ortho"), (3, 4))
    np.testing.assert_allclose(images, film, atol=1e-5)


@pytest.mark.parametrize("kind", ["single", "double", "old", "old and compressed"])
def test_kspace_is_that_of_the_coil_images(tmp_path: Path, film: Images, kind: str) -> None:
    path = tmp_path / CINE
    if kind.startswith("old"):
        write_old(path, film, do_compression="compressed" in kind)
    else:
        write_cmrxrecon(path, film, single=kind == "single")
    with open_scan_file(path) as file:
        assert isinstance(file, CmrxReconFile)
        assert file.image_size == (N_KY, N_KX)
        assert file.facts["sampling"] == "full"
        assert file.places == [Place(s, phase=t) for t in range(N_TIMES) for s in range(N_SLICES)]
        for place in file.places:
            found = file.measured(place)
            assert found.kspace.dtype == np.complex64
            assert found.acquired.shape == (N_KY, 1)
            assert found.acquired.all()
            np.testing.assert_allclose(centred_ifft(found.kspace), film[place.phase, place.slice], atol=1e-5)
            assert file.reference(place) is None


@pytest.mark.parametrize("writer", [write_cmrxrecon, write_old])
def test_slowest_axes_of_one_entry_are_dropped(tmp_path: Path, film: Images, writer: Any) -> None:
    slices, one = tmp_path / "P001/T1w.mat", tmp_path / "P002/blackblood.mat"
    writer(slices, film[0], name="kspace")
    writer(one, film[0, 0], name="kspace")
    with CmrxReconFile(slices) as file:
        assert file.places == [Place(0), Place(1)]
        np.testing.assert_allclose(centred_ifft(file.measured(Place(1)).kspace), film[0, 1], atol=1e-5)
    with CmrxReconFile(one) as file:
        assert file.places == [Place(0)]
        np.testing.assert_allclose(centred_ifft(file.measured(Place(0)).kspace), film[0, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["Mapping/P001/T2smap.mat", "P001/T1map.mat", "P001/T1rho_kus_Uniform4.mat"])
def test_weightings_of_maps_are_contrasts(tmp_path: Path, film: Images, name: str) -> None:
    write_cmrxrecon(tmp_path / name, film)
    with CmrxReconFile(tmp_path / name) as file:
        assert file.places[3] == Place(1, contrast=1)
        found = file.measured(Place(1, contrast=2)).kspace
    np.testing.assert_allclose(centred_ifft(found), film[2, 1], atol=1e-5)


def test_an_image_that_is_not_there(tmp_path: Path, film: Images) -> None:
    write_cmrxrecon(tmp_path / CINE, film)
    with (
        CmrxReconFile(tmp_path / CINE) as file,
        pytest.raises(CounterError, match=r"cine_sax\.mat has no image at .*contrast=1"),
    ):
        file.measured(Place(0, contrast=1))


def test_only_the_image_that_is_asked_for_is_read(tmp_path: Path, film: Images) -> None:
    path = tmp_path / CINE
    write_cmrxrecon(path, film)
    with h5py.File(path) as plain:
        where = plain["kspace_full"].id.get_chunk_info_by_coord((1, 1, 0, 0, 0))
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    path.write_bytes(content)
    with CmrxReconFile(path) as file:
        for place in set(file.places) - {Place(1, phase=1)}:
            file.measured(place)
        with pytest.raises(FileFormatError, match=r"cine_sax\.mat: "):
            file.measured(Place(1, phase=1))


@pytest.mark.parametrize(
    ("path", "name", "mask", "beside", "mask_name", "sampling"),
    [
        (CINE_2023, "kspace_sub04", lines_of(1)[0], "cine_sax_mask.mat", "mask04", "sub04"),
        (
            CINE_2024,
            "kus",
            spokes(),
            "../../Mask_Task2/P003/cine_lax_mask_ktRadial8.mat",
            "mask",
            "ktRadial8",
        ),
        (
            CINE_2024,
            "kus",
            lines_of(3),
            "../../Mask_Task2/P003/cine_lax_mask_ktRadial8.mat",
            "mask",
            "ktRadial8",
        ),
        (
            LGE_2025,
            "kspace",
            lines_of(1)[0],
            "../../../../Mask_TaskR1/Center001/UIH_15T_umr670/P009/lge_lax_mask_Uniform8.mat",
            "mask",
            "Uniform8",
        ),
    ],
)
def test_the_mask_beside_a_file_is_what_was_acquired(
    tmp_path: Path,
    film: Images,
    path: str,
    name: str,
    mask: npt.NDArray[np.bool_],
    beside: str,
    mask_name: str,
    sampling: str,
) -> None:
    images = film if mask.ndim == 3 or name == "kspace_sub04" else film[0]
    write_cmrxrecon(tmp_path / path, images, name=name, mask=mask)
    companion = ((tmp_path / path).parent / beside).resolve()
    with h5py.File(companion) as plain:
        np.testing.assert_array_equal(plain[mask_name][()], mask)
    full = centred_fft(film)
    with CmrxReconFile(tmp_path / path) as file:
        assert file.facts["mask"] == companion.name
        assert file.facts["sampling"] == sampling
        for place in file.places:
            found = file.measured(place)
            expected = mask[place.phase] if mask.ndim == 3 else mask
            np.testing.assert_array_equal(np.broadcast_to(found.acquired, (N_KY, N_KX)), expected)
            whole = full[place.phase, place.slice]
            np.testing.assert_allclose(found.kspace, whole * expected, atol=1e-4)


def test_whole_lines_are_told_as_lines(tmp_path: Path, film: Images) -> None:
    write_cmrxrecon(tmp_path / CINE_2024, film, name="kus", mask=lines_of(3))
    with CmrxReconFile(tmp_path / CINE_2024) as file:
        assert file.measured(Place(0)).acquired.shape == (N_KY, 1)
    write_cmrxrecon(tmp_path / CINE_2024, film, name="kus", mask=spokes())
    with CmrxReconFile(tmp_path / CINE_2024) as file:
        assert file.measured(Place(0)).acquired.shape == (N_KY, N_KX)


def test_without_its_mask_the_samples_tell(tmp_path: Path, film: Images) -> None:
    path = tmp_path / CINE_2023
    write_cmrxrecon(path, film, name="kspace_sub04", mask=lines_of(1)[0])
    (path.parent / "cine_sax_mask.mat").unlink()
    with CmrxReconFile(path) as file:
        assert "mask" not in file.facts
        np.testing.assert_array_equal(file.measured(Place(0)).acquired[:, 0], lines_of(1)[0, :, 0])


def test_padding_of_a_full_file_was_not_acquired(tmp_path: Path, film: Images) -> None:
    path = tmp_path / CINE
    write_cmrxrecon(path, film)
    with h5py.File(path, "a") as file:
        file["kspace_full"][:, :, :, :5] = np.zeros((), file["kspace_full"].dtype)
    with CmrxReconFile(path) as scan:
        np.testing.assert_array_equal(scan.measured(Place(1)).acquired[:, 0], np.arange(N_KY) >= 5)


def test_a_mask_in_the_same_folder_is_found_too(tmp_path: Path, film: Images) -> None:
    path = tmp_path / CINE_2024
    write_cmrxrecon(path, film, name="kus", mask=lines_of(3))
    beside = path.with_name("cine_lax_mask_ktRadial8.mat")
    (path.parents[2] / "Mask_Task2/P003" / beside.name).rename(beside)
    with CmrxReconFile(path) as file:
        assert file.facts["mask"] == beside.name


def test_one_of_several_masks_and_one_of_an_old_file(tmp_path: Path, film: Images) -> None:
    path = tmp_path / CINE_2023
    mask = lines_of(1)[0]
    write_cmrxrecon(path, film, name="kspace_sub04", mask=mask)
    beside = path.parent / "cine_sax_mask.mat"
    scipy.io.savemat(beside, {"mask04": mask.T.astype(np.uint8), "mask08": np.zeros((N_KX, N_KY))})
    with CmrxReconFile(path) as file:
        np.testing.assert_array_equal(file.measured(Place(0)).acquired[:, 0], mask[:, 0])


def another_mask(path: Path) -> None:
    rewrite(path, "mask", np.roll(lines_of(3), 1, axis=1))


def a_mask_of_other_size(path: Path) -> None:
    rewrite(path, "mask", lines_of(2))


def a_transposed_mask(path: Path) -> None:
    rewrite(path, "mask", lines_of(1)[0].T)


def no_mask(path: Path) -> None:
    rewrite(path, "sampling", lines_of(3))


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (another_mask, r"192 samples of .* lie outside of the mask in cine_lax_mask_ktRadial8\.mat"),
        (
            a_mask_of_other_size,
            r"_mask_ktRadial8\.mat: 'mask' has the shape \(2, 20, 32\).*expected \(20, 32\) or",
        ),
        (a_transposed_mask, r"'mask' has the shape \(32, 20\).*expected \(20, 32\) or \(3, 20, 32\)"),
        (no_mask, "it has 0 arrays of masks, such as mask, expected one; it holds sampling"),
    ],
)
def test_a_mask_that_does_not_fit(tmp_path: Path, film: Images, broken: Any, text: str) -> None:
    path = tmp_path / CINE_2024
    write_cmrxrecon(path, film, name="kus", mask=lines_of(3))
    broken(path.parents[2] / "Mask_Task2/P003/cine_lax_mask_ktRadial8.mat")
    with (
        pytest.raises(FileFormatError, match=rf"cine_lax_kus_ktRadial8\.mat: .*{text}"),
        CmrxReconFile(path) as file,
    ):
        file.measured(Place(0))


def test_flow_in_four_dimensions_is_given_along_its_readout(tmp_path: Path, flow: Images) -> None:
    path = tmp_path / FLOW_2026
    write_cmrxrecon(path, flow, name="kdata_full", single=True)
    with h5py.File(path) as plain:
        assert plain["kdata_full"].shape == (4, 2, N_COILS, 6, N_KY, N_KX)
        kspace = plain["kdata_full"]["real"] + 1j * plain["kdata_full"]["imag"]
    along = (-3, -2, -1)
    volumes = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kspace, along), axes=along, norm="ortho"), along)
    np.testing.assert_allclose(volumes, flow, atol=1e-5)
    with open_scan_file(path) as file:
        assert file.image_size == (N_KY, 6)
        assert len(file.places) == 4 * 2 * N_KX
        for place in (Place(15, phase=1, set=2), Place(16, phase=1, set=2), Place(16, phase=0, set=3)):
            found = file.measured(place)
            assert found.acquired.all()
            expected = flow[place.set, place.phase, ..., place.slice].swapaxes(-1, -2)
            np.testing.assert_allclose(centred_ifft(found.kspace), expected, atol=1e-5)


def test_undersampled_flow_has_the_mask_of_its_time(tmp_path: Path, flow: Images) -> None:
    path = tmp_path / FLOW_UNDERSAMPLED
    rng = np.random.default_rng(3)
    mask = rng.random((2, 6, N_KY)) < 0.4
    write_cmrxrecon(path, flow, name="kdata_ktGaussian", mask=mask)
    beside = path.with_name("usmask_ktGaussian10.mat")
    with h5py.File(beside) as plain:
        assert plain["usmask_ktGaussian"].shape == (1, 2, 1, 6, N_KY, 1)
    with CmrxReconFile(path) as file:
        assert file.facts["sampling"] == "ktGaussian10"
        assert file.facts["mask"] == beside.name
        found = file.measured(Place(7, phase=1, set=3))
    np.testing.assert_array_equal(found.acquired, mask[1].T)
    images = centred_fft(flow[3, 1, ..., 7].swapaxes(-1, -2))
    np.testing.assert_allclose(found.kspace, images * mask[1].T, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "name", "subject", "facts"),
    [
        (CINE, "kspace_full", "P001", {"modality": "Cine", "part": "training", "kind": "cine_sax"}),
        ("CMRxRecon2023/" + CINE, "kspace_full", "P001", {"year": "2023"}),
        (CINE_2023, "kspace_sub04", "P001", {"year": "2023", "sampling": "sub04"}),
        (CINE_2024, "kus", "P003", {"year": "2024", "part": "validation", "kind": "cine_lax"}),
        (
            "MultiCoil/Aorta/TrainingSet/FullSample/P004/aorta_sag.mat",
            "kspace_full",
            "P004",
            {"year": "2024"},
        ),
        (
            CINE_2025,
            "kspace",
            "Center005/P003",
            {
                "year": "2025",
                "centre": "Center005",
                "vendor": "Siemens",
                "model": "Vida",
                "field_strength": "3.0 T",
                "sampling": "full",
            },
        ),
        (LGE_2025, "kspace", "Center001/P009", {"field_strength": "1.5 T", "sampling": "Uniform8"}),
        (FLOW_2026, "kspace", "Center001/P007", {"year": "2026", "vendor": "UIH", "modality": "Aorta"}),
        (
            "Center007/UIH_055T_uMR/P001/cine_lax.mat",
            "kspace",
            "Center007/P001",
            {"field_strength": "0.55 T"},
        ),
    ],
)
def test_what_the_path_tells(
    tmp_path: Path, film: Images, path: str, name: str, subject: str, facts: dict[str, str]
) -> None:
    write_cmrxrecon(tmp_path / path, film[:1, :1], name=name)
    with CmrxReconFile(tmp_path / path) as file:
        assert file.subject == subject
        assert facts.items() <= file.facts.items()
        assert {"defect", "mask"}.isdisjoint(file.facts)


def test_the_year_of_a_name_that_two_years_have_is_not_guessed(tmp_path: Path, film: Images) -> None:
    write_cmrxrecon(tmp_path / CINE, film)
    with CmrxReconFile(tmp_path / CINE) as file:
        assert "year" not in file.facts


@pytest.mark.parametrize(
    ("path", "defect"),
    [
        ("Aorta/TrainingSet/FullSample/P077/aorta_sag.mat", "the file is known"),
        ("Tagging/TrainingSet/FullSample/P105/tagging.mat", "the file is known"),
        ("Aorta/TrainingSet/FullSample/P065/aorta_sag.mat", "the file is known"),
        ("Aorta/TrainingSet/FullSample/P117/aorta_tra.mat", "the file is known"),
        ("Tagging/TrainingSet/FullSample/P087/tagging.mat", "some of its slices"),
        ("Aorta/TrainingSet/FullSample/P105/aorta_tra.mat", "some of its slices"),
        ("Cine/TrainingSet/FullSample/P109/cine_sax.mat", "some of its slices"),
        ("Cine/TrainingSet/FullSample/P100/cine_sax.mat", "some of its slices"),
        ("Cine/TrainingSet/FullSample/P100/cine_lax.mat", None),
        ("Cine/TrainingSet/FullSample/Center001/UIH_30T_umr780/P100/cine_sax.mat", None),
        ("CMRxRecon2023/Cine/TrainingSet/FullSample/P100/cine_sax.mat", None),
        ("Aorta/ValidationSet/FullSample/P077/aorta_sag.mat", None),
        ("Aorta/ValidationSet/UnderSample_Task1/P077/aorta_sag_kus_Uniform4.mat", None),
    ],
)
def test_files_that_are_known_to_be_bad(tmp_path: Path, film: Images, path: str, defect: str | None) -> None:
    found = known_defect(tmp_path / path)
    assert found is None if defect is None else (found or "").startswith(defect)
    write_cmrxrecon(tmp_path / path, film[:1, :1])
    with CmrxReconFile(tmp_path / path) as file:
        assert file.facts.get("defect") == found


def with_real_numbers(path: Path) -> None:
    rewrite(path, "kspace_full", np.ones((3, 2, 4, 20, 32)))


def with_complex_numbers_of_others(path: Path) -> None:
    rewrite(path, "kspace_full", np.ones((3, 2, 4, 20, 32), np.complex64))


def without_coils(path: Path) -> None:
    with h5py.File(path) as file:
        one = file["kspace_full"][0, 0, 0]
    rewrite(path, "kspace_full", one)


def with_a_seventh_axis(path: Path) -> None:
    with h5py.File(path) as file:
        found = file["kspace_full"][()]
    rewrite(path, "kspace_full", found[None])


def with_a_volume_of_one_coil(path: Path) -> None:
    with h5py.File(path) as file:
        found = file["kspace_full"][0, 0]
    rewrite(path, "kdata_full", found[:3])


def with_another_array(path: Path) -> None:
    rewrite(path, "img", np.ones(3))


def with_two_arrays(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["kus"] = file["kspace_full"][()]


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (with_real_numbers, "'kspace_full' holds no complex numbers as MATLAB writes them"),
        (with_complex_numbers_of_others, "'kspace_full' holds no complex numbers as MATLAB writes them"),
        (without_coils, r"'kspace_full' has the shape \(20, 32\), expected \(time, slice, coil, ky, kx\)"),
        (with_a_seventh_axis, r"'kspace_full' has the shape \(1, 3, 2, 4, 20, 32\), expected \(time, slice"),
        (
            with_a_volume_of_one_coil,
            r"'kdata_full' has the shape \(3, 20, 32\), expected \(velocity encoding",
        ),
        (with_another_array, "it has 0 arrays of k-space, such as kspace_full, .* it holds img"),
        (with_two_arrays, "it has 2 arrays of k-space, .* it holds kspace_full, kus"),
    ],
)
def test_a_broken_rule_is_told_with_the_file(tmp_path: Path, film: Images, broken: Any, text: str) -> None:
    path = tmp_path / CINE
    write_cmrxrecon(path, film)
    broken(path)
    with pytest.raises(FileFormatError, match=rf"P001/cine_sax\.mat: .*{text}"):
        CmrxReconFile(path)


def test_a_file_outside_of_a_patients_folder(tmp_path: Path, film: Images) -> None:
    path = tmp_path / "MultiCoil/P001/Cine/cine_sax.mat"
    write_cmrxrecon(path, film)
    assert CmrxReconFile.recognises(path)
    with pytest.raises(
        FileFormatError, match=r"cine_sax\.mat: it lies in 'Cine', expected the folder of a patient"
    ):
        CmrxReconFile(path)


@pytest.mark.parametrize("writer", [write_cmrxrecon, write_old])
def test_half_a_download(tmp_path: Path, film: Images, writer: Any) -> None:
    path = tmp_path / CINE
    writer(path, film)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not CmrxReconFile.recognises(path)
    with pytest.raises(FileFormatError, match=r"cine_sax\.mat"):
        CmrxReconFile(path)
    with pytest.raises(FileNotFoundError):
        CmrxReconFile(tmp_path / "P001/none.mat")


def test_files_of_others_are_left_to_them(tmp_path: Path, film: Images) -> None:
    own, old, fastmri = tmp_path / CINE, tmp_path / "P001/old.mat", tmp_path / "file1.h5"
    write_cmrxrecon(own, film)
    write_old(old, film)
    write_fastmri(fastmri, coils_of(1, 2, 20, 32), patient="somebody", image_size=(20, 16))
    assert CmrxReconFile.recognises(own)
    assert CmrxReconFile.recognises(old)
    assert not FastMriFile.recognises(own)
    assert not FastMriFile.recognises(old)
    assert not CmrxReconFile.recognises(fastmri)
    # Masks, coil maps and images that lie beside k-space are none either.
    scipy.io.savemat(tmp_path / "coilmap.mat", {"coilmap": film})
    scipy.io.savemat(tmp_path / "real.mat", {"kspace": film.real})
    with h5py.File(tmp_path / "channels.h5", "w") as file:
        file["kspace"] = np.ones((2, 3, 4, 24), np.float32)
    for name in ("coilmap.mat", "real.mat", "channels.h5", "none.mat"):
        assert not CmrxReconFile.recognises(tmp_path / name)
