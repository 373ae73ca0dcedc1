"""What the machine lacks for a moment is told from what is wrong with an engine."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scanside.engines import fresh
from scanside.engines.fresh import run_fresh
from scanside.engines.passing import passes
from scanside.errors import EngineError, EnginePostponed


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
        TimeoutError(),
        subprocess.TimeoutExpired("g++", 300),
        RuntimeError("g++: fatal error: Killed signal terminated program cc1plus"),
        RuntimeError("engine.so: failed to map segment from shared object"),
        RuntimeError("engine.so: Operation not permitted"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
    ids=str,
)
def test_passing(error: Exception) -> None:
    assert passes(error)
    wrapped = EngineError("the compiler failed")
    wrapped.__cause__ = error
    assert passes(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        EngineError("openvino transforms along wrong axes: the graph holds aten.fft"),
        RuntimeError("engine.so: undefined symbol: _ZN2at"),
        ValueError("unsupported operator"),
        OSError(errno.ENOENT, "No such file or directory"),
        RuntimeError("CUDA error: operation not permitted when stream is capturing"),
    ],
    ids=str,
)
def test_lasting(error: Exception) -> None:
    assert not passes(error)


@pytest.mark.parametrize(
    ("status", "postponed"),
    [(-signal.SIGKILL, True), (-signal.SIGTERM, True), (-signal.SIGSEGV, False), (75, True), (1, False)],
)
def test_fresh_processes_that_end(
    status: int, postponed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.CompletedProcess([], status, "", "why")
    monkeypatch.setattr(fresh.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(EngineError) as caught:
        run_fresh("openvino", "fp32", tmp_path)
    assert isinstance(caught.value, EnginePostponed) == postponed


def test_fresh_process_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 300)

    monkeypatch.setattr(fresh.subprocess, "run", late)
    with pytest.raises(EnginePostponed, match="within 300 s"):
        run_fresh("openvino", "fp32", tmp_path)


@pytest.mark.parametrize(
    ("failure", "status"),
    [("OSError(28, 'No space left on device')", 75), ("RuntimeError('undefined symbol')", 1)],
)
def test_a_fresh_process_tells_which(failure: str, status: int, tmp_path: Path) -> None:
    """The process itself knows best why it could not load; only its exit status comes back."""
    code = f"""
import sys
from scanside.engines import fresh
def fail(*_): raise {failure}
fresh.read_check = fail
sys.argv = ["fresh", "openvino", "fp32", {json.dumps(str(tmp_path))}]
fresh.main()
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == status
    assert failure.split("'")[1] in run.stderr
