"""Graphs without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from scanside.engines.archive import save_graph
from scanside.engines.backends.base import InputShape
from scanside.engines.graph import (
    BoundGraph,
    GraphSource,
    bind,
    dynamic_axes,
    export_graph,
    fourier_operators,
    specialise,
)
from scanside.engines.plain import read_plain
from scanside.errors import ConfigError, EngineError
from scanside.testing.backends import SmallNetwork, small_inputs, small_source


def test_bound_graph_is_the_network() -> None:
    source = small_source()
    network = SmallNetwork().eval()
    network.load_state_dict(dict(source.weights()))
    for size in ((32, 24), (16, 40)):
        inputs = small_inputs(3, size)
        with torch.no_grad():
            assert torch.equal(bind(source)(*inputs), network(*inputs))


def test_order_of_weights_does_not_matter() -> None:
    source = small_source()
    shuffled = dict(reversed(list(source.weights().items())))
    inputs = small_inputs()
    with torch.no_grad():
        assert torch.equal(BoundGraph(source.plain("fp32"), shuffled)(*inputs), bind(source)(*inputs))


def test_archive_holds_no_weights(tmp_path: Path) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(300, 300))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image @ self.matrix

    program, weights = export_graph(
        Large().eval(), (torch.zeros(1, 2, 8, 300),), ({2: torch.export.Dim("k1")},)
    )
    save_graph(program, tmp_path / "graph.pt2")
    assert (tmp_path / "graph.pt2").stat().st_size < 0.1 * weights["matrix"].nbytes
    again = BoundGraph(read_plain(tmp_path / "graph.pt2"), weights)
    image = torch.randn(1, 2, 5, 300)
    torch.testing.assert_close(again(image), image @ weights["matrix"])


def test_buffers_that_are_not_saved_are_weights_too() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(3.0), persistent=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * self.scale

    program, weights = export_graph(Scaled().eval(), (torch.ones(1, 2, 8, 8),), ({},))
    assert list(weights) == ["scale"]
    assert not program.constants


def test_reduced_graph_converts_the_weights() -> None:
    source, inputs = small_source(), small_inputs()
    with torch.no_grad():
        exact, reduced = bind(source, "fp32")(*inputs), bind(source, "bf16")(*inputs)
    error = (exact - reduced).norm() / exact.norm()
    assert 1e-5 < error < 2e-2, "a network in bf16 is near, but not equal"
    assert reduced.dtype == torch.float32


def test_specialised_program_holds_the_weights() -> None:
    source, inputs = small_source(), small_inputs()
    program = specialise(source)
    with torch.no_grad():
        assert torch.equal(program.module()(*inputs), bind(source)(*inputs))
    assert len(program.state_dict) == len(source.weights())


def test_shapes_that_the_graph_does_not_allow() -> None:
    source = small_source()
    odd = (InputShape("image", (1, 2, 31, 24)), InputShape("p", (1, 2, 31, 31)))
    with pytest.raises(EngineError, match="image \\(1, 2, 31, 24\\)"):
        specialise(GraphSource(odd, source.programs, source.tensors))


def test_weights_of_another_network_are_refused() -> None:
    source = small_source()
    weights = dict(source.weights())
    with pytest.raises(ConfigError, match=r"weight 'last\.bias' has shape \(5,\)"):
        BoundGraph(source.plain("fp32"), {**weights, "last.bias": torch.zeros(5)})
    del weights["last.bias"]
    with pytest.raises(ConfigError, match="takes 6 weights, but there are 5"):
        BoundGraph(source.plain("fp32"), weights)


def test_network_in_training_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"call \.eval\(\)"):
        export_graph(SmallNetwork(), small_inputs(), ({}, {}))


def test_graph_that_is_not_there() -> None:
    source = small_source()
    only = GraphSource(source.inputs, {"fp32": source.program("fp32")}, source.tensors)
    with pytest.raises(ConfigError, match="no bf16 graph, only fp32"):
        only.program("bf16")


def test_fourier_transforms_are_found() -> None:
    class Transform(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.fft.ifft2(torch.fft.fft2(torch.complex(image[:, 0], image[:, 1]))).abs()

    program, _ = export_graph(Transform().eval(), (torch.zeros(1, 2, 8, 8),), ({},))
    assert len(fourier_operators(program)) == 2
    assert fourier_operators(small_source().program("fp32")) == []


def test_axes_get_dimensions() -> None:
    image, maps, p = dynamic_axes(
        (("batch", 2, "k1", "k0"), ("batch", "coil", 2, "k1", "k0"), ("batch", 2, "k1", "k1")), 16
    )
    assert (list(image), list(maps), list(p)) == ([2, 3], [1, 3, 4], [2, 3])
    assert image[2] is p[2] is p[3]


def test_axes_of_a_network_of_one_size_have_none() -> None:
    image, maps = dynamic_axes((("batch", 2, "k1", "k0"), ("batch", "coil", 2, "k1", "k0")), any_size=False)
    assert (list(image), list(maps)) == ([], [1])
