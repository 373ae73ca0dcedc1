"""Images pass, their DICOM copies are written and sent, and nothing that goes wrong with these ends a scan."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from scanside import Image, Scan
from scanside.dicom.spool import Spool
from scanside.errors import StageConfigError
from scanside.mrd.header import Limit
from scanside.stages.dicom import ExportDicom
from scanside.testing import StageTests, small_image, small_scan

# pynetdicom leaves the closing of a socket that could not be connected to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

NOWHERE = "127.0.0.1:9"


class TestExportDicom(StageTests):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def stage(self) -> ExportDicom:
        return ExportDicom(folder=self.folder)


@pytest.fixture
def archive() -> Iterator[Callable[..., Any]]:
    """Starts an archive that takes everything; gives its address, and the identifiers of what it has."""
    servers = []

    def start(port: int = 0) -> tuple[str, list[str]]:
        entity, received = AE(ae_title="PACS"), []
        entity.add_supported_context(MRImageStorage)

        def take(event: Any) -> int:
            received.append(str(event.request.AffectedSOPInstanceUID))
            return 0

        servers.append(
            entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
        )
        return f"127.0.0.1:{servers[-1].server_address[1]}", received

    yield start
    for server in servers:
        server.shutdown()


def magnitudes(n: int, slices: int | None = 1) -> list[Image]:
    """Images of one slice, with a header that announces so many slices, or does not say how many."""
    images = [small_image(repetition=i) for i in range(n)]
    for image in images:
        image.header["image_type"] = 1
    limits = {} if slices is None else {"slice": Limit(0, slices - 1, 0)}
    encoding = replace(small_scan().encoding(), limits={**limits, "repetition": Limit(0, n - 1, 0)})
    return [image.replace(data=image.data.abs(), encoding=encoding) for image in images]


def test_images_pass_unchanged(run_stage: Any, make_header: Any, tmp_path: Path) -> None:
    images = magnitudes(3)
    ran = run_stage(ExportDicom(folder=tmp_path), make_header(), images)
    assert all(a is b for a, b in zip(ran.items, images, strict=True))
    files = sorted(tmp_path.rglob("*.dcm"))
    assert ran.scan.metrics["dicom.written"] == len(files) == 3
    assert sorted(int(dcmread(file).InstanceNumber) for file in files) == [1, 2, 3]
    before = {file: file.read_bytes() for file in files}
    run_stage(ExportDicom(folder=tmp_path), make_header(), images)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.dcm")} == before, "a replay writes the same"


def test_what_a_dead_process_wrote_goes(context: Any, tmp_path: Path) -> None:
    (tmp_path / "1.2.3").mkdir()
    whole, half = tmp_path / "1.2.3" / "1.dcm", tmp_path / "1.2.3" / ".2.x.part"
    for path in (whole, half):
        path.touch()
        os.utime(path, (1e9, 1e9))
    ExportDicom(folder=tmp_path).prepare(context)
    assert whole.exists()
    assert not half.exists()


def test_sent(run_stage: Any, make_header: Any, archive: Any, tmp_path: Path) -> None:
    address, received = archive()
    stage = ExportDicom(send=address, spool=tmp_path / "spool", wait_s=60)
    ran = run_stage(stage, make_header(), magnitudes(3))
    assert len(set(received)) == 3
    assert ran.scan.warnings == []
    assert Spool(tmp_path / "spool").waiting() == []


def test_archive_is_away(run_stage: Any, make_header: Any, archive: Any, tmp_path: Path) -> None:
    """The scan goes on, the operator is told, and the next process sends what waits."""
    images = magnitudes(2)
    ran = run_stage(ExportDicom(send=NOWHERE, spool=tmp_path / "spool", wait_s=60), make_header(), images)
    assert all(a is b for a, b in zip(ran.items, images, strict=True))
    (warning,) = ran.scan.warnings
    assert "2 DICOM images wait to be sent: ANY-SCP at 127.0.0.1:9 cannot be reached" in warning
    address, received = archive()
    run_stage(ExportDicom(send=address, spool=tmp_path / "spool", wait_s=60), make_header(), [])
    assert len(received) == 2


def test_sender_starts_before_any_scan(
    context: Any, archive: Any, tmp_path: Path, run_stage: Any, make_header: Any
) -> None:
    run_stage(ExportDicom(send=NOWHERE, spool=tmp_path), make_header(), magnitudes(1))
    address, received = archive()
    stage = ExportDicom(send=address, spool=tmp_path)
    stage.prepare(context)
    until = time.monotonic() + 300
    while not received and time.monotonic() < until:
        time.sleep(0.01)
    assert len(received) == 1


@pytest.fixture
def context() -> Any:
    from scanside import Context

    return Context(device="cpu")


@pytest.mark.parametrize("where", ["folder", "spool"])
def test_full_disk(
    run_stage: Any, make_header: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The image goes out all the same, and says that it has no copy."""
    stage = ExportDicom(folder=tmp_path) if where == "folder" else ExportDicom(send=NOWHERE, spool=tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(os, "fsync", full)
    images = magnitudes(2)
    ran = run_stage(stage, make_header(), images)
    assert [torch.equal(a.data, b.data) for a, b in zip(ran.items, images, strict=True)] == [True, True]
    assert "No space left on device" in ran.items[0].meta.first("ScansideDicom")
    assert "ScansideDicom" not in images[0].meta
    assert "No space left on device" in ran.scan.warnings[0]
    assert str(tmp_path) not in ran.scan.warnings[0], "hosts on the network need not know the folders"
    assert ran.scan.metrics["dicom.failed"] == 2
    assert not list(tmp_path.rglob("*.dcm"))


@pytest.mark.parametrize("slices", [None, 2])
def test_full_disk_after_the_images_went(
    run_stage: Any, make_header: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: int | None
) -> None:
    """Those that waited for slices cannot say it any more: the operator is told, and each is counted."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(os, "fsync", full)
    ran = run_stage(ExportDicom(folder=tmp_path), make_header(), magnitudes(2, slices))
    assert "No space left on device" in ran.scan.warnings[0]
    assert ran.scan.metrics["dicom.failed"] == 2


def test_images_that_wait_when_a_scan_fails(context: Any, make_header: Any, tmp_path: Path) -> None:
    """Whatever ends the scan, images that were made have their copies."""
    stage = ExportDicom(folder=tmp_path)
    stage.prepare(context)
    stage.open(Scan.from_xml(make_header()))
    for image in magnitudes(2, slices=2):
        list(stage.process(image))
    assert not list(tmp_path.rglob("*.dcm"))
    stage.close()
    assert sorted(int(dcmread(file).InstanceNumber) for file in tmp_path.rglob("*.dcm")) == [1, 2]


def test_image_that_is_none(run_stage: Any, make_header: Any, tmp_path: Path) -> None:
    good, bad = magnitudes(2)
    bad.header["read_dir"] = (1, 1, 0)
    ran = run_stage(ExportDicom(folder=tmp_path), make_header(), [bad, good])
    assert "perpendicular" in ran.items[0].meta.first("ScansideDicom")
    assert ran.items[1] is good
    assert len(list(tmp_path.rglob("*.dcm"))) == 1


def test_without_the_extra(tmp_path: Path) -> None:
    """The stage and its settings are known; using it says what to install."""
    code = f"""
import sys
sys.modules["pydicom"] = None
from scanside import Context
from scanside.errors import MissingExtra
from scanside.stages.dicom import ExportDicom
stage = ExportDicom(folder={str(tmp_path)!r})
try:
    stage.prepare(Context())
except MissingExtra as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'scanside[dicom]'" in run.stdout, run.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nowhere to go"),
        ({"send": "pacs:104"}, "belong together"),
        ({"folder": "a", "spool": "b"}, "belong together"),
        ({"send": "pacs", "spool": "b"}, "expected host:port"),
        ({"send": "pacs:104", "spool": "b", "called_title": "A" * 17}, "entity title"),
    ],
)
def test_settings(settings: dict[str, str], message: str) -> None:
    with pytest.raises(StageConfigError, match=message):
        ExportDicom(**settings)
