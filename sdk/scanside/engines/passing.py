"""Which failures to build or try an engine pass by themselves: the machine was full or busy, the engine is not wrong.

Compilers and loaders of other projects put the system's error into words of their own, so that texts are read too.
"""

from __future__ import annotations

import errno
import signal
import subprocess

from scanside.errors import EngineError, EnginePostponed
from scanside.storage import is_storage_error

__all__ = ["PASSING_SIGNALS", "TRY_AGAIN", "passes", "process_error"]

TRY_AGAIN = 75
"""Exit status of a process that failed for a reason that passes, as ``EX_TEMPFAIL`` of sysexits."""

_LONGEST_MESSAGE = 400

PASSING_SIGNALS = frozenset(
    getattr(signal, name)
    for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGXFSZ")
    if hasattr(signal, name)
)
"""What ends a process from outside: the out-of-memory killer, an operator, a limit."""

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "ENOMEM", "EAGAIN", "EINTR", "EMFILE", "ENFILE", "EBUSY", "ETXTBSY", "ETIMEDOUT", "EIO", "ESTALE", "ENOLCK",
    )
    if hasattr(errno, name)
)  # fmt: skip

_SAID = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "read-only file system",
    "permission denied",
    "operation not permitted",
    "failed to map segment from shared object",  # a folder of temporary files without the right to execute
    "no usable temporary directory",
    "out of memory",
    "memory exhausted",
    "cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "resource temporarily unavailable",
    "too many open files",
    "text file busy",
    "timed out",
    "timeout",
    "killed",
    "terminated signal",
)


_CUDA_RECORDING = "operation not permitted when stream is capturing"
"""What CUDA says of work that cannot be recorded as a graph, now and ever; the system has such words for itself."""


def passes(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is the machine's of the moment: it is worth trying again."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | TimeoutError | subprocess.TimeoutExpired):
            return True
        if isinstance(seen, OSError) and seen.errno in _PASSING:
            return True
        said = str(seen).lower().replace(_CUDA_RECORDING, "")
        if any(words in said for words in _SAID):
            return True
        seen = seen.__cause__ or seen.__context__
    return is_storage_error(error)


def process_error(what: str, status: int, log: str) -> EngineError:
    """The error that a process ended with.

    Args:
        what: it is: ``a fresh process``.
        status: its exit status, negative for a signal.
        log: its standard error.

    Returns:
        An `EnginePostponed` where it was killed from outside, or says that its reason passes.
    """
    if status < 0:
        kind = EnginePostponed if -status in PASSING_SIGNALS else EngineError
        return kind(f"{what} was killed by {_signal_name(-status)}")
    lines = log.strip().splitlines() or [f"exit status {status}"]
    kind = EnginePostponed if status == TRY_AGAIN else EngineError
    return kind(f"{what} failed: {lines[-1][:_LONGEST_MESSAGE]}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have none
        return f"signal {number}"
