"""What networks are made of, once exported: nothing that a backend is known to refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scanside.recon.consistency import film_sampling_inputs, sampling_inputs
from scanside_training.models import (
    DualUnetConfig,
    NetworkConfig,
    TemporalConfig,
    UnetConfig,
    UnrolledConfig,
)
from scanside_training.models.temporal import SubspaceConfig

REFUSED = {
    "conv_transpose": "TensorRT has no transposed convolution in bfloat16",
    "diagonal": "OpenVINO has none",
    "mean": "in ONNX, the axes of a mean are computed, and TensorRT's parser wants constants",
}
SMALL: dict[str, Any] = {"channels": 4, "pools": 1}
FILM: dict[str, Any] = SMALL | {"n_frames": 4, "n_cascades": 1, "lowering": "pmatrix"}
DUAL: dict[str, Any] = FILM | {"fusion_channels": 4, "attention": True}
NETWORKS = {
    "unet": UnetConfig(**SMALL),
    "unrolled": UnrolledConfig(**SMALL, n_cascades=2, memory=2, lowering="pmatrix"),
    "unrolled-gradient": UnrolledConfig(**SMALL, lowering="pmatrix", consistency={"kind": "gradient"}),
    "temporal": TemporalConfig(**FILM),
    "temporal-courses": TemporalConfig(**FILM, low_rank=(6,), subspace=SubspaceConfig(iterations=2)),
    "temporal-causal": TemporalConfig(**FILM, causal=True),
    "dual": DualUnetConfig(**DUAL),
    "dual-consistent": DualUnetConfig(**DUAL, consistency={"kind": "hard"}),
}
SIZE = (16, 24)


def inputs_of(config: NetworkConfig) -> tuple[torch.Tensor, ...]:
    noise, maps = torch.full((1, 1, 1, 1), 0.1), torch.ones(1, 2, 2, *SIZE)
    if isinstance(config, UnetConfig):
        return (torch.ones(1, 2, *SIZE),)
    if isinstance(config, UnrolledConfig):
        return (torch.ones(1, 2, *SIZE), maps, noise, *sampling_inputs("pmatrix", torch.ones(1, SIZE[0], 1)))
    film = torch.ones(1, 2, 4, *SIZE)
    if isinstance(config, DualUnetConfig) and config.consistency is None:
        return (film,)
    return (film, maps, noise, *film_sampling_inputs("pmatrix", torch.ones(1, 4, SIZE[0], 1)))


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_that_a_backend_refuses(name: str) -> None:
    config = NETWORKS[name]
    with torch.no_grad():
        program = torch.export.export(config.build().eval(), inputs_of(config))
    names = {str(node.target).removeprefix("aten.").partition(".")[0] for node in program.graph.nodes}
    found = {one: why for one, why in REFUSED.items() if any(name.startswith(one) for name in names)}
    assert not found
    assert "conv2d" in names, "names of operators are not what this test takes them for"
