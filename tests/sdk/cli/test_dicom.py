"""From images to files that others read, and to an archive that is there or not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer
from scanside.simulate import Truth

# pynetdicom leaves the closing of a socket that could not be connected to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module")
def images(small_scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the small scan."""
    from scanside.replay import replay

    path = tmp_path_factory.mktemp("images") / "images.h5"
    replay(small_scan, "grappa", path, device="cpu")
    return path


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """dcmtk's receiver: its address, and the folder of what it received."""
    program = shutil.which("storescp")
    if program is None:
        pytest.skip("'storescp' is not installed: apt-get install dcmtk")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "received"
    folder.mkdir()
    process = subprocess.Popen([program, "-od", str(folder), str(port)])
    until = time.monotonic() + 300
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield f"127.0.0.1:{port}", folder
    process.kill()
    process.wait(300)


def test_export(as_json: Any, images: Path, small_scan: Path, tmp_path: Path) -> None:
    told = as_json("dicom", images, "-o", tmp_path / "out")
    (series,) = told["series"]
    assert (series["number"], series["n_instances"], told["patient"]) == (1020, 2, "anonymous")
    datasets = sorted(
        (dcmread(path) for path in Path(series["folder"]).iterdir()), key=lambda one: one.InstanceNumber
    )
    truth = Truth.load(small_scan.with_name("truth.npz"))
    for i, dataset in enumerate(datasets):
        np.testing.assert_allclose(dataset.ImagePositionPatient, truth.affines[i][:3, 3], atol=1e-4)
        found, expected = dataset.pixel_array.ravel(), np.abs(truth.image(i)).ravel()
        assert np.corrcoef(found, expected)[0, 1] > 0.9
    again = as_json("dicom", "export", images, "-o", tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")} == {
        path.name: path.read_bytes() for path in Path(again["series"][0]["folder"]).iterdir()
    }


def test_header_from_the_scan(
    scanside: Any, as_json: Any, images: Path, small_scan: Path, tmp_path: Path
) -> None:
    """Images without a scan's header need the scan: which header it is makes no difference."""
    bare = tmp_path / "bare.h5"
    with Hdf5Reader(images) as reader, Hdf5Writer(bare) as writer:
        for image in reader.items():
            writer.write(image)
    refused = scanside("dicom", bare, "-o", tmp_path / "a", status=1)
    assert "--raw SCAN.h5" in refused.stderr
    told = as_json("dicom", bare, "-o", tmp_path / "a", "--raw", small_scan)
    assert told["series"][0]["n_instances"] == 2
    as_json("dicom", images, "-o", tmp_path / "b")
    names = [sorted(path.name for path in (tmp_path / folder).rglob("*.dcm")) for folder in "ab"]
    assert names[0] == names[1]


def test_send(as_json: Any, scanside: Any, images: Path, storescp: tuple[str, Path], tmp_path: Path) -> None:
    address, received = storescp
    away = scanside(
        "dicom", images, "-o", tmp_path / "out", "--send", "127.0.0.1:9", "--timeout", 5, status=1
    )
    assert "2 wait in" in away.stderr
    assert "scanside dicom send" in away.stderr
    assert not list(received.iterdir())
    told = as_json("dicom", "send", tmp_path / "out" / "spool", "--to", address)
    assert (told["sent"], told["waiting"], told["problem"]) == (2, 0, None)
    assert len(list(received.iterdir())) == 2
    told = as_json("dicom", images, "-o", tmp_path / "out", "--send", address, "--called", "STORE")
    assert (told["sent"], told["waiting"]) == (2, 0)
    assert len(list(received.iterdir())) == 2, "the same images once more are the same instances"
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2, "files stay when they were sent"


def test_wrong_use(scanside: Any, images: Path, small_scan: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.dcm").write_bytes(b"precious")
    assert "is no spool" in scanside("dicom", "send", tmp_path, "--to", "pacs:104", status=1).stderr
    assert (
        "expected host:port" in scanside("dicom", images, "-o", tmp_path, "--send", "pacs", status=1).stderr
    )
    assert "holds no images" in scanside("dicom", small_scan, "-o", tmp_path, status=1).stderr
    scanside("dicom", images, "-o", tmp_path, "--patient", "jane", status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.dcm"]
    assert "IMAGES" in scanside("dicom", "export", "--help").stdout
