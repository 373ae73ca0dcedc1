"""What TensorRT-RTX itself makes of graphs, and how its refusals read."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scanside.engines.backends.base import InputShape, Precision
from scanside.engines.backends.trt_build import RTX, BuiltPlan, Request, build_plan
from scanside.engines.backends.trt_convert import (
    _SETTINGS,
    _set_targets,
    check_exact,
    check_keywords,
    refusal,
)
from scanside.engines.graph import GraphSource, export_graph
from scanside.errors import EngineError
from scanside.testing.backends import small_source

SAID = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([type.cpp:186: infer_type] Could not infer output types "
    "for operation: 12: deconv: [DECONVOLUTION]-[aten_ops.convolution.default]-[/convolution_10]_output-(bf16[1,64]"
)


def test_keyword_that_would_be_swallowed_is_an_error() -> None:
    def compiles(program: object, *, disable_tf32: bool = False, **kwargs: object) -> None: ...

    check_keywords(compiles, ["program", "disable_tf32"])
    with pytest.raises(EngineError, match="would ignore enabled_precisions, kwargs: 'compiles'"):
        check_keywords(compiles, ["disable_tf32", "enabled_precisions", "kwargs"])


def test_fp32_is_not_tf32_and_foreign_caches_are_off() -> None:
    assert _SETTINGS["disable_tf32"] is True
    assert _SETTINGS["require_full_compilation"] is True
    assert _SETTINGS["reuse_cached_engines"] is False


def test_plan_for_gpus_elsewhere_can_be_recorded_there() -> None:
    """TensorRT-RTX promises that with one flag: else it may allocate memory while the plan runs."""
    flags: list[str] = []
    targets: list[tuple[int, int]] = []
    trt = SimpleNamespace(
        BuilderFlag=SimpleNamespace(REQUIRE_USER_ALLOCATION="user allocation"),
        ComputeCapability=SimpleNamespace(__members__={"SM86": 86, "SM120": 120}),
    )
    config = SimpleNamespace(
        set_flag=flags.append, set_compute_capability=lambda *pair: targets.append(pair) or True
    )
    _set_targets(trt, config, Request(RTX, (), "fp32", ("12.0", "8.6")))
    assert flags == ["user allocation"]
    assert (config.num_compute_capabilities, targets) == (2, [(120, 0), (86, 1)])


@pytest.mark.parametrize("tf32", [False, True])
def test_builder_that_would_take_tf32_is_not_used(tf32: bool) -> None:
    trt = SimpleNamespace(BuilderFlag=SimpleNamespace(TF32="TF32"))
    config = SimpleNamespace(get_flag=lambda flag: flag == "TF32" and tf32)
    with pytest.raises(EngineError, match="leaves TF32 on") if tf32 else nullcontext():
        check_exact(trt, config)


def test_refusal_names_operator_node_and_remedy() -> None:
    text = refusal("TensorRT-RTX", RuntimeError("built nothing"), ["something else", SAID])
    assert text.startswith("TensorRT-RTX refuses the operator aten.convolution.default at 'convolution_10' (")
    assert "no transposed convolution in bf16" in text


def test_other_operators_are_named_too() -> None:
    said = "Error Code 9: [REDUCE]-[aten_ops.mean.dim]-[/mean_3]: axes must be constant"
    text = refusal("TensorRT-RTX", RuntimeError(), [said])
    assert "aten.mean.dim at 'mean_3'" in text
    assert "build another precision, or write the network without it" in text


def test_without_the_library_s_word_the_exception_speaks_and_ours_before_others() -> None:
    assert refusal("T", TypeError("no\n such"), []) == "T makes no plan of this graph: TypeError: no such"
    assert refusal("T", TypeError("no"), ["it is late"]) == "T makes no plan of this graph: it is late"
    wrapped = RuntimeError("while interpreting")
    wrapped.__cause__ = EngineError("ours")
    assert refusal("T", wrapped, []) == "ours"


def test_long_words_are_cut() -> None:
    assert len(refusal("T", RuntimeError("x" * 10**5), [])) < 500


class Up(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 2, 2, stride=2, bias=False).to(dtype)

    def forward(self, image: torch.Tensor, unused: torch.Tensor) -> torch.Tensor:
        return self.up(image.to(self.up.weight.dtype)).float()


def built(network: nn.Module, precision: Precision, targets: tuple[str, ...] = ("8.6",)) -> BuiltPlan:
    tensors = (torch.zeros(1, 2, 16, 16), torch.zeros(1, 3))
    program, weights = export_graph(network.eval(), tensors, ({}, {}))
    shapes = tuple(InputShape(n, tuple(t.shape)) for n, t in zip(("image", "spare"), tensors, strict=True))
    stored = {name: tensor.float() for name, tensor in weights.items()}
    return build_plan(GraphSource(shapes, {precision: program}, stored), precision, RTX, targets)


@pytest.mark.plans
@pytest.mark.usefixtures("rtx_builder")
class TestOfTheLibrary:
    """What only the real builder can show; it needs no GPU."""

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_network_of_the_backend_tests_is_built(self, precision: Precision) -> None:
        plan = build_plan(small_source(), precision, RTX, ["8.6", "8.9", "12.0"])
        assert plan.output == (1, 2, 32, 24)
        assert plan.n_layers > 20
        assert set(plan.versions) == {"torch", "torch-tensorrt-rtx", "tensorrt-rtx-cu13-bindings"}

    def test_inputs_have_the_names_of_the_manifest_also_where_one_is_not_used(self) -> None:
        plan = built(Up(torch.float32), "fp32")
        for name in (b"image", b"spare", b"output"):
            assert name in plan.data
        assert b"inputs_0" not in plan.data

    def test_list_of_gpus_is_in_the_plan(self) -> None:
        """In its header, which is what is read to tell whether a plan is for a GPU."""
        lists = (("8.6",), ("8.6",), ("8.9",), ("8.6", "12.0"))
        one, same, other, more = (built(Up(torch.float32), "fp32", gpus).data[:128] for gpus in lists)
        assert one == same
        assert len({one, other, more}) == 3

    def test_gpu_that_it_does_not_build_for_is_named(self) -> None:
        with pytest.raises(
            EngineError, match=r"does not build for GPUs of compute capability 9\.0, only for .*8\.6"
        ):
            built(Up(torch.float32), "fp32", ("8.6", "9.0"))

    def test_gpus_without_bf16_are_named(self) -> None:
        with pytest.raises(EngineError, match=r"compute capability 7\.5 have no bf16: leave them out"):
            built(Up(torch.bfloat16), "bf16", ("7.5", "8.6"))

    def test_refused_operator_is_named_with_what_to_do(self) -> None:
        with pytest.raises(EngineError, match=r"refuses the operator aten\.convolution.*no transposed conv"):
            built(Up(torch.bfloat16), "bf16")

    def test_operator_that_it_lacks_is_named(self) -> None:
        class Solve(nn.Module):
            def forward(self, image: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
                return torch.linalg.solve(image, image)

        with pytest.raises(EngineError, match=r"TensorRT-RTX has no operator for aten\..*solve.*without it"):
            built(Solve(), "fp32")
