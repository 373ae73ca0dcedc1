"""Graphs that are read without torch.export compute what torch.export says they do."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from scanside.engines.archive import GRAPH, load_graph, save_graph
from scanside.engines.graph import BoundGraph, export_graph
from scanside.engines.plain import PlainGraph, read_plain
from scanside.errors import BundleError, UnsafeArchive
from scanside.testing.backends import small_inputs, small_source

_KINDS = (
    *("as_int", "as_ints", "as_float", "as_none", "as_bool", "as_string", "as_complex", "as_tensors"),
    *("as_optional_tensors", "as_sym_int", "as_sym_ints", "as_scalar_type", "as_memory_format", "as_layout"),
    *("as_device", "tensor_constant"),
)


class Everything(nn.Module):
    """Arguments and results of all kinds that operators have."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.register_buffer("offset", torch.tensor([[0.5], [0.25]], dtype=torch.float64).t())

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """From ``(1, 2, k1, k0)`` and ``(1, k1, 1)`` to ``(1, 2, k1, k0)``."""
        complex_image = torch.view_as_complex(image.permute(0, 2, 3, 1).contiguous())
        kspace = torch.fft.fft2(complex_image, norm="ortho") * mask * complex(0.5, -0.25)
        x = torch.view_as_real(torch.fft.ifft2(kspace, norm="ortho")).permute(0, 3, 1, 2)
        values, places = x.max(dim=-1, keepdim=True)
        deviation, mean = torch.std_mean(x, dim=(2, 3), keepdim=True)
        first, second = x.split([1, 1], dim=1)
        mixed = torch.einsum("bchw,c->bhw", x, self.scale)[:, None]
        up = nn.functional.interpolate(nn.functional.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")
        flat = x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3]).view(x.shape)
        x = flat.clone(memory_format=torch.contiguous_format) + up.to(torch.float32)
        x = x + torch.cat((first, second), dim=1) + mixed + values + deviation / (1 + mean.abs())
        x = x.clamp(min=-float("inf"), max=1e30) + places.to(x.dtype).sign() * torch.tensor(0.125)
        x = x + (x.shape[-1] // 2) + torch.full_like(x, 0.5) + self.offset.to(x.dtype).sum()
        table = torch.zeros(x.shape[2], dtype=torch.int64)
        return x[:, :, table] + torch.where(mask[:, None] > 0, x, torch.zeros_like(x)).roll((1, 2), (2, 3))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(2)
    network = Everything().eval()
    k1, k0 = Dim("k1", min=2), Dim("k0", min=2)
    example = (torch.zeros(1, 2, 16, 24), torch.ones(1, 16, 1))
    program, _ = export_graph(network, example, ({2: 8 * k1, 3: 8 * k0}, {1: 8 * k1}))
    path = tmp_path_factory.mktemp("plain") / "graph.pt2"
    save_graph(program, path)
    return path, network


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


@pytest.mark.parametrize("size", [(16, 24), (32, 16)])
def test_every_kind_of_argument(everything: tuple[Path, nn.Module], size: tuple[int, int]) -> None:
    path, network = everything
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, *size, generator=generator)
    mask = (torch.rand(1, size[0], 1, generator=generator) < 0.5).float()
    with torch.no_grad():
        expected = network(image, mask)
        as_torch_reads_it = load_graph(path).module(check_guards=False)(
            dict(sorted(weights_of(network).items())), image, mask
        )
        found = BoundGraph(read_plain(path), weights_of(network))(image, mask)
    assert torch.equal(found, as_torch_reads_it)
    torch.testing.assert_close(found, expected)
    kinds = json.dumps(json.loads(zipfile.ZipFile(path).read(f"graph/{GRAPH}")))
    for kind in _KINDS:
        assert f'"{kind}"' in kinds, (
            f"the network has nothing of the kind {kind}: what reads it was not tested"
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_reading_is_the_same_as_not_having_written(precision: Any, tmp_path: Path) -> None:
    source = small_source()
    save_graph(source.program(precision), tmp_path / "graph.pt2")
    written = BoundGraph(read_plain(tmp_path / "graph.pt2"), source.weights())
    kept = BoundGraph(PlainGraph.of(source.program(precision)), source.weights())
    with torch.no_grad():
        assert torch.equal(written(*small_inputs()), kept(*small_inputs()))


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The archive with another graph in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name.endswith(GRAPH):
                graph = json.loads(data)
                change(graph)
                data = json.dumps(graph).encode()
            after.writestr(name, data)
    return buffer.getvalue()


def test_unsafe_graphs_are_refused(everything: tuple[Path, nn.Module]) -> None:
    def delete(graph: dict[str, Any]) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.remove"

    with pytest.raises(UnsafeArchive, match="is not in the list of operators that only compute"):
        read_plain(changed(everything[0], delete))


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["inputs"][0].update(arg={"as_tensor": {"name": "nowhere"}}),
        lambda node: node["inputs"][0].update(arg={"as_something_new": 3}),
        lambda node: node.update(target="torch.ops.aten.add.NoSuchOverload"),
        lambda node: node.pop("outputs"),
    ],
    ids=["name", "kind", "operator", "field"],
)
def test_graphs_that_are_written_in_another_way(
    everything: tuple[Path, nn.Module], change: Callable[[dict[str, Any]], None]
) -> None:
    archive = changed(everything[0], lambda graph: change(graph["graph_module"]["graph"]["nodes"][3]))
    with pytest.raises(BundleError, match=r"old.pt2: this version cannot read the graph, which torch"):
        read_plain(archive, "old.pt2")
