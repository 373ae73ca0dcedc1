"""Sending: to dcmtk's receiver, which dies in between, and to archives that refuse in every way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage

from scanside.dicom.destination import Destination
from scanside.dicom.files import encoded
from scanside.dicom.spool import Spool
from scanside.dicom.store import Sender, deliver

# pynetdicom leaves the closing of a socket that could not be connected to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def spool(parts: Any, export: Any, tmp_path: Path) -> Spool:
    """A spool with five instances."""
    spool = Spool(tmp_path / "spool")
    for dataset in export(*(parts.image(slice=i, image_index=i + 1) for i in range(5))):
        spool.add(encoded(dataset), str(dataset.SOPInstanceUID))
    return spool


@pytest.fixture
def archive() -> Iterator[Callable[..., Destination]]:
    """Starts archives in this process; each answers with its statuses in turn, and goes on with the last."""
    servers = []

    def start(
        *statuses: int, storage: str = MRImageStorage, title: str = "PACS", only: bool = False
    ) -> Destination:
        entity = AE(ae_title=title)
        entity.add_supported_context(storage)
        entity.require_called_aet = only
        left = list(statuses)
        entity_handlers = [(evt.EVT_C_STORE, lambda event: left.pop(0) if len(left) > 1 else left[0])]
        servers.append(entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=entity_handlers))
        return Destination("127.0.0.1", servers[-1].server_address[1], title, timeout_s=10)

    yield start
    for server in servers:
        server.shutdown()


def emptied(spool: Spool) -> bool:
    until = time.monotonic() + 300
    while spool.waiting() and time.monotonic() < until:
        time.sleep(0.02)
    return not spool.waiting()


def test_storescp(spool: Spool, storescp: Any) -> None:
    """Everything arrives as it was, and leaves the spool."""
    storescp.start()
    sent = {dataset.SOPInstanceUID: dataset for dataset in (dcmread(one.path) for one in spool.waiting())}
    delivery = deliver(spool, Destination("127.0.0.1", storescp.port), spool.waiting())
    assert (delivery.sent, delivery.refused, delivery.away) == (5, [], None)
    assert spool.waiting() == []
    received = [dcmread(path) for path in storescp.received]
    assert {dataset.SOPInstanceUID for dataset in received} == set(sent)
    for dataset in received:
        assert dataset == sent[dataset.SOPInstanceUID]


def test_killed_in_the_middle(spool: Spool, storescp: Any) -> None:
    """The receiver dies after two of five, comes back, and gets the rest; none is lost."""
    uids = {str(dcmread(one.path).SOPInstanceUID) for one in spool.waiting()}
    storescp.start("--sleep-after", "1")
    sender = Sender(spool, Destination("127.0.0.1", storescp.port, timeout_s=10), first_retry_s=0.1)
    sender.start()
    try:
        until = time.monotonic() + 300
        while len(storescp.received) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        storescp.kill()
        while sender.problem is None and time.monotonic() < until:
            time.sleep(0.01)
        assert 0 < len(spool.waiting()) < 5, "it was to die in the middle"
        assert sender.problem is not None
        storescp.start()
        assert emptied(spool)
    finally:
        sender.stop(30)
    assert sender.settle(60) == 0
    assert {str(dcmread(path).SOPInstanceUID) for path in storescp.received} == uids
    assert sender.problem is None


def test_restart_resumes(spool: Spool, storescp: Any) -> None:
    """What one process could not send, the next one does; new images are sent as they come."""
    destination = Destination("127.0.0.1", storescp.port, timeout_s=10)
    first = Sender(spool, destination)
    first.start()
    until = time.monotonic() + 300
    while first.problem is None and time.monotonic() < until:
        time.sleep(0.01)
    first.stop(30)
    assert not first.is_alive()
    assert "cannot be reached" in str(first.problem)
    assert len(spool.waiting()) == 5
    storescp.start()
    content = spool.waiting()[0].path.read_bytes()
    second = Sender(Spool(spool.folder), destination)
    second.start()
    try:
        assert emptied(spool)
        spool.add(content, "again")
        second.wake()
        assert emptied(spool)
    finally:
        second.stop(30)


def test_refused_instance_does_not_hold_up_others(spool: Spool, archive: Any) -> None:
    delivery = deliver(spool, archive(0x0000, 0xC001, 0x0000), spool.waiting())
    assert delivery.sent == 4
    (one,) = spool.waiting()
    assert one.attempts == 1
    assert "0xC001" in one.reason
    assert delivery.away is None
    assert "1 refused" in str(delivery.problem)


def test_damaged_file_is_kept(spool: Spool, archive: Any) -> None:
    spool.waiting()[0].path.write_bytes(b"no DICOM")
    delivery = deliver(spool, archive(0), spool.waiting())
    assert delivery.sent == 4
    (one,) = spool.waiting()
    assert "damaged" in one.reason
    assert one.path.read_bytes() == b"no DICOM"


def test_warning_counts_as_sent(spool: Spool, archive: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "scanside"):
        assert deliver(spool, archive(0xB000), spool.waiting()).sent == 5
    assert caplog.text.count("0xB000") == 5
    assert spool.waiting() == []


def test_out_of_resources(spool: Spool, archive: Any) -> None:
    """No other instance is tried: all stay, without a mark against any of them."""
    delivery = deliver(spool, archive(0x0000, 0xA700), spool.waiting())
    assert delivery.sent == 1
    assert "out of resources (status 0xA700" in str(delivery.away)
    assert [one.attempts for one in spool.waiting()] == [0] * 4


def test_wrong_title(spool: Spool, archive: Any) -> None:
    right = archive(0, only=True)
    wrong = Destination(right.host, right.port, "OTHER", timeout_s=10)
    assert "rejects us, 'SCANSIDE'" in str(deliver(spool, wrong, spool.waiting()).away)
    assert len(spool.waiting()) == 5
    assert deliver(spool, right, spool.waiting()).sent == 5


def test_takes_no_mr_images(spool: Spool, archive: Any) -> None:
    delivery = deliver(spool, archive(0, storage=CTImageStorage), spool.waiting())
    assert "does not take MR images" in str(delivery.away)
    assert len(spool.waiting()) == 5


@pytest.mark.parametrize("option", ["--refuse", "--abort-during", "--abort-after"])
def test_receiver_that_breaks_off(spool: Spool, storescp: Any, option: str) -> None:
    storescp.start(option)
    delivery = deliver(spool, Destination("127.0.0.1", storescp.port, timeout_s=10), spool.waiting())
    assert delivery.sent == 0
    assert delivery.away is not None
    assert len(spool.waiting()) == 5


def test_silent_receiver(spool: Spool, storescp: Any) -> None:
    """A wait ends after the time that it may take."""
    storescp.start("--sleep-during", "300")
    begun = time.monotonic()
    delivery = deliver(spool, Destination("127.0.0.1", storescp.port, timeout_s=0.5), spool.waiting())
    assert time.monotonic() - begun < 60
    assert "gave no answer in time" in str(delivery.away)
    assert len(spool.waiting()) == 5


def test_pauses_grow(spool: Spool, archive: Any) -> None:
    """Twice as long after each failure, up to a limit: for all if the archive is full, else for the refused ones."""
    now = [0.0]
    away = Sender(spool, archive(0xA700), first_retry_s=2, longest_retry_s=10, clock=lambda: now[0])
    pauses = []
    for _ in range(5):
        pauses.append(away._attempt())
        now[0] += pauses[-1]
    assert pauses == [2, 4, 8, 10, 10]
    assert [one.attempts for one in spool.waiting()] == [0] * 5
    assert away._attempt() == 10
    assert away._attempt() == 10, "before its time nothing is tried"
    now[0] = 0
    refused = Sender(spool, archive(0xC000), first_retry_s=2, longest_retry_s=10, clock=lambda: now[0])
    for expected in (2, 4, 8, 10):
        assert refused._attempt() == expected
        now[0] += expected
    spool.add(spool.waiting()[0].path.read_bytes(), "new")
    now[0] -= 1
    assert refused._attempt() == 1, "the new one is tried at once, and the others in their time"
    assert [one.attempts for one in spool.waiting()] == [4] * 5 + [1]


def test_sender_outlives_its_folder(spool: Spool, archive: Any, caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender(spool, archive(0), first_retry_s=0.05)
    mark = spool.folder / ".scanside-spool"
    mark.unlink()
    mark.mkdir()  # what cannot be opened as a file
    sender.start()
    try:
        until = time.monotonic() + 300
        while sender.problem is None and time.monotonic() < until:
            time.sleep(0.01)
        assert "IsADirectoryError" in str(sender.problem)
        mark.rmdir()
        assert emptied(spool)
    finally:
        sender.stop(30)
