"""Work aside: in order, bounded, and nothing left of it."""

from __future__ import annotations

import threading
from time import monotonic, sleep

import pytest

from scanside.shadow import background
from scanside.shadow.background import Background


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scanside-shadow"]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_LINGER_SECONDS", 0.05)


def gone(seconds: float = 300) -> bool:
    end = monotonic() + seconds
    while threads() and monotonic() < end:
        sleep(0.01)
    return not threads()


def test_jobs_are_done_in_order_and_the_thread_goes() -> None:
    assert gone(), "those of earlier tests"
    work, done = Background(10), list[int]()
    for number in range(5):
        assert work.offer(lambda number=number: done.append(number))  # type: ignore[misc]
    assert work.wait(300)
    assert done == [0, 1, 2, 3, 4]
    assert gone()
    work.order(lambda: done.append(5))
    assert work.wait(300)
    assert done[-1] == 5, "one that is used again has a thread again"
    assert gone()


def test_too_many_are_refused() -> None:
    work, go, done = Background(1), threading.Event(), list[int]()
    work.order(lambda: assert_set(go))
    assert work.offer(lambda: done.append(1))
    assert not work.offer(lambda: done.append(2))
    go.set()
    assert work.wait(300)
    assert done == [1]


def test_a_failing_job_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    work, done = Background(5), list[int]()
    work.order(lambda: done.remove(1))
    work.order(lambda: done.append(1))
    assert work.wait(300)
    assert done == [1]
    assert "work in the background failed" in caplog.text


def assert_set(event: threading.Event) -> None:
    assert event.wait(300)
