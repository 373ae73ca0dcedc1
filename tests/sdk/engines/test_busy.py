"""Whether other work was in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanside.engines import busy
from scanside.engines.busy import Waiting

pytestmark = pytest.mark.torch_free


def reading(**seconds: float) -> busy._Reading:
    return busy._Reading(**{"clock": 0.0, "own": 0.0, "delayed": 0.0, "used": 0.0, "stolen": 0.0, **seconds})


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (reading(clock=2, own=2, used=2), 0.0),
        (reading(clock=2, own=1, used=2, delayed=1), 0.5),
        (reading(clock=2, own=2, used=2, delayed=1), 0.0),  # its threads waited for one another
        (reading(clock=2, own=2, used=40), 0.0),  # others had processors that it did not need
        (reading(clock=2, own=1, used=1, stolen=1), 0.5),  # the host had them
    ],
)
def test_share(monkeypatch: pytest.MonkeyPatch, after: busy._Reading, share: float) -> None:
    readings = iter([reading(), after])
    monkeypatch.setattr(busy, "_read", lambda: next(readings))
    assert Waiting().share() == pytest.approx(share)


@pytest.fixture
def hogs() -> Iterator[None]:
    """Twice as many processes as there are processors, all at work."""
    n = 2 * len(os.sched_getaffinity(0))
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(n)]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.usefixtures("hogs")
def test_a_busy_machine() -> None:
    waiting = Waiting()
    if not waiting.known:
        pytest.skip("this system does not tell")
    begun = time.perf_counter()
    while time.perf_counter() - begun < 0.5:
        pass
    share = waiting.share()
    assert share is not None
    assert share > 0.1


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(busy, "_STAT", tmp_path / "none")
    waiting = Waiting()
    assert not waiting.known
    assert waiting.share() is None
