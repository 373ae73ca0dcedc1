"""What a worker process is started with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from scanside_gadgetron.pool.process import worker_environment

pytestmark = pytest.mark.torch_free

_NAMES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY",
)
_FREE = {name: value for name, value in os.environ.items() if name not in _NAMES}

_WHITEN = """
import os
import numpy as np
from scanside.recon.noise import whiten
whiten(np.ones((1, 32, 512), np.complex64), np.eye(32, dtype=complex))
print(len(os.listdir("/proc/self/task")))
"""
"""A readout as large as libraries share it among threads."""


@pytest.mark.parametrize("threads", [None, 2])
def test_readout_waits_for_no_other_thread(threads: int | None) -> None:
    environment = worker_environment(_FREE, threads)
    done = subprocess.run(
        [sys.executable, "-c", _WHITEN],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert int(done.stdout) == 1


def test_threads_are_those_of_torch() -> None:
    given = worker_environment(_FREE, 3)
    assert (given["OMP_NUM_THREADS"], given["MKL_NUM_THREADS"]) == ("3", "3")
    assert (given["OPENBLAS_NUM_THREADS"], given["GOMP_SPINCOUNT"]) == ("1", "3000")
    assert "OMP_NUM_THREADS" not in worker_environment(_FREE, None)


def test_whoever_installs_it_knows_better() -> None:
    said = {"OPENBLAS_NUM_THREADS": "4", "GOMP_SPINCOUNT": "7", "OMP_NUM_THREADS": "5"}
    for threads in (None, 2):
        given = worker_environment({**_FREE, **said}, threads)
        assert (given["OPENBLAS_NUM_THREADS"], given["GOMP_SPINCOUNT"]) == ("4", "7")
    assert "GOMP_SPINCOUNT" not in worker_environment({**_FREE, "OMP_WAIT_POLICY": "ACTIVE"}, None)
    assert worker_environment(said, None)["OMP_NUM_THREADS"] == "5"


def test_workers_get_it(
    house: Callable[..., AbstractContextManager[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    with house(threads=2) as one:
        pid = one.wait_for_event("worker-started").pid
        found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {b"OPENBLAS_NUM_THREADS=1", b"GOMP_SPINCOUNT=3000", b"OMP_NUM_THREADS=2"} <= set(found)
