"""How much memory a process may take."""

from __future__ import annotations

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
