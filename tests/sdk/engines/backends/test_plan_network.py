"""A plan runs only if it is what it should be, and the library's own reason is told where it is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from scanside.engines.backends.base import InputShape
from scanside.engines.backends.plan_network import PlanNetwork, plan_log
from scanside.errors import EngineError

INPUTS = (InputShape("image", (1, 2)), InputShape("maps", (1, 3)))


def test_plan_that_fits_is_taken(fake_trt: Any) -> None:
    assert PlanNetwork(fake_trt, b"plan", ["image", "maps"], INPUTS)._shape == (1, 2)
    assert fake_trt.given == [b"plan"]


def test_plan_that_the_library_refuses_is_told_with_its_reason(fake_trt: Any) -> None:
    fake_trt.engine = None
    with pytest.raises(EngineError, match=r"cannot read the plan \(it does not say why\)"):
        PlanNetwork(fake_trt, b"plan", ["image", "maps"], INPUTS)
    fake_trt.says = ("magic tag\n does not match", "stdArchiveReader failed")
    with pytest.raises(EngineError, match=r"\(magic tag does not match; stdArchiveReader failed\)"):
        PlanNetwork(fake_trt, b"plan", ["image", "maps"], INPUTS)


def test_plan_that_gets_no_room_to_run(fake_trt: Any) -> None:
    fake_trt.engine.context = None
    with pytest.raises(EngineError, match="cannot prepare to run the plan"):
        PlanNetwork(fake_trt, b"plan", ["image", "maps"], INPUTS)


@pytest.mark.parametrize(
    ("names", "inputs", "words"),
    [
        (["image"], INPUTS[:1], "expected the inputs"),
        (["image", "mask"], INPUTS, "expected the inputs"),
        (["maps", "image"], INPUTS, "of the shapes"),
        (["image", "maps"], (INPUTS[0], InputShape("maps", (1, 4))), "of the shapes"),
    ],
)
def test_plan_for_other_inputs_is_refused(
    names: list[str], inputs: tuple[InputShape, ...], words: str, fake_trt: Any
) -> None:
    with pytest.raises(EngineError, match=words):
        PlanNetwork(fake_trt, b"plan", names, inputs)


def test_plan_that_gives_another_type_is_refused(fake_trt: Any) -> None:
    fake_trt.engine.output_type = "bfloat16"
    with pytest.raises(EngineError, match="not float32"):
        PlanNetwork(fake_trt, b"plan", ["image", "maps"], INPUTS)


def test_log_keeps_errors_and_passes_warnings_on(fake_trt: Any, caplog: pytest.LogCaptureFixture) -> None:
    log, severity = plan_log(fake_trt), fake_trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG, "scanside"):
        log.log(severity.INFO, "chatter")
        log.log(severity.WARNING, "slow")
        log.log(severity.INTERNAL_ERROR, "broken")
    assert log.errors == ["broken"]
    assert caplog.messages == ["TensorRT: slow"]
