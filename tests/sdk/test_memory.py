"""How much memory a process may take."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanside import memory

pytestmark = pytest.mark.torch_free


@pytest.fixture(autouse=True)
def _no_limit() -> Iterator[None]:
    yield
    memory.limit_process(None)


def test_a_process_has_what_its_limit_leaves() -> None:
    assert memory.process_bytes() == memory.machine_bytes() > memory.resident_bytes() > 1 << 20
    memory.limit_process(memory.resident_bytes() + (64 << 20))
    assert 16 << 20 < memory.process_bytes() < 128 << 20
    memory.limit_process(1)
    assert memory.process_bytes() == 0


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (limit, tmp_path / "absent"))
    whole = memory.machine_bytes()
    limit.write_text("max\n")
    assert memory.machine_bytes() == whole
    limit.write_text("1048576\n")
    assert memory.machine_bytes() == 1 << 20


FAULTS = """
import resource, sys
import numpy as np
from scanside.memory import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
np.ones(1 << 21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1 << 21)
    np.ones((1 << 21) + 4096)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str, **variables: str) -> int:
    """Page faults of a process that asks for 16 MiB a hundred times, and frees them each time."""
    environment = {
        name: one for name, one in os.environ.items() if not name.startswith("MALLOC_")
    } | variables
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is another C library here")
def test_freed_memory_is_kept_where_asked_for() -> None:
    pages = 100 * (1 << 24) // os.sysconf("SC_PAGE_SIZE")
    kept = faults("keep")
    assert kept < 0.1 * pages
    assert faults("keep", MALLOC_MMAP_THRESHOLD_="65536") > 5 * kept
