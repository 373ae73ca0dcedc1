"""Plans of all shipped bundles: that they are built, and how the program tells it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scanside.engines.archive import load_graph
from scanside.engines.backends.base import InputShape
from scanside.engines.backends.trt_build import RTX, build_plan, cannot_convert
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles
from scanside.engines.graph import GraphSource
from scanside.engines.plan_record import DEFAULT_TARGETS, RECORD_FILE, PlanRecord
from scanside.engines.shapes import columns_specs
from scanside.errors import BackendUnavailable, EngineError
from scanside_deploy import graphs, plans
from scanside_training.models import (
    DualUnetConfig,
    NetworkConfig,
    TemporalConfig,
    UnetConfig,
    UnrolledConfig,
)
from scanside_training.models.unrolled import GradientConfig, HardConfig, ProximalConfig

PRECISIONS = [
    (name, precision)
    for name, folder in available_bundles().items()
    for precision in Bundle.open(folder).manifest.precisions
]


@pytest.mark.plans
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_bundle_is_built_in_every_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if reason := cannot_convert(RTX):
        pytest.skip(reason)
    status = plans.main(["-o", str(tmp_path)])
    *lines, summary = capsys.readouterr().out.splitlines()
    assert (status, summary) == (0, f"{len(PRECISIONS)} plans, 0 refused"), "\n".join(lines)
    records = [PlanRecord.from_bytes(path.read_bytes()) for path in tmp_path.glob(f"*/{RECORD_FILE}")]
    assert sorted((one.bundle, one.precision) for one in records) == sorted(PRECISIONS)
    for one in records:
        assert one.size > 10**6
        assert one.layers > 50


_SMALL = {"n_cascades": 2, "channels": 8, "pools": 2}
_FEW_STEPS = ProximalConfig(iterations=2, initial_iterations=2)
_N_FRAMES, _N_COILS, _SIZE = 3, 4, (64, 48)

NETWORKS: dict[str, NetworkConfig] = {
    "U-Net": UnetConfig(channels=8, pools=3),
    "VarNet, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=GradientConfig()),
    "hard replacement, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=HardConfig()),
    "MoDL, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=_FEW_STEPS, share_weights=True),
    "memory, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=_FEW_STEPS, memory=4),
    "exact": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=_FEW_STEPS),
    "VarNet, dft_matmul": UnrolledConfig(**_SMALL, lowering="dft_matmul", consistency=GradientConfig()),
    "dual U-Net": DualUnetConfig(n_frames=_N_FRAMES, channels=8, pools=2, attention=True, fusion_channels=8),
    "dual U-Net cascades, pmatrix": DualUnetConfig(
        **_SMALL, n_frames=_N_FRAMES, fusion_channels=8, consistency=HardConfig(), lowering="pmatrix"
    ),
    "temporal, pmatrix": TemporalConfig(**_SMALL, n_frames=_N_FRAMES, lowering="pmatrix"),
    "temporal, causal, dft_matmul": TemporalConfig(
        **_SMALL, n_frames=_N_FRAMES, causal=True, lowering="dft_matmul"
    ),
}
"""One of each form that is trained, small: which operators a graph has does not depend on how often it has them."""


@pytest.mark.plans
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_of_network_is_built(name: str, tmp_path: Path) -> None:
    """In bf16, whose graphs have all operators of those in fp32, and refuse more of them."""
    if reason := cannot_convert(RTX):
        pytest.skip(reason)
    network = NETWORKS[name].build().eval()
    module: torch.nn.Module = network
    offered = network.offered()
    if name.startswith("exact"):
        exact = network.exact()
        assert exact is not None
        module, offered = exact.network.eval(), columns_specs()
    writer: Any = SimpleNamespace(path=lambda file: tmp_path / file)
    inputs, weights = graphs._written(module, network, offered, {"bf16": "graph.pt2"}, writer)
    n_frames = network.n_frames
    shapes = tuple(InputShape(one.name, one.shape(*_SIZE, _N_COILS, n_frames=n_frames)) for one in inputs)
    stored = {name: weight.float() for name, weight in weights.items()}
    source = GraphSource(shapes, {"bf16": load_graph(tmp_path / "graph.pt2")}, stored)
    assert build_plan(source, "bf16", RTX, DEFAULT_TARGETS).output[-2:] == _SIZE


class Builder:
    """In the place of the real one; refuses bf16 of the film."""

    asked: list[tuple[str, str, str]]

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, source: Any, precision: str, output: Path, targets: Any, **_: object) -> Any:
        self.asked.append((source.bundle.name, precision, ",".join(targets)))
        if (source.bundle.name, precision) == ("cine", "bf16"):
            raise EngineError("no such operator")
        record = type(
            "Record", (), {"layers": 7, "size": 12345678, "build_seconds": 1.25, "targets": targets}
        )
        return output, record()


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.delenv("SCANSIDE_ENGINES", raising=False)  # shipped bundles alone
    made = Builder()
    monkeypatch.setattr(plans, "build_plan_folder", made)
    return made


def test_line_for_each_plan_and_a_sum(builder: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    assert plans.main(["brain-student", "--gpus", "8.6,12.0"]) == 0
    first, second, summary = capsys.readouterr().out.splitlines()
    assert (
        " ".join(first.split()) == "brain-student 192×192 principal fp32 7 layers 12.3 MB 1.2 s for 8.6, 12.0"
    )
    assert "bf16" in second
    assert summary == "2 plans, 0 refused"
    assert builder.asked == [("brain-student", one, "8.6,12.0") for one in ("fp32", "bf16")]


def test_refusal_is_told_and_the_rest_still_built(
    builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plans.main([]) == 1
    *lines, summary = capsys.readouterr().out.splitlines()
    assert len(lines) == len(builder.asked) == len(PRECISIONS)
    assert [line for line in lines if "refused: no such operator" in line and line.startswith("cine ")]
    assert summary == f"{len(PRECISIONS) - 1} plans, 1 refused"


def test_machine_that_cannot_build_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise BackendUnavailable("not installed: pip install it")

    monkeypatch.setattr(plans, "build_plan_folder", lacking)
    assert plans.main([]) == 2
    assert "pip install it" in capsys.readouterr().err
