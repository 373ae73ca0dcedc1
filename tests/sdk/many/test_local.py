"""Processes as workers: what they see, and what becomes of the run when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from scanside.errors import RunError
from scanside.many import LocalPool, MakeWorker, Task, run_many

DIES = "__import__('os').kill(__import__('os').getpid(), 9)"


def gone(pid: int, seconds: float = 300) -> bool:
    """Whether a process has ended, or ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            # An orphan that has ended may wait for a parent that asks for its status.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_dead_worker_costs_its_task_only(evaluates: MakeWorker, tmp_path: Path) -> None:
    once = f"__import__('pathlib').Path({str(tmp_path / 'was-here')!r})"
    codes = [
        *(f"{i} ** 2" for i in range(5)),
        f"{once}.exists() or ({once}.touch(), {DIES})",
        DIES,
        *(f"{i} ** 2" for i in range(5, 10)),
        "(__import__('os').environ['OMP_NUM_THREADS'], __import__('os').environ['CUDA_VISIBLE_DEVICES'])",
    ]
    pool = LocalPool(2, threads=3, devices=("7", "8"))
    results = {one.task.key: one for one in run_many([Task(code, code) for code in codes], evaluates, pool)}
    assert set(results) == set(codes)
    assert [results[f"{i} ** 2"].value for i in range(10)] == [i**2 for i in range(10)]
    assert (results[codes[5]].value, results[codes[5]].tries) == (True, 2)
    dead = results[DIES]
    assert dead.tries == 2
    assert "2 workers died over it: the process was ended by SIGKILL" in dead.error
    threads, device = results[codes[-1]].value
    assert threads == "3"
    assert device in ("7", "8")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") not in ("7", "8")


def test_workers_that_die_at_once_end_the_run() -> None:
    with pytest.raises(RunError, match=r"3 workers in a row died while they started: .* exit status 7"):
        list(run_many([Task("1", "1")], partial(os._exit, 7), LocalPool(1)))


def test_end_of_the_run_ends_workers_at_work(evaluates: MakeWorker) -> None:
    codes = ["__import__('os').getpid()", "__import__('time').sleep(600)"]
    results = run_many([Task(code, code) for code in codes], evaluates, LocalPool(1))
    pid = next(results).value
    begun = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert gone(pid)
    assert time.monotonic() - begun < 100


def test_workers_end_with_a_run_that_is_killed() -> None:
    script = """
from functools import partial
from scanside.many import LocalPool, Task, run_many
codes = ["__import__('os').getpid()", "__import__('time').sleep(600)"]
if __name__ == "__main__":
    for one in run_many([Task(c, c) for c in codes], partial(eval, "lambda code: eval(code)"), LocalPool(1)):
        print(one.value, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
        run.stdout.close()
    assert gone(pid)
