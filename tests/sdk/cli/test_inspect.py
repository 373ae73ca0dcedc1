"""`scanside inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from typer.testing import Result

Scanside = Callable[..., Result]


def test_text(scanside: Scanside, small_scan: Path) -> None:
    text = scanside("inspect", small_scan).stdout
    for expected in (
        "64 × 32 × 1",
        "32 × 32 × 1",
        "kspace_encode_step_1  0 – 30",
        "12 lines (embedded), kspace_encode_step_1 10 to 21",
        "█·█·█·█·█·▓▓▓▓▓▓▓▓▓▓▓▓█·█·█·█·█",
        "2 slices",
        "Nothing looks wrong.",
    ):
        assert expected in text, text


def test_json(as_json: Callable[..., Any], small_scan: Path) -> None:
    found = as_json("inspect", small_scan)
    assert found["findings"] == []
    assert found["n_readouts"] == 16 + 2 * 22
    assert found["encodings"][0]["geometry"]["0"]["directions"] == ["L", "P", "H"]


def test_pictures(scanside: Scanside, small_scan: Path, tmp_path: Path) -> None:
    scanside("inspect", small_scan, "--png", tmp_path / "a" / "s.png", "--report", tmp_path / "b" / "r.html")
    assert (tmp_path / "a" / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "Research use only" in (tmp_path / "b" / "r.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "level", "status"),
    [
        ("scanside_1_1_2", "", "note", 0),
        ("<receiverChannels>4<", "<receiverChannels>6<", "warning", 3),
        ("<center>16<", "<center>5<", "error", 1),
    ],
)
def test_exit_status_tells_the_gravest_finding(
    scanside: Scanside,
    as_json: Callable[..., Any],
    small_scan: Path,
    tmp_path: Path,
    old: str,
    new: str,
    level: str,
    status: int,
) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(small_scan.read_bytes())
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"]
        assert old in xml.asstr()[0]
        xml[0] = xml.asstr()[0].replace(old, new)
    assert f"{level}: " in scanside("inspect", path, status=status).stdout
    assert as_json("inspect", path, status=status)["findings"][0]["level"] == level


def example(name: str, folder: Path) -> Path:
    from scanside.datasets.examples import write_example

    return write_example(name, folder / name)[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "fastmri",
            (
                "subject                 a",
                "2: 2 slices",
                "4 × 120 × 256, the first",
                "115 of 120 lines k1, from 3 to 117",
                "112 × 128",
                "reconstruction          comes with the file",
                "ISMRMRD header          comes with the file",
                "can be replayed",
            ),
        ),
        ("m4raw", ("98 of 128 lines k1, from 15 to 112", "coil maps               none", "can be replayed")),
        (
            "skm-tea",
            ("8: 4 slices, 2 contrasts", "samples (k1, k0)", "cannot be replayed: it holds slices along"),
        ),
        (
            "fastmri-prostate-diffusion",
            ("48: 1 slice, 6 sets", "cannot be replayed: it holds readouts that are not"),
        ),
        ("fastmri-prostate-t2", ("48 of 128 lines k1, from 16 to 110, 47 between them are missing",)),
        (
            "knee-mri",
            ("329637", "rows 32 to 63", "label acl", "cannot be replayed: it holds magnitude images"),
        ),
        (
            "bart",
            ("volunteer-1", "coil maps               come with the file", "ISMRMRD header          none"),
        ),
    ],
)
def test_files_of_data_sets(
    scanside: Scanside, as_json: Callable[..., Any], tmp_path: Path, name: str, expected: tuple[str, ...]
) -> None:
    path = example(name, tmp_path)
    text = scanside("inspect", path).stdout
    assert text.startswith(f"{path}  {name}")
    for one in expected:
        assert one in text, text
    found = as_json("inspect", path)
    assert (found["dataset"], found["path"]) == (name, str(path))
    assert (found["obstacle"] is None) == ("can be replayed" in text)


def test_a_known_defect_is_a_warning(scanside: Scanside, tmp_path: Path) -> None:
    path = example("cmrxrecon", tmp_path)
    bad = path.parents[5] / "MultiCoil" / "Aorta" / "TrainingSet" / "FullSample" / "P077" / "aorta_sag.mat"
    bad.parent.mkdir(parents=True)
    path.rename(bad)
    assert "warning: " in scanside("inspect", bad, status=3).stdout


def test_options_that_are_for_scans(scanside: Scanside, tmp_path: Path) -> None:
    refused = scanside(
        "inspect", example("m4raw", tmp_path), "--report", tmp_path / "r.html", status=2
    ).stderr
    assert "are for ISMRMRD" in refused


def test_half_a_download(scanside: Scanside, tmp_path: Path) -> None:
    path = example("knee-mri", tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    assert "329637-8.pck" in scanside("inspect", path, status=1).stderr
