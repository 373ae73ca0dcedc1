"""What is kept, whatever happens to the process that keeps it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from scanside.errors import ConfigError
from scanside_training.readers.journal import ANSWERS, DAMAGED, AnswerJournal, FolderLock, read_answers


def test_lines_are_there_again(tmp_path: Path) -> None:
    journal = AnswerJournal(tmp_path)
    journal.note({"trial": 1, "value": "fürs Archiv"})
    journal.note({"trial": 2})
    assert AnswerJournal(tmp_path).records == journal.records == read_answers(tmp_path)
    assert [json.loads(line)["trial"] for line in (tmp_path / ANSWERS).read_text("utf-8").splitlines()] == [
        1,
        2,
    ]


@pytest.mark.parametrize("cut", [b'{"trial": 3, "val', b'{"trial": 3}', b"\x00\x00\x00", b"[3]\n"])
def test_a_line_that_is_not_whole_is_put_aside_and_told(
    tmp_path: Path, cut: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first = AnswerJournal(tmp_path)
    first.note({"trial": 1})
    first.note({"trial": 2})
    with (tmp_path / ANSWERS).open("ab") as file:
        file.write(cut)
    with caplog.at_level(logging.WARNING, "scanside_training"):
        again = AnswerJournal(tmp_path)
    assert "1 line(s) of" in caplog.text
    assert "asked again" in caplog.text
    assert (tmp_path / DAMAGED).read_bytes() == cut.rstrip(b"\n") + b"\n"
    again.note({"trial": 4})
    caplog.clear()
    assert [record["trial"] for record in AnswerJournal(tmp_path).records] == [1, 2, 4]
    assert not caplog.records


def test_reading_meanwhile_changes_nothing(tmp_path: Path) -> None:
    AnswerJournal(tmp_path).note({"trial": 1})
    with (tmp_path / ANSWERS).open("ab") as file:
        file.write(b'{"tri')
    before = (tmp_path / ANSWERS).read_bytes()
    assert [record["trial"] for record in read_answers(tmp_path)] == [1]
    assert (tmp_path / ANSWERS).read_bytes() == before
    assert not (tmp_path / DAMAGED).exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(ConfigError, match="another server has the reader study in"):
        FolderLock(tmp_path)
    FolderLock(tmp_path).release()
