"""Backend TorchTensorRt: what is its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from scanside.engines.backends.torch_tensorrt import TorchTensorRt
from scanside.errors import EngineError
from scanside.testing.backends import BackendTests, small_source

HERE = {"GPU": "some GPU", "TensorRT": "11.0.0"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that could load, so that what is refused is refused for the plan's own sake."""
    monkeypatch.setattr(TorchTensorRt, "available", lambda self: None)
    monkeypatch.setattr(TorchTensorRt, "hardware", lambda self: HERE["GPU"])
    monkeypatch.setattr(TorchTensorRt, "bindings", lambda self: SimpleNamespace(__version__=HERE["TensorRT"]))


@pytest.mark.parametrize("key", HERE)
def test_plan_of_another_gpu_or_version_is_refused(key: str, here: None, tmp_path: Path) -> None:
    (tmp_path / "target.json").write_text(json.dumps({**HERE, key: "other"}), "utf-8")
    (tmp_path / "engine.plan").write_bytes(b"never read")
    with pytest.raises(EngineError, match=f"built for {key} other, this is {HERE[key]}: build it again"):
        TorchTensorRt().load(tmp_path, small_source(), "fp32")


def test_plan_without_its_target_is_refused(here: None, tmp_path: Path) -> None:
    (tmp_path / "engine.plan").write_bytes(b"never read")
    with pytest.raises(EngineError, match="cannot be read"):
        TorchTensorRt().load(tmp_path, small_source(), "fp32")


@pytest.mark.cuda
@pytest.mark.tensorrt
class TestTorchTensorRt(BackendTests):
    def backend(self) -> TorchTensorRt:
        return TorchTensorRt()
