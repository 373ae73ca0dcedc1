"""BART's k-space: dimensions, maps, subjects, what BART itself makes of it, and files that do not fit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sdk.datasets.conftest import coils_of, recognised_as

from scanside.datasets import Place, open_scan_file
from scanside.datasets.as_bart import write_bart
from scanside.datasets.bart_files import read_cfl, write_cfl
from scanside.datasets.checking import check_folder
from scanside.datasets.cmrxrecon import write_cmrxrecon
from scanside.datasets.fastmri import write_fastmri
from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.datasets.m4raw import write_m4raw
from scanside.errors import CounterError, FileFormatError

COILS = coils_of(1, 4, 20, 32)[0]


def write(path: Path, values: Any = None) -> Path:
    """``(k0, k1, 1, coil)`` and more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cfl(path, centred_fft(COILS).T[:, :, None] if values is None else values)
    return path.with_suffix(".cfl")


def test_a_slice(tmp_path: Path) -> None:
    path = write(tmp_path / "sub7" / "kspace")
    write_cfl(tmp_path / "sub7" / "maps", COILS.T[:, :, None])
    assert recognised_as(path) == ["bart"]
    for one in (path, path.with_suffix(".hdr")):
        with open_scan_file(one) as file:
            assert (file.FORMAT, file.subject, list(file.places)) == ("bart", "sub7", [Place(0)])
            measured = file.measured(file.places[0])
            assert measured.acquired.shape == (20, 1)
            np.testing.assert_allclose(centred_ifft(measured.kspace), COILS, atol=1e-5)
            np.testing.assert_array_equal(file.maps(file.places[0]), COILS)


def test_lines_that_are_zero_were_not_acquired(tmp_path: Path) -> None:
    kspace = centred_fft(COILS)
    kspace[:, 1::2] = 0
    with open_scan_file(write(tmp_path / "one", kspace.T[:, :, None])) as file:
        assert file.subject == "one"
        np.testing.assert_array_equal(file.acquired(file.places[0])[:, 0], np.arange(20) % 2 == 0)


def test_counters_have_their_dimensions(tmp_path: Path) -> None:
    values = np.zeros((32, 20, 1, 4, 1, 2, 1, 1, 1, 1, 3, 1, 1, 5), np.complex64)
    for echo in range(2):
        for time in range(3):
            for number in range(5):
                values[..., 0, :, 0, echo, 0, 0, 0, 0, time, 0, 0, number] = (
                    1 + echo + 10 * time + 100 * number
                )
    with open_scan_file(write(tmp_path / "film", values)) as file:
        assert len(file.places) == 30
        for place in file.places:
            found = file.measured(place).kspace
            assert found.shape == (4, 20, 32)
            assert (found == 1 + place.contrast + 10 * place.phase + 100 * place.slice).all()
        with pytest.raises(CounterError, match="has no image at"):
            file.measured(Place(5))


def test_volumes_are_slices_along_the_readout(tmp_path: Path) -> None:
    volume = coils_of(6, 3, 10, 12).swapaxes(0, 1)  # (coil, x, k1, k0)
    kspace = centred_fft(volume, axes=(-3, -2, -1))
    with open_scan_file(write(tmp_path / "volume", kspace.transpose(1, 3, 2, 0))) as file:
        assert [place.slice for place in file.places] == list(range(6))
        for place in file.places:
            measured = file.measured(place)
            assert measured.acquired.shape == (10, 12)
            np.testing.assert_allclose(centred_ifft(measured.kspace), volume[:, place.slice], atol=1e-5)


@pytest.mark.parametrize("kind", ["fastmri", "cmrxrecon", "m4raw"])
def test_bart_makes_the_images_of_data_sets(bart: str, tmp_path: Path, kind: str) -> None:
    coils = coils_of(3, 4, 36, 64)
    if kind == "fastmri":
        path = tmp_path / "file1000001.h5"
        write_fastmri(path, coils, patient="a", image_size=(36, 64), padding=(3, 2))
    elif kind == "m4raw":
        path = tmp_path / "2022061003_T202.h5"
        write_m4raw(path, coils, patient="a", columns=(3, 30))
    else:
        path = tmp_path / "MultiCoil/Cine/TrainingSet/FullSample/P001/cine_sax.mat"
        write_cmrxrecon(path, coils.reshape(3, 1, *coils.shape[1:]))
    with open_scan_file(path) as file:
        write_bart(file, tmp_path / "out.cfl")
        expected = [
            np.sqrt((np.abs(centred_ifft(file.measured(place).kspace)) ** 2).sum(0))
            if kind == "cmrxrecon"
            else file.reference(place)
            for place in file.places
        ]
        measured = [file.measured(place).kspace for place in file.places]
    for arguments in (("fft", "-u", "-i", "3", "out", "images"), ("rss", "8", "images", "rss")):
        subprocess.run([bart, *arguments], cwd=tmp_path, check=True)
    found = read_cfl(tmp_path / "rss").squeeze().T
    np.testing.assert_allclose(np.abs(found), expected, atol=1e-5 * np.max(expected))
    # And what was written is read.
    with open_scan_file(tmp_path / "out.cfl") as file:
        assert len(file.places) == 3
        for place, kspace in zip(file.places, measured, strict=True):
            np.testing.assert_array_equal(file.measured(place).kspace, kspace)


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "sub1" / "full")
    write(tmp_path / "sub1" / "sens")
    write(tmp_path / "sub2" / "full").unlink()
    found = check_folder(tmp_path)
    assert found.datasets == {"bart": 2}
    assert found.subjects("bart") == {"sub1"}
    (broken,) = found.broken
    assert (broken.path, broken.problem) == (
        Path("sub2/full.hdr"),
        f"{tmp_path / 'sub2/full.cfl'} does not exist: BART's format is a pair of files .hdr and .cfl",
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-16])


def of_more_dimensions(path: Path) -> None:
    write_cfl(path, np.ones((8, 8, 1, 2, 1, 1, 4)))


def without_phase_encoding(path: Path) -> None:
    write_cfl(path, np.ones((8, 1, 1, 2)))


def with_maps_of_another_scan(path: Path) -> None:
    write_cfl(path.with_name("one_maps.cfl"), np.ones((8, 8, 1, 4)))


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (cut, r"one\.cfl holds 2558 samples, and one\.hdr announces 32 × 20 × 1 × 4 = 2560"),
        (of_more_dimensions, "of BART's dimensions 6 has 4; expected space"),
        (without_phase_encoding, r"has the dimensions \(8, 1, 1, 2\), expected two or three of space"),
        (with_maps_of_another_scan, r"one_maps\.hdr has the dimensions .*: they are not of one scan"),
    ],
)
def test_what_is_refused(tmp_path: Path, broken: Any, text: str) -> None:
    path = write(tmp_path / "one")
    broken(path)
    with pytest.raises(FileFormatError, match=text):
        open_scan_file(path)


def test_headers_of_other_formats_are_none_of_bart(tmp_path: Path) -> None:
    path = tmp_path / "brain.hdr"
    path.write_bytes(b"\x5c\x01\x00\x00" + bytes(344))  # Analyze
    assert recognised_as(path) == []
