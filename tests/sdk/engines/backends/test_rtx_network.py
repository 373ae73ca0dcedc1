"""A plan is asked whether it may run before it is read, and the GPU's kernels are kept."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from scanside.engines.backends.base import InputShape
from scanside.engines.backends.rtx_network import RtxNetwork, known_capabilities
from scanside.engines.passing import passes
from scanside.errors import EngineError

NAMES = ("image", "maps")
INPUTS = (InputShape("image", (1, 2)), InputShape("maps", (1, 3)))


def test_only_the_header_is_looked_at_before_the_plan_is_read(fake_rtx: Any) -> None:
    RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS)
    assert fake_rtx.examined == [b"head"]
    assert fake_rtx.given == [b"headplan"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (1, "built with another release of TensorRT-RTX"),
        (2, "not for the compute capability of this GPU"),
        (4, "the NVIDIA driver is too old for it: update the driver"),
        (32, "damaged, or no plan of this release of TensorRT-RTX: install it again"),
        (1 | 4, "another release.*; the NVIDIA driver is too old"),
        (0, "it does not say why"),
    ],
)
def test_plan_that_may_not_run_is_not_read(flags: int, words: str, fake_rtx: Any) -> None:
    fake_rtx.validity = (2, flags)
    with pytest.raises(EngineError, match=rf"TensorRT-RTX 1\.5\.0\.114 cannot run this plan here: .*{words}"):
        RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS)
    assert fake_rtx.given == []


def test_full_gpu_is_a_reason_that_passes(fake_rtx: Any) -> None:
    fake_rtx.validity = (2, 16)
    with pytest.raises(EngineError, match="not enough memory on the GPU") as raised:
        RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS)
    assert passes(raised.value)


def test_plan_that_runs_slowly_is_told_and_taken(fake_rtx: Any, caplog: pytest.LogCaptureFixture) -> None:
    fake_rtx.validity = (1, 0)
    with caplog.at_level(logging.WARNING):
        RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS)
    assert "not at its best" in caplog.text


def test_kernels_are_made_once(fake_rtx: Any, caplog: pytest.LogCaptureFixture) -> None:
    network = RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS)
    assert (fake_rtx.engine.kernels.read, fake_rtx.engine.attached) == ([], [fake_rtx.engine.kernels])
    RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS, network.kernels())
    assert fake_rtx.engine.kernels.read == [b"kernels"]
    fake_rtx.engine.kernels.readable = False
    with caplog.at_level(logging.WARNING):
        RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS, b"damaged")
    assert "kernels of an earlier run cannot be read (it does not say why): made again" in caplog.text
    assert len(fake_rtx.engine.attached) == 3


def test_capabilities_have_dots(fake_rtx: Any) -> None:
    assert known_capabilities(fake_rtx) == {"8.6": 86, "12.0": 120}


def test_memory_is_allocated_before_the_plan_runs(fake_rtx: Any) -> None:
    """What is allocated while it runs cannot be recorded as a CUDA graph."""
    given: list[tuple[int, int]] = []
    fake_rtx.engine.device_memory_size_v2 = 1000
    fake_rtx.engine.context = SimpleNamespace(set_device_memory=lambda *memory: given.append(memory))
    network = RtxNetwork(fake_rtx, b"headplan", NAMES, INPUTS, device="cpu")
    assert fake_rtx.engine.strategies == ["user managed"]
    assert given == [(network._memory.data_ptr(), 1000)]
    assert network._memory.numel() == 1000
