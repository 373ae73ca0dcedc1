"""`scanside mask`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import Result

from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.header import MrdHeader
from scanside.sampling import (
    LINES,
    PLANES,
    SERIES,
    Limits,
    Space,
    generator,
    line_mask,
    plane_mask,
    series_mask,
)

Scanside = Callable[..., Result]


def test_all_patterns_are_listed(scanside: Scanside) -> None:
    text = scanside("mask").stdout
    assert [name for name in (*LINES, *PLANES, *SERIES) if name not in text] == []


def test_files_hold_the_mask_of_the_seed(scanside: Scanside, tmp_path: Path) -> None:
    array, table = tmp_path / "new" / "mask.npy", tmp_path / "mask.h5"
    options = ("--matrix", "64x48", "-R", 6, "--acs", "10x8", "--seed", 3, "--elliptical")
    told = scanside("mask", "poisson", *options, "-o", array, "-o", table).stdout
    space = Space.of(Limits(elliptical=True).region((64, 48)), (10, 8))
    expected = plane_mask("poisson", space, acceleration=6, rng=generator(3))
    assert np.array_equal(np.load(array), expected)
    with h5py.File(table) as file:
        assert np.array_equal(file["mask"][:], expected)
        assert dict(file["mask"].attrs)["pattern"] == "poisson"
        assert file["mask"].attrs["acs"].tolist() == [10, 8]
    assert f"{expected.sum()} of {space.n_places}" in told
    assert "6.00" in told
    assert "R of the whole matrix" in told


def test_lines_and_series(scanside: Scanside, tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    scanside("mask", "random", "--matrix", 96, "--acs", 12, "--partial-fourier", 0.75, "--late", "-o", path)
    space = Space.of(Limits((0.75, 1.0), "late").region((96,)), (12,))
    assert np.array_equal(np.load(path), line_mask("random", space, acceleration=4, rng=generator(0)))
    options = ("--matrix", 96, "--acs", 8, "--frames", 5, "--set", "density_power=3")
    scanside("mask", "variable-density", *options, "-o", path)
    frames = series_mask(
        "variable-density",
        Space.of(np.ones(96, bool), (8,)),
        5,
        acceleration=4,
        rng=generator(0),
        density_power=3,
    )
    assert np.array_equal(np.load(path), frames)
    scanside("mask", "kt-radial", "--matrix", "40x36", "--acs", 8, "-o", path)
    assert np.load(path).shape == (12, 40, 36)


def test_a_scan_can_be_undersampled_by_it(scanside: Scanside, small_scan: Path, tmp_path: Path) -> None:
    mask, output = tmp_path / "mask.npy", tmp_path / "images.h5"
    with Hdf5Reader(small_scan) as reader:
        n = MrdHeader.parse(reader.header_xml).encodings[0].limits["kspace_encode_step_1"].maximum + 1
    scanside("mask", "equispaced", "--matrix", n, "-R", 4, "--acs", 12, "-o", mask)
    scanside("replay", small_scan, "--pipeline", "fft", "--undersample", mask, "-o", output)
    assert output.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("gaussian", "--matrix", "64"),
        ("gaussian", "--matrix", "64x40"),
        ("kt", "--matrix", "64", "--acs", "8"),
        ("kt-radial", "--matrix", "64x40", "--acs", "8"),
    ],
)
def test_pictures(scanside: Scanside, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    scanside("mask", *arguments, "-o", tmp_path / "mask.png")
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("poison", "--matrix", "64x64"), 1, "did you mean 'poisson'?"),
        (("poisson", "--matrix", "64"), 1, "one of points of a plane"),
        (("random", "--matrix", "64", "-R", "8"), 1, "lower acs, or the acceleration to 2.66"),
        (("random", "--matrix", "64", "-R", "0.5"), 1, "at least 1"),
        (("random", "--matrix", "64", "--elliptical"), 1, "two phase encodings"),
        (("random", "--matrix", "sixty"), 2, "--matrix has whole numbers"),
        (("random", "--matrix", "64x64x64"), 2, "one number or two"),
        (("random", "--partial-fourier", "0.75x0.75"), 2, "no more of them"),
        (("random", "--set", "power=3"), 1, "has no option 'power'"),
        (("random", "--set", "power"), 2, "expected name=value"),
        (("random", "-o", "mask.mat"), 2, "written to .npy, .h5, .png"),
        (("random", "-o", "a.npy", "-o", "a.npy"), 2, "named twice"),
    ],
)
def test_wrong_use(
    scanside: Scanside,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in scanside("mask", *arguments, status=status).stderr
    assert list(tmp_path.iterdir()) == []
