"""Backend AotiCuda."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scanside.engines.backends.aoti_cuda import AotiCuda
from scanside.engines.backends.base import InputShape
from scanside.engines.graph import ShapesOnly
from scanside.errors import EngineError
from scanside.testing import BackendTests


@pytest.mark.cuda
class TestAotiCuda(BackendTests):
    def backend(self) -> AotiCuda:
        return AotiCuda()


def test_machine_code_of_another_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is opened, so that the test needs no GPU."""
    here, there = (f"cuda NVIDIA {name} driver 570.1" for name in ("H100 sm90", "A100 sm80"))
    monkeypatch.setattr("scanside.engines.backends.base.gpu_fingerprint", lambda: here)
    target = {"GPU": there, "torch": torch.__version__}
    (tmp_path / "target.json").write_text(json.dumps(target))
    (tmp_path / "engine.pt2").write_bytes(b"never opened")
    shapes = ShapesOnly((InputShape("image", (1, 2, 8, 8)),))
    with pytest.raises(EngineError, match=f"built for GPU {there}, this is {here}: build it again"):
        AotiCuda().load(tmp_path, shapes, "fp32")
