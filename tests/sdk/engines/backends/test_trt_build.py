"""A plan is asked of a process of its own, whose end is told whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scanside.engines.backends import trt_build
from scanside.engines.backends.base import InputShape
from scanside.engines.backends.trt_build import (
    RTX,
    TENSORRT,
    Request,
    build_plan,
    no_counterpart,
    read_request,
)
from scanside.engines.graph import GraphSource, export_graph
from scanside.errors import BackendUnavailable, EngineError, EnginePostponed
from scanside.testing.backends import small_source

PROGRAM = """
import json, os, pathlib, signal, sys
from scanside.engines.archive import load_graph
from scanside.engines.backends import trt_build
folder = pathlib.Path(sys.argv[1])
request = trt_build.read_request(folder)
print("working")
"""
RESULT = {"layers": 7, "output": [1, 2], "versions": ["2.13", "1.5"]}
SUCCEEDS = f"""
(folder / trt_build.PLAN_FILE).write_bytes(os.environ["CUDA_VISIBLE_DEVICES"].encode() + b"plan")
(folder / trt_build.RESULT_FILE).write_text(json.dumps({RESULT}))
print("done")
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Another program in the place of the one that builds, on a machine that has the libraries."""
    monkeypatch.setattr(trt_build, "cannot_convert", lambda library: None)
    monkeypatch.setattr(trt_build, "_CONVERT", "stand_in_for_convert")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return monkeypatch


def does(folder: Path, what: str) -> None:
    (folder / "stand_in_for_convert.py").write_text(PROGRAM + what, "utf-8")


def test_plan_and_what_is_told_of_it_come_back(program: pytest.MonkeyPatch, tmp_path: Path) -> None:
    does(tmp_path, SUCCEEDS)
    said: list[str] = []
    built = build_plan(small_source(), "bf16", RTX, ["8.6"], said.append)
    assert built.data == b"plan", "GPUs of this machine are none of the business of plans for others"
    assert (built.n_layers, built.output) == (7, (1, 2))
    assert built.versions == {
        "torch": torch.__version__,
        "torch-tensorrt-rtx": "2.13",
        "tensorrt-rtx-cu13-bindings": "1.5",
    }
    assert said == ["working", "done"]
    assert build_plan(small_source(), "fp32", TENSORRT).data == b"0plan"


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("raise ValueError('no such thing')", EngineError, "builds a plan failed: ValueError: no such thing"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", EngineError, "killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", EnginePostponed, "killed by SIGKILL"),
        ("sys.exit(75)", EnginePostponed, "exit status 75"),
        ("(folder / 'result.json').write_text('{\"refused\": \"no\"}')", EngineError, "^no$"),
        ("(folder / 'result.json').write_text('{\"missing\": \"x\"}')", BackendUnavailable, "here: x$"),
    ],
)
def test_process_that_fails_is_told(
    what: str, kind: type[Exception], words: str, program: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    does(tmp_path, what)
    with pytest.raises(kind, match=words) as raised:
        build_plan(small_source(), "fp32", RTX, ["8.6"])
    assert type(raised.value) is kind


def test_process_ends_with_the_caller(program: pytest.MonkeyPatch, tmp_path: Path) -> None:
    does(
        tmp_path,
        f"import time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\nprint(1)\n"
        "sys.stdout.flush()\ntime.sleep(600)",
    )

    def interrupt(text: str) -> None:
        if text == "1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(small_source(), "fp32", RTX, ["8.6"], interrupt)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_request_is_read_back(tmp_path: Path) -> None:
    source = small_source()
    request = Request(RTX, source.inputs, "bf16", ("8.6", "12.0"))
    trt_build._write_request(tmp_path, request, source)
    assert read_request(tmp_path) == request


def test_graph_with_fourier_transforms_is_refused_before_anything_is_built(
    program: pytest.MonkeyPatch,
) -> None:
    class Fourier(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(x).abs()

    graph, weights = export_graph(Fourier().eval(), (torch.zeros(1, 8),), ({},))
    source = GraphSource((InputShape("x", (1, 8)),), {"fp32": graph}, weights)
    with pytest.raises(EngineError, match=r"TensorRT has no Fourier transform \(.*fft.*'pmatrix'"):
        build_plan(source, "fp32", TENSORRT)
    assert no_counterpart(small_source().program("fp32"), RTX) is None
