"""Which group of an HDF5 file is read is the same in all commands, and what their errors advise works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

Arguments = Callable[[Path, Path], list[Any]]

COMMANDS: dict[str, Arguments] = {
    "inspect": lambda scan, out: ["inspect", scan],
    "replay": lambda scan, out: ["replay", scan, "-o", out / "a.h5", "-p", "fft", "--device", "cpu"],
    "undersampled": lambda scan, out: [
        *(
            "replay",
            scan,
            "-o",
            out / "a.h5",
            "-p",
            "grappa",
            "--undersample",
            out / "mask.npy",
            "--device",
            "cpu",
        )
    ],
    "many": lambda scan, out: [
        *("replay", scan.parent, "-o", out / "many", "-p", "fft", "--device", "cpu", "--workers", 1)
    ],
    "raw": lambda scan, out: ["dicom", out / "images.h5", "-o", out / "dicom", "--raw", scan],
    "qa": lambda scan, out: ["qa", scan, "-p", "fft", "--device", "cpu"],
}


STATUS = {"qa": 3}
"""Of a command that did its work; the small scan is no phantom for quality assurance."""


@pytest.fixture(scope="module")
def made(small_scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the scan, in a file without its header, and a mask that keeps all lines."""
    from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer
    from scanside.replay import replay

    folder = tmp_path_factory.mktemp("made")
    replay(small_scan, "fft", folder / "whole.h5", device="cpu")
    with Hdf5Reader(folder / "whole.h5") as reader, Hdf5Writer(folder / "images.h5") as writer:
        for image in reader.items():
            writer.write(image)
    np.save(folder / "mask.npy", np.ones(1024))
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A folder for results that has them."""
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def scan_in(small_scan: Path, tmp_path: Path) -> Callable[..., Path]:
    """The small scan in other groups of a file that is alone in its folder."""

    def make(*names: str) -> Path:
        (tmp_path / "scans").mkdir()
        path = tmp_path / "scans" / "scan.h5"
        with h5py.File(small_scan) as source, h5py.File(path, "w") as file:
            for name in names:
                source.copy("dataset", file, name)
        return path

    return make


@pytest.mark.parametrize("command", COMMANDS)
def test_the_only_group_is_read(scanside: Any, scan_in: Any, out: Path, command: str) -> None:
    scanside(*COMMANDS[command](scan_in("only"), out), status=STATUS.get(command, 0))


@pytest.mark.parametrize("command", COMMANDS)
def test_advice_about_several_groups(scanside: Any, scan_in: Any, out: Path, command: str) -> None:
    arguments = COMMANDS[command](scan_in("a", "b"), out)
    option = "--raw-group" if command == "raw" else "--group"
    told = scanside(*arguments, status=1)
    assert (
        f"has 2 groups, 'a', 'b', and none is called 'dataset': choose one with {option} NAME" in told.output
    )
    scanside(*arguments, option, "b", status=STATUS.get(command, 0))


@pytest.mark.parametrize("command", COMMANDS)
def test_other_kinds_of_files(scanside: Any, out: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "scans").mkdir()
    path = tmp_path / "scans" / "fastmri.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = file["ismrmrd_header"] = file["reconstruction_rss"] = 0
    told = scanside(*COMMANDS[command](path, out), status=1)
    assert "is a file of the fastMRI data set" in told.output
    assert "group NAME" not in told.output
    assert "--raw SCAN.h5" not in told.output
