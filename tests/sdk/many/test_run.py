"""Who does what next, and how a run ends: with a pool whose only worker is this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from scanside.errors import RunError
from scanside.many import MakeWorker, Task, run_many
from scanside.testing.pools import ThisProcess


def tasks(*codes: str) -> list[Task]:
    return [Task(code, code) for code in codes]


def test_results_and_failures(evaluates: MakeWorker) -> None:
    first, second, third = run_many(tasks("2 + 3", "1 / 0", "'x'"), evaluates, ThisProcess())
    assert (first.value, first.error, first.tries) == (5, "", 1)
    assert (second.value, second.error) == (None, "ZeroDivisionError: division by zero")
    assert third.value == "x"


def test_tasks_of_a_group_follow_one_another(evaluates: MakeWorker) -> None:
    pool = ThisProcess()
    mixed = [Task(key, f"'{key}'", group=key[0]) for key in ("a1", "b1", "a2", "b2", "c1", "a3")]
    assert len(list(run_many(mixed, evaluates, pool))) == 6
    assert [payload.strip("'") for payload in pool.payloads] == ["a1", "a2", "a3", "b1", "b2", "c1"]


def test_nothing_to_do_starts_no_worker() -> None:
    assert list(run_many([], partial(eval, "1 / 0"), ThisProcess())) == []


def test_worker_that_cannot_be_made() -> None:
    with pytest.raises(RunError, match="no worker can start: ZeroDivisionError"):
        list(run_many(tasks("1"), partial(eval, "1 / 0"), ThisProcess()))


def test_worker_may_end_the_run(evaluates: MakeWorker) -> None:
    code = "(_ for _ in ()).throw(__import__('scanside').errors.RunError('disk full'))"
    pool = ThisProcess()
    with pytest.raises(RunError, match="disk full"):
        list(run_many(tasks("1", code, "2"), evaluates, pool))
    assert len(pool.payloads) == 2


def test_relative_paths_mean_the_same(
    evaluates: Callable[[], object], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may start in another folder; it goes to the one of the run."""
    from scanside.many.work import Desk, packed

    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    monkeypatch.chdir(here)
    monkeypatch.setenv("SCANSIDE_ENGINES", "engines")
    pack = packed(partial(eval, "lambda code: eval(code)"))
    monkeypatch.chdir(there)
    monkeypatch.delenv("SCANSIDE_ENGINES")
    desk = Desk()
    assert desk.make(pack).kind == "ready"
    assert desk.work("__import__('os').getcwd()").value == str(here)
    assert desk.work("__import__('os').environ['SCANSIDE_ENGINES']").value == "engines"
    here.rmdir()
    monkeypatch.chdir(there)
    unfit = desk.make(pack)
    assert unfit.kind == "unfit"
    assert "not there on this machine" in unfit.text
