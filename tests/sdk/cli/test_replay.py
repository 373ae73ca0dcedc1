"""`scanside replay`: what it writes, prints and refuses. The replay itself has its own tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from scanside.many.replays import Recipe
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.replay import Regular, replay

Scanside = Callable[..., Result]


def pixels(path: Path) -> list[np.ndarray[Any, Any]]:
    with Hdf5Reader(path) as reader:
        return [image.data for series in reader.image_series() for image in reader.images(series)]


def test_images_and_report(scanside: Scanside, small_scan: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "new" / "out.h5", tmp_path / "other" / "report.html"
    text = scanside("replay", small_scan, "--output", output, "--report", report).stdout
    expected = [image.data.numpy() for image in replay(small_scan, "grappa").images]
    found = pixels(output)
    assert len(found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    html = report.read_text("utf-8")
    for title in ("Images", "Sampling", "Coil sensitivity maps", "Noise", "Time per stage"):
        assert f"<h2>{title}</h2>" in html
    assert str(output) in text
    assert "accumulate" in text


def test_json(as_json: Callable[..., Any], small_scan: Path, tmp_path: Path) -> None:
    found = as_json(
        "replay", small_scan, "-o", tmp_path / "out.h5", "-p", "fft", "--set", "finish.kind=complex"
    )
    assert [image["slice"] for image in found["images"]] == [0, 1]
    assert found["images"][0]["dtype"] == "complex64"
    assert found["n_readouts"] == 60
    assert [row["stage"] for row in found["stages"]][-1] == "finish"
    assert found["warnings"] == []


def test_json_stands_alone_although_there_are_warnings(scanside: Scanside, tmp_path: Path) -> None:
    scan = tmp_path / "scan.h5"
    quick = ("--set", "phantom.kind=shepp-logan", "--set", "geometry.matrix=[16, 16, 1]")
    scanside("simulate", *quick, "--set", "noise.scan=none", "-o", scan)
    result = scanside("replay", scan, "-p", "fft", "-o", tmp_path / "out.h5", "--json")
    assert "not prewhitened" in json.loads(result.stdout)["warnings"][0]
    assert result.stderr.startswith("warning: ")


def test_undersampling(as_json: Callable[..., Any], scanside: Scanside, tmp_path: Path) -> None:
    scan, mask = tmp_path / "scan.h5", tmp_path / "mask.npy"
    scanside(
        "simulate", "--set", "phantom.kind=shepp-logan", "--set", "geometry.matrix=[16, 16, 1]", "-o", scan
    )
    np.save(mask, np.arange(16) % 2)
    found = as_json("replay", scan, "-p", "fft", "-o", tmp_path / "out.h5", "--undersample", mask)
    assert found["n_readouts"] == 16 + 8


@pytest.mark.parametrize("via", ["gadgetron", "mrd"])
def test_other_ways(as_json: Callable[..., Any], small_scan: Path, tmp_path: Path, via: str) -> None:
    found = as_json(
        "replay", small_scan, "-o", tmp_path / "out.h5", "--via", via, "--report", tmp_path / "r.html"
    )
    assert found["via"] == via
    assert found["stages"] is None
    assert "their times are in its log" in (tmp_path / "r.html").read_text("utf-8")
    for ours, theirs in zip(pixels(tmp_path / "out.h5"), replay(small_scan, "grappa").images, strict=True):
        np.testing.assert_array_equal(ours, theirs.data.numpy())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--via", "carrier-pigeon"), 2, "possible are direct, gadgetron, mrd"),
        (("--speed", "fast"), 2, "positive factor"),
        (("--speed", "-1"), 2, "positive factor"),
        (("--pipeline", "grapa"), 1, "there is no pipeline 'grapa'"),
        (("--set", "grappa.kernel=4"), 1, "has no setting 'kernel'"),
        (("--device", "tpu"), 1, "use auto, cpu, cuda or cuda:N"),
        (("--group", "other"), 1, "has no group 'other'"),
    ],
)
def test_wrong_use(
    scanside: Scanside, small_scan: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = scanside("replay", small_scan, "-o", tmp_path / "out.h5", *arguments, status=status)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out.h5").exists()


@pytest.fixture
def folder(small_scan: Path, tmp_path: Path) -> Path:
    """Two recordings, and one that was cut short."""
    made = tmp_path / "scans"
    (made / "deep").mkdir(parents=True)
    shutil.copy(small_scan, made / "one.h5")
    shutil.copy(small_scan, made / "deep" / "two.h5")
    (made / "cut.h5").write_bytes(small_scan.read_bytes()[:20000])
    return made


def test_many(scanside: Scanside, folder: Path, small_scan: Path, tmp_path: Path) -> None:
    arguments = ("replay", folder, "-o", tmp_path / "out", "--workers", 1, "--device", "cpu")
    result = scanside(*arguments, "--report", tmp_path / "report.html", status=1)
    assert "2 done" in result.stdout
    assert "cut.h5 is a truncated HDF5 file" in result.stdout
    assert "truncated HDF5 file" in (tmp_path / "report.html").read_text("utf-8")
    for name in ("one.h5", "deep/two.h5"):
        for ours, theirs in zip(
            pixels(tmp_path / "out" / name), replay(small_scan, "grappa").images, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs.data.numpy())
    (folder / "cut.h5").unlink()
    listed = tmp_path / "list.txt"
    listed.write_text(f"{folder / 'one.h5'}\n{folder / 'deep/two.h5'}\n")
    again = scanside("replay", "--list", listed, "-o", tmp_path / "out", "--device", "cpu", "--json")
    found = json.loads(again.stdout)
    assert (found["n_done"], found["n_done_before"], found["n_failed"]) == (0, 2, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("{scans}", "--via", "mrd"), 2, "with --via direct and --speed max only"),
        (("{scans}", "--speed", "realtime"), 2, "with --via direct and --speed max only"),
        (("{scans}", "--pipeline", "grapa"), 1, "there is no pipeline 'grapa'"),
        (("{scans}", "--ray", "head"), 1, "is no address of a Ray cluster"),
        (("{scans}", "--output", "{scans}"), 1, "the images would lie among the recordings"),
        (("{scans}", "--output", "{scans}/one.h5"), 1, "is a file: many recordings need a folder"),
        (("{scans}/deep/empty",), 1, "no recordings in"),
        (("--list", "{scans}/none.txt"), 1, "No such file"),
        ((), 2, "name a recording, a folder, or a --list of them"),
    ],
)
def test_many_wrong_use(
    scanside: Scanside, folder: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    (folder / "deep" / "empty").mkdir()
    given = [argument.replace("{scans}", str(folder)) for argument in arguments]
    output = () if "--output" in arguments else ("--output", tmp_path / "out")
    result = scanside("replay", *given, *output, status=status)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as fastMRI's, of a simulated head."""
    from scanside.datasets.examples import write_example

    return write_example("fastmri", tmp_path_factory.mktemp("fastmri") / "new")[0]


def error_of(path: Path, source: Path) -> float:
    """NRMSE to the reconstruction that comes with a file, up to a scale."""
    from scanside.datasets import open_scan_file

    with open_scan_file(source) as file:
        references = np.stack([file.reference(place) for place in file.places])  # type: ignore[arg-type]
    found = np.squeeze(np.stack(pixels(path))).astype(np.float64)
    assert found.shape == references.shape
    scale = (found * references).sum() / (found**2).sum()
    return float(np.linalg.norm(scale * found - references) / np.linalg.norm(references))


@pytest.mark.parametrize(
    ("pipeline", "arguments", "most"),
    [
        ("fft", (), 1e-6),
        ("grappa", ("--undersample", 2), 0.05),
        ("sense", ("--undersample", 2, "--acs", 20), 0.05),
    ],
)
def test_files_of_data_sets(
    as_json: Callable[..., Any], head: Path, tmp_path: Path, pipeline: str, arguments: Any, most: float
) -> None:
    found = as_json("replay", head, "-p", pipeline, "-o", tmp_path / "out.h5", "--device", "cpu", *arguments)
    assert found["recording"] == str(head)
    acs = {"grappa": 24, "sense": 20}.get(pipeline)
    centre, n = 57, 115
    lines = {
        k for k in range(n) if acs is None or (k - centre) % 2 == 0 or -acs // 2 <= k - centre < acs // 2
    }
    assert found["n_readouts"] == 2 * len(lines)
    assert error_of(tmp_path / "out.h5", head) < most


def test_nothing_of_a_conversion_stays(
    scanside: Scanside, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    scanside("replay", head, "-p", "fft", "-o", tmp_path / "out.h5", "--report", tmp_path / "report.html")
    scanside("replay", head, "-p", "grapa", "-o", tmp_path / "out.h5", status=1)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert "Sampling" in (tmp_path / "report.html").read_text("utf-8")


def test_many_files_of_data_sets(scanside: Scanside, head: Path, tmp_path: Path) -> None:
    arguments = (
        "replay",
        head,
        "-p",
        "grappa",
        "--undersample",
        2,
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
        "--workers",
        1,
    )
    assert "1 done" in scanside(*arguments).stdout
    assert error_of(tmp_path / "out" / head.name, head) < 0.05
    found = json.loads(scanside(*arguments, "--json").stdout)
    assert (found["n_done"], found["n_done_before"]) == (0, 1)
    # Other lines are another run.
    identities = {
        Recipe.load("grappa", tmp_path, undersample=one).identity
        for one in (None, Regular(2), Regular(2, 12), Regular(3))
    }
    assert len(identities) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--acs", "20"), "--acs goes with --undersample R"),
        (("--undersample", "mask.npy", "--acs", "20"), "--acs goes with --undersample R"),
        (("--undersample", "1"), "an acceleration from 2"),
    ],
)
def test_undersampling_that_there_is_not(
    scanside: Scanside, small_scan: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = scanside("replay", small_scan, "-o", tmp_path / "out.h5", *arguments, status=2)
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_scan_that_is_undersampled_already(scanside: Scanside, small_scan: Path, tmp_path: Path) -> None:
    arguments = ("replay", small_scan, "-o", tmp_path / "out.h5", "--undersample", 2)
    assert "the scan is not fully sampled" in scanside(*arguments, status=1).stderr


def test_a_file_of_which_no_scan_is_made(scanside: Scanside, tmp_path: Path) -> None:
    from scanside.datasets.examples import write_example

    (path,) = write_example("calgary-campinas", tmp_path / "brains")
    refused = scanside("replay", path, "-o", tmp_path / "out.h5", status=1).stderr
    assert f"{path} holds slices along its readout" in refused
