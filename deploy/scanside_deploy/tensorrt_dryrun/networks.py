"""The networks that are put to the test: one of each form that Scanside trains, and every bundle that it ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from scanside.engines.backends.base import InputShape, Precision
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles
from scanside.engines.graph import GraphSource, export_graph
from scanside.engines.probes import Network, make_probes, read_cases
from scanside.recon.consistency import film_sampling_inputs, sampling_inputs
from scanside_training.models import (
    BODIES,
    DualUnetConfig,
    ModelConfig,
    TemporalConfig,
    UnetConfig,
    UnrolledConfig,
    build_model,
)
from scanside_training.models.sensitivities import SensitivityConfig
from scanside_training.models.unrolled import GradientConfig, HardConfig, ProximalConfig

__all__ = ["CONTROL", "REFERENCE", "Candidate", "candidates"]

_SHAPE = (64, 48)
_N_COILS = 4
_MOST_COILS = 8  # that bundles are tried with
_SEED = 3
_SMALL = {"n_cascades": 2, "channels": 8, "pools": 2}
_N_FRAMES = 3
_FEW_STEPS = ProximalConfig(iterations=2, initial_iterations=2)

REFERENCE: Mapping[str, ModelConfig] = {
    "U-Net": UnetConfig(channels=8, pools=3),
    "VarNet, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=GradientConfig()),
    "hard replacement, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=HardConfig()),
    "MoDL, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=_FEW_STEPS, share_weights=True),
    "memory, pmatrix": UnrolledConfig(**_SMALL, lowering="pmatrix", consistency=_FEW_STEPS, memory=4),
    "joint maps, pmatrix": UnrolledConfig(
        **_SMALL,
        lowering="pmatrix",
        consistency=GradientConfig(),
        sensitivities=SensitivityConfig(channels=4, pools=2),
    ),
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
"""Models by name, small: which operators a graph has does not depend on how many channels or repetitions."""

LOWERED_PRECISION = ("U-Net", "VarNet, pmatrix", "dual U-Net", "temporal, pmatrix")
"""Models that are checked with their networks in bf16 too; all others have the same networks."""

CONTROL = "torch.fft (control)"
"""The network that must not pass: TensorRT has no Fourier transform."""


class _FourierControl(nn.Module):
    """Convolutions with a Fourier transform in between, in the form that torch-tensorrt can at least lower."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(2, 8, 3, padding=1)
        self.after = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``(B, 2, k1, k0)`` and ``(B, k1, 1)`` to ``(B, 2, k1, k0)``."""
        x = self.after(torch.relu(self.before(image)))
        planes = torch.view_as_complex(x.movedim(1, -1).contiguous())
        planes = torch.fft.ifft(torch.fft.fft(planes, dim=-2) * mask, dim=-2)
        return image + torch.view_as_real(planes).movedim(-1, 1)


@dataclass(frozen=True)
class Candidate:
    """A network as a backend gets it, with inputs to try it on.

    Attributes:
        name: in the report.
        source: graph, weights and shapes.
        precision: of the graph.
        tensors: inputs.
        must_pass: False for the control, which must be found wanting.
    """

    name: str
    source: GraphSource
    precision: Precision
    tensors: tuple[torch.Tensor, ...]
    must_pass: bool = True


def candidates() -> Iterator[Candidate]:
    """All reference networks, some in both precisions, all bundles in all precisions, then the control.

    Raises:
        BundleError: a bundle is not what it should be.
    """
    for name, config in REFERENCE.items():
        tensors = _inputs(config)
        yield _candidate(name, _fresh(config), tensors, "fp32")
        if name in LOWERED_PRECISION:
            model = _fresh(config)
            _lower_precision(model)
            yield _candidate(name, model, tensors, "bf16")
    for folder in available_bundles().values():
        yield from _of_bundle(Bundle.open(folder))
    image, _, _, mask = _inputs(UnrolledConfig(**_SMALL))
    yield _candidate(CONTROL, _FourierControl(), (image, mask), "fp32", must_pass=False)


def _fresh(config: ModelConfig) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        model = build_model(config)
        for weight in model.parameters():
            if not bool(
                weight.any()
            ):  # a last layer that begins by changing nothing would hide all before it
                torch.nn.init.normal_(weight, std=0.05)
        return model


def _candidate(
    name: str,
    model: nn.Module,
    tensors: tuple[torch.Tensor, ...],
    precision: Precision,
    must_pass: bool = True,
) -> Candidate:
    program, weights = export_graph(model.eval(), tensors, tuple({} for _ in tensors))
    shapes = tuple(InputShape(f"input{i}", tuple(tensor.shape)) for i, tensor in enumerate(tensors))
    stored = {name: tensor.float() for name, tensor in weights.items()}
    return Candidate(name, GraphSource(shapes, {precision: program}, stored), precision, tensors, must_pass)


def _of_bundle(bundle: Bundle) -> Iterator[Candidate]:
    """A bundle's networks at its first size, on the first real case that it brings."""
    manifest = bundle.manifest
    n_coils = manifest.shapes.coils_for(_MOST_COILS)
    k1, k0 = manifest.shapes.buckets[0]
    n_frames = manifest.shapes.frames
    shapes = tuple(
        InputShape(spec.name, spec.shape(k1, k0, n_coils, n_frames=n_frames)) for spec in manifest.inputs
    )
    network = Network(manifest.task, manifest.lowering, shapes)
    probe, *_ = make_probes(network, read_cases(manifest.task, bundle.vectors(), manifest.lowering))
    weights = bundle.weights()
    for precision in manifest.precisions:
        source = GraphSource(shapes, {precision: bundle.graph(precision)}, weights)
        yield Candidate(f"bundle {bundle.name}", source, precision, probe.inputs)


def _lower_precision(model: nn.Module) -> None:
    """bf16 in the networks; what is around them stays fp32."""
    for part in model.modules():
        if isinstance(part, BODIES):
            part.to(torch.bfloat16)


def _inputs(config: ModelConfig) -> tuple[torch.Tensor, ...]:
    """Random inputs of a model: what is compared is arithmetic, not images."""
    generator = torch.Generator().manual_seed(_SEED)
    if isinstance(config, UnetConfig):
        return (torch.randn(1, config.image_channels, *_SHAPE, generator=generator),)
    coils = torch.randn(1, _N_COILS, 2, *_SHAPE, generator=generator)
    maps = coils * torch.rsqrt(coils.square().sum((1, 2), keepdim=True))
    noise = torch.full((1, 1, 1, 1), 0.05)
    if isinstance(config, (DualUnetConfig, TemporalConfig)):
        film = torch.randn(1, 2, config.n_frames, *_SHAPE, generator=generator)
        if isinstance(config, DualUnetConfig) and config.consistency is None:
            return (film,)
        masks = (torch.rand(1, config.n_frames, _SHAPE[0], 1, generator=generator) < 0.4).float()
        return (film, maps, noise, *film_sampling_inputs(config.lowering, masks))
    image = torch.randn(1, 2, *_SHAPE, generator=generator)
    if config.sensitivities is not None:
        image = maps * image.unsqueeze(1)
    # Masks over both axes where the lowering takes them: they give the larger graph.
    width = _SHAPE[1] if config.lowering == "dft_matmul" else 1
    mask = (torch.rand(1, _SHAPE[0], width, generator=generator) < 0.4).float()
    return (image, maps, noise, *sampling_inputs(config.lowering, mask))
