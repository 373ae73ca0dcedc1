"""What a file or a host says does not command the terminal."""

from __future__ import annotations

import json
import logging

import pytest

from scanside.cli import console
from scanside.errors import ScansideError

EVIL = "a\x1b[2J\x9b1A\u202eb\u2028\ud83d"


def test_tables_errors_and_logs_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = console.table("protocol")
    table.add_row(EVIL)
    console.console.print(table)
    console.console.print(f"protocol {EVIL}", markup=False)
    console.report_error(ScansideError(f"bad {EVIL}\nerror: forged"))
    logger = logging.getLogger("scanside")
    before = logger.handlers, logger.level
    try:
        console.show_log(debug=False)
        logger.warning("bad %s\nwarning: forged", EVIL)
    finally:
        logger.handlers, logger.level = before[0], before[1]
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    assert "\\x1b[2J" in out
    assert [line for line in err.splitlines() if line.startswith(("error:", "warning:"))] == [
        line for line in err.splitlines() if "bad" in line
    ]


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"name": EVIL, "städte": "頭"})
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert json.loads(out) == {"name": EVIL, "städte": "頭"}
    assert "städte" in out
