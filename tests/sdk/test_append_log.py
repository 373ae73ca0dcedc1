"""Lines stay, whole, whoever writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanside.append_log import AppendLog

pytestmark = pytest.mark.torch_free


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "new" / "log.jsonl")
    assert log.records() == []
    for i in range(5):
        log.append({"i": i, "text": "ü\n"})
    assert log.records() == [{"i": i, "text": "ü\n"} for i in range(5)]
    assert len((tmp_path / "new" / "log.jsonl").read_text("utf-8").splitlines()) == 5


def test_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = AppendLog(path, most_bytes=30, n_old=2)
    for i in range(10):
        log.append({"i": i})  # 9 bytes a line
    assert sorted(one.name for one in tmp_path.glob("*.jsonl")) == ["log.1.jsonl", "log.2.jsonl", "log.jsonl"]
    assert [one["i"] for one in log.records()] == [3, 4, 5, 6, 7, 8, 9]
    everything = AppendLog(tmp_path / "all.jsonl", most_bytes=30)
    for i in range(10):
        everything.append({"i": i})
    assert [one["i"] for one in everything.records()] == list(range(10))


def test_half_a_line_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.jsonl"
    log = AppendLog(path)
    log.append({"i": 0})
    with path.open("ab") as file:
        file.write(b'{"i": 1, "te')
    log.append({"i": 2})
    assert [one["i"] for one in log.records()] == [0, 2]
    assert "line 2" in caplog.text


def test_is_on_the_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    log = AppendLog(tmp_path / "log.jsonl")
    log.append({"i": 0})
    assert synced == [(tmp_path / "log.jsonl").stat().st_size]


def test_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        AppendLog(tmp_path / "log.jsonl").append({"snr": float("nan")})
    assert not (tmp_path / "log.jsonl").exists()


WRITER = """
import sys
from pathlib import Path
from scanside.append_log import AppendLog
log = AppendLog(Path(sys.argv[1]), most_bytes=2000)
for i in range(100):
    log.append({"who": sys.argv[2], "i": i})
"""


def test_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    running = [subprocess.Popen([sys.executable, "-c", WRITER, path, who]) for who in "abc"]
    assert [one.wait() for one in running] == [0, 0, 0]
    records = AppendLog(path).records()
    for who in "abc":
        assert [one["i"] for one in records if one["who"] == who] == list(range(100))
