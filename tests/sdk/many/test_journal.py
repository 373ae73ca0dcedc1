from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from scanside.errors import ConfigError
from scanside.many.journal import JOURNAL, Journal, identity


def test_records_outlive_the_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "run") as journal:
        journal.note(("a", {"state": "begun", "n": 1}), ("b", {"state": "done"}))
        journal.note(("a", {"state": "done"}))
    with Journal(tmp_path / "run") as journal:
        assert journal.records == {"a": {"state": "done", "n": 1}, "b": {"state": "done"}}


def test_a_line_that_was_cut_off_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Journal(tmp_path) as journal:
        journal.note(("a", {"n": 1}), ("b", {"n": 2}))
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-4])
    with caplog.at_level(logging.WARNING, "scanside"), Journal(tmp_path) as journal:
        assert journal.records == {"a": {"n": 1}}
        journal.note(("c", {"n": 3}))
    assert f"line 2 of {tmp_path / JOURNAL}" in caplog.text
    with Journal(tmp_path) as journal:
        assert journal.records == {"a": {"n": 1}, "c": {"n": 3}}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(ConfigError, match="another run writes to"):
        Journal(tmp_path)
    with Journal(tmp_path):
        pass


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("abc")
    before = identity(path)
    assert identity(path) == before
    os.utime(path, ns=(0, 5))
    assert identity(path) == {"size": 3, "mtime_ns": 5} != before
