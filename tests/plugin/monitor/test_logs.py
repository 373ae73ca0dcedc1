"""Log lines that say where they come from."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Iterator

import pytest

from scanside_gadgetron.monitor.logs import session_log, setup_logging, worker_id

pytestmark = pytest.mark.torch_free

NAMES = ("scanside", "scanside_gadgetron", "scanside_deploy")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).level) for name in NAMES}
    token = worker_id.set(None)
    yield
    worker_id.reset(token)
    for name, (handlers, level) in before.items():
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(level)


def test_json_lines() -> None:
    out = io.StringIO()
    setup_logging(as_json=True, worker=3, stream=out)
    log = logging.getLogger("scanside_gadgetron.pool")
    with session_log("s7", "grappa"):
        log.warning("slice %d\nis odd", 2)
        try:
            raise ValueError("bad")
        except ValueError:
            log.exception("it failed")
    log.info("idle")
    log.debug("not worth a line")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["slice 2\nis odd", "it failed", "idle"]
    first, failed, idle = lines
    assert (first["session"], first["worker"], first["pipeline"]) == ("s7", 3, "grappa")
    assert (first["level"], first["logger"]) == ("warning", "scanside_gadgetron.pool")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"])
    assert failed["traceback"].endswith("ValueError: bad")
    assert "session" not in idle
    assert idle["worker"] == 3


def test_text_lines() -> None:
    out = io.StringIO()
    setup_logging(stream=out)
    log = logging.getLogger("scanside.stages")
    with session_log("s7"):
        log.warning("careful")
    log.info("idle")
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warning \[s7\] careful", first)
    assert second.endswith(" info idle")


def test_threads_do_not_share_a_session() -> None:
    out = io.StringIO()
    setup_logging(as_json=True, stream=out)
    log = logging.getLogger("scanside")

    def work(name: str, gate: threading.Barrier) -> None:
        with session_log(name):
            gate.wait(300)
            log.info(name)

    gate = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(name, gate)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {line["message"]: line["session"] for line in lines} == {"a": "a", "b": "b"}


FORGED = "grappa\n2026-03-01 12:00:00.000 error [s9] forged\x1b[2J\r\u2028\x9b1A\u202e\ud83d"


@pytest.mark.parametrize("as_json", [False, True])
def test_nobody_forges_a_line_or_commands_a_terminal(as_json: bool) -> None:
    """Not by a message, not by the name of a pipeline, not by the text of an exception in a traceback."""
    out = io.StringIO()
    setup_logging(as_json=as_json, stream=out)
    log = logging.getLogger("scanside.serving")
    with session_log("s7", FORGED):
        log.warning("there is no pipeline %s", FORGED)
        try:
            raise ValueError(FORGED)
        except ValueError:
            log.exception("it failed")
        log.warning("x" * 1_000_000)
    text = out.getvalue()
    text.encode()
    assert len(text) < 100_000
    assert all(one.isprintable() for one in text.split("\n"))
    assert not any(line.startswith("2026-03-01") for line in text.split("\n"))
    begins = [line for line in text.splitlines() if not line.startswith("    ")]
    assert len(begins) == 3
