from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scanside.dicom.spool import Spool
from scanside.errors import ConfigError


def test_first_in_first_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "spool")
    for uid in ("3", "1", "2"):
        spool.add(uid.encode(), uid)
    again = Spool(tmp_path / "a" / "spool")
    assert [one.path.read_bytes() for one in again.waiting()] == [b"3", b"1", b"2"]
    assert again.n_waiting == 3
    again.sent(again.waiting()[0])
    assert [one.path.read_bytes() for one in spool.waiting()] == [b"1", b"2"]


def test_the_same_instance_twice_is_kept_twice(tmp_path: Path) -> None:
    """A newer one must not take the place of one that is just being sent, and vanish with it."""
    spool = Spool(tmp_path)
    spool.add(b"old", "1.2")
    (old,) = spool.waiting()
    spool.add(b"new", "1.2")
    spool.sent(old)
    assert [one.path.read_bytes() for one in spool.waiting()] == [b"new"]


def test_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(b"x", "1")
    for _ in range(3):
        spool.refused(spool.waiting()[0], "no room")
    (one,) = Spool(tmp_path).waiting()
    assert (one.attempts, one.reason) == (3, "no room")
    one.path.with_suffix(".json").write_text("{")
    assert spool.waiting()[0].attempts == 0
    spool.sent(one)
    assert [path.name for path in tmp_path.iterdir()] == [".scanside-spool"]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    spool = Spool(tmp_path)
    spool.add(b"safe", "1")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        spool.add(b"lost", "2")
    spool.refused(spool.waiting()[0], "archive away")
    assert "No space left" in caplog.text
    assert [one.path.read_bytes() for one in spool.waiting()] == [b"safe"]
    assert not list(tmp_path.glob(".*.part"))


def test_remains_of_a_dead_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    old, young = tmp_path / ".old.part", tmp_path / ".young.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert Spool(tmp_path).waiting() == spool.waiting() == []
    assert not old.exists()
    assert young.exists()


def test_only_spools_are_sent(tmp_path: Path) -> None:
    (tmp_path / "mine.dcm").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="is no spool"):
        Spool.existing(tmp_path)


HOLDS = """
import sys, time
from pathlib import Path
from scanside.dicom.spool import Spool

with Spool(Path(sys.argv[1])).sending() as ours:
    print(ours, flush=True)
    time.sleep(60)
"""


def test_one_process_sends(tmp_path: Path) -> None:
    """And one that was killed gives its turn back."""
    spool = Spool(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"True\n"
            with spool.sending() as ours:
                assert not ours
        finally:
            other.kill()
    with spool.sending() as ours:
        assert ours
