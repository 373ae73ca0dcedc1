"""What runners check before they compute, and backends by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scanside.engines.backends import NAMES, backend
from scanside.engines.backends.aoti_cpu import AotiCpu
from scanside.engines.backends.base import InputShape, Precision, Runner
from scanside.engines.backends.onnxruntime import OnnxRuntime
from scanside.engines.backends.openvino import OpenVino
from scanside.engines.graph import GraphSource, ShapesOnly, export_graph
from scanside.errors import ConfigError, EngineError, ShapeError

SHAPES = (InputShape("image", (1, 2, 8, 8)), InputShape("p", (1, 2, 8, 8)))


class First(Runner):
    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return tensors[0].clone()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((torch.zeros(1, 2, 8, 8),), r"takes 2 inputs \(image \(1, 2, 8, 8\), p .*, got 1"),
        ((torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 9)), r"'p' has shape \(1, 2, 8, 9\)"),
        ((torch.zeros(1, 2, 8, 8).half(), torch.zeros(1, 2, 8, 8)), "'image' is float16.*convert"),
        ((torch.zeros(1, 2, 8, 8).mT, torch.zeros(1, 2, 8, 8)), "'image' with strides .* is not contiguous"),
        ((torch.zeros(1, 2, 8, 8, device="meta"), torch.zeros(1, 2, 8, 8)), "'image' is on 'meta'"),
    ],
)
def test_runner_refuses(inputs: tuple[torch.Tensor, ...], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        First(SHAPES)(*inputs)


def test_all_backends_can_be_asked_on_any_machine() -> None:
    for name in NAMES:
        one = backend(name)
        assert one.name == name
        assert one.available() is None or one.buildable() is not None
    with pytest.raises(ConfigError, match="no engine backend 'tensorflow'; there are eager"):
        backend("tensorflow")


@pytest.mark.parametrize("make", [OpenVino, OnnxRuntime])
def test_graphs_with_fourier_transforms_are_refused(
    make: type[OpenVino | OnnxRuntime], tmp_path: Path
) -> None:
    class Transform(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft2(torch.complex(image[:, 0], image[:, 1])).abs()

    if reason := make().buildable():
        pytest.skip(reason)
    program, weights = export_graph(Transform().eval(), (torch.zeros(1, 2, 8, 8),), ({},))
    source = GraphSource(SHAPES[:1], {"fp32": program}, weights)
    with pytest.raises(EngineError, match=r"the graph holds aten\.fft_fft2"):
        make().build(source, "fp32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_machine_code_of_another_cpu_is_refused(tmp_path: Path) -> None:
    target = {"CPU": "cpu x86_64 another", "torch": torch.__version__}
    (tmp_path / "target.json").write_text(json.dumps(target))
    (tmp_path / "engine.pt2").write_bytes(b"never opened")
    with pytest.raises(EngineError, match="built for CPU cpu x86_64 another, this is cpu"):
        AotiCpu().load(tmp_path, ShapesOnly(SHAPES), "fp32")


def test_building_needs_a_compiler_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert AotiCpu().available() is None, "loading needs none"
    assert AotiCpu().buildable() == "there is no C++ compiler 'no-such-compiler': install g++, or set CXX"


def test_openvino_computes_in_the_precision_that_was_asked_for(tmp_path: Path) -> None:
    """It would drop to bf16 by itself: an fp32 engine must not show bf16's rounding."""
    if reason := OpenVino().buildable():
        pytest.skip(reason)
    if "bf16" not in OpenVino().precisions():
        pytest.skip("this CPU does not compute in bf16, so fp32 cannot be lost")

    class Product(torch.nn.Module):
        def __init__(self, kind: torch.dtype) -> None:
            super().__init__()
            self.kind = kind

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            image = image.to(self.kind)
            return (image @ image.mT).float()

    kinds: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    programs, weights = {}, {}
    for precision, kind in kinds.items():
        programs[precision], weights = export_graph(Product(kind).eval(), (torch.zeros(1, 2, 32, 32),), ({},))
    source = GraphSource((InputShape("image", (1, 2, 32, 32)),), programs, weights)
    image = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = (image.double() @ image.double().mT).float()
    errors = {}
    for precision in kinds:
        folder = tmp_path / precision
        folder.mkdir()
        OpenVino().build(source, precision, folder)
        result = OpenVino().load(folder, source, precision)(image)
        errors[precision] = float((result - expected).norm() / expected.norm())
    assert errors["fp32"] < 1e-6 < 1e-4 < errors["bf16"]
