"""What a worker tells of itself."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from scanside_gadgetron.pool.events import WorkerMemory
from scanside_gadgetron.pool.worker import _tell_gpu_memory

pytestmark = pytest.mark.torch_free


class Outbox:
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.tell = self.told.append


def torch(*, used: bool) -> SimpleNamespace:
    """Two GPUs."""
    cuda = SimpleNamespace(
        is_initialized=lambda: used, device_count=lambda: 2, memory_reserved=lambda device: (30, 12)[device]
    )
    return SimpleNamespace(cuda=cuda)


def test_gpu_memory_is_told_where_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox: Any = Outbox()
    for loaded in (None, torch(used=False)):
        monkeypatch.setitem(sys.modules, "torch", loaded)  # type: ignore[arg-type]
        _tell_gpu_memory(outbox, 3)
    assert outbox.told == []
    monkeypatch.setitem(sys.modules, "torch", torch(used=True))  # type: ignore[arg-type]
    _tell_gpu_memory(outbox, 3)
    assert outbox.told == [WorkerMemory(time=outbox.told[0].time, worker=3, gpu_bytes=42)]
