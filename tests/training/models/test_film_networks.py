"""Networks for films: three lowerings of one reconstruction, causality, memory, attention, and export."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scanside.engines.graph import BoundGraph, dynamic_axes, export_graph
from scanside.engines.plain import PlainGraph
from scanside.engines.shapes import film_specs
from scanside.recon.consistency import LOWERINGS, Lowering
from scanside.recon.fourier import to_image, to_kspace
from scanside_training.memory import peak_memory
from scanside_training.models import (
    Body,
    DualUnet,
    DualUnetConfig,
    Temporal,
    TemporalConfig,
)
from scanside_training.models.attention import BlockAttention
from scanside_training.models.base import Batch
from scanside_training.models.frames import film_operator, fold, unfold
from scanside_training.models.temporal import SubspaceConfig, along_time, scarce_courses

TIME, K1, K0, N_COILS = 5, 16, 8, 3
LIGHT: dict[str, Any] = {"n_frames": TIME, "n_cascades": 2, "channels": 4, "pools": 1}
DUAL: dict[str, Any] = {"n_frames": TIME, "channels": 4, "pools": 2, "fusion_channels": 4}
HARD = {"kind": "hard"}


@pytest.fixture
def batch() -> Batch:
    return scan(2)


def scan(n: int) -> Batch:
    generator = torch.Generator().manual_seed(n)
    maps = torch.randn(n, N_COILS, K1, K0, dtype=torch.complex64, generator=generator)
    maps /= maps.abs().square().sum(1, keepdim=True).sqrt()
    return {
        "image": torch.randn(n, 2, TIME, K1, K0, generator=generator),
        "maps": torch.stack((maps.real, maps.imag), 2),
        "noise": torch.full((n,), 0.05),
        "mask": (torch.rand(n, TIME, K1, 1, generator=generator) < 0.5).float(),
    }


def lively(model: Temporal | DualUnet) -> Temporal | DualUnet:
    """With weights that change the image, also where a fresh network does not."""
    torch.manual_seed(5)
    for name, weight in model.named_parameters():
        if name.endswith("last.weight"):
            torch.nn.init.normal_(weight, 0, 0.1)
    return model.eval()


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_operator_against_plain_complex_numbers(lowering: Lowering, batch: Batch) -> None:
    film = torch.complex(*batch["image"].double().unbind(1))[:, :, None]
    maps = torch.complex(*batch["maps"].double().unbind(2))[:, None]
    lines = batch["mask"][:, :, None].double()
    expected = (maps.conj() * to_image(lines * to_kspace(maps * film, (-2,)), (-2,))).sum(2)
    model = TemporalConfig(**LIGHT, lowering=lowering).build()
    image, sensitivities, _, *sampling = model.inputs(batch)
    found = unfold(film_operator(lowering, sensitivities, tuple(sampling))(fold(image)), TIME)
    torch.testing.assert_close(torch.complex(*found.double().unbind(1)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "config", [TemporalConfig(**LIGHT), DualUnetConfig(**DUAL, n_cascades=2, consistency=HARD)]
)
def test_lowerings_agree(config: TemporalConfig | DualUnetConfig, batch: Batch) -> None:
    network = lively(config.build())
    made = []
    for lowering in LOWERINGS:
        other = config.model_copy(update={"lowering": lowering}).build().eval()
        other.load_state_dict(network.state_dict())
        with torch.inference_mode():
            made.append(other(*other.inputs(batch)))
    assert made[0].shape == batch["image"].shape
    assert float((made[0] - batch["image"]).abs().max()) > 0.1
    for one in made[1:]:
        torch.testing.assert_close(one, made[0], atol=2e-5, rtol=1e-4)


def test_a_fresh_light_network_shares_views(batch: Batch) -> None:
    """Against the least-squares image of all frames, in double precision, solved with matrices."""
    still_film = torch.complex(*batch["image"].double().unbind(1))[:, :1]
    maps = torch.complex(*batch["maps"].double().unbind(2))[:, None]
    lines = batch["mask"][:, :, None].double()

    def normal(film: torch.Tensor) -> torch.Tensor:
        """``(B, time or 1, k1, k0)``"""
        return (maps.conj() * to_image(lines * to_kspace(maps * film[:, :, None], (-2,)), (-2,))).sum(2)

    measured = normal(still_film)
    scanned = batch | {"image": torch.stack((measured.real, measured.imag), 1).float()}
    model = TemporalConfig(**{**LIGHT, "shared_iterations": 40}).build().eval()
    with torch.inference_mode():
        found = model(*model.inputs(scanned))
    # Nothing moves, and the frames together have nearly all lines.
    truth = still_film.expand(-1, TIME, -1, -1)
    together = torch.complex(*found.double().unbind(1))
    zero_filled = (measured - truth).norm() / truth.norm()
    assert (together - truth).norm() / truth.norm() < 0.15 * zero_filled


def as_numbers(film: torch.Tensor) -> torch.Tensor:
    """``(B, time, voxel)`` of a folded film."""
    return torch.complex(*film.reshape(-1, TIME, 2, K1 * K0).double().unbind(2))


@pytest.mark.parametrize("n", [3, 9])
def test_scarce_time_courses_are_told_by_products(batch: Batch, n: int) -> None:
    """Against eigenvectors, in double precision."""
    film = fold(batch["image"])
    numbers = as_numbers(film)
    share, vectors = torch.linalg.eigh(numbers @ numbers.mH)
    share /= share.sum(-1, keepdim=True)
    left = (1 - share) ** 2**n
    expected = (vectors * left[:, None]) @ (vectors.mH @ numbers)
    (*_, matrix) = scarce_courses(film, TIME, (1, n))
    torch.testing.assert_close(as_numbers(along_time(matrix, film)), expected, atol=1e-5, rtol=1e-4)
    empty = torch.zeros_like(film)
    (matrix,) = scarce_courses(empty, TIME, (n,))
    assert torch.equal(along_time(matrix, empty), empty)


def test_a_fresh_network_of_few_time_courses_finds_a_film_that_has_few(batch: Batch) -> None:
    """Two courses are told by the shared views; with them, the same data determine the film."""
    generator = torch.Generator().manual_seed(9)
    still, moving = torch.randn(2, 2, 1, K1, K0, dtype=torch.complex128, generator=generator)
    course = torch.linspace(-1, 1, TIME, dtype=torch.float64)[:, None, None]
    truth = still + 0.3 * course * moving
    maps = torch.complex(*batch["maps"].double().unbind(2))[:, None]
    lines = batch["mask"][:, :, None].double()
    measured = (maps.conj() * to_image(lines * to_kspace(maps * truth[:, :, None], (-2,)), (-2,))).sum(2)
    scanned = batch | {"image": torch.stack((measured.real, measured.imag), 1).float()}

    def error(**settings: Any) -> float:
        model = TemporalConfig(**{**LIGHT, "shared_iterations": 40}, **settings).build().eval()
        with torch.inference_mode():
            found = torch.complex(*model(*model.inputs(scanned)).double().unbind(1))
        return float((found - truth).norm() / truth.norm())

    assert error(subspace={"halvings": 7, "iterations": 12}) < 0.75 * error()


@pytest.mark.parametrize(("smallest", "pull"), [(0.0, 20 * 0.05**2), (0.2, 0.2)])
def test_few_time_courses_are_fitted_as_the_formula_says(batch: Batch, smallest: float, pull: float) -> None:
    """``(Aᴴ A + w D + p) x = Aᴴ y + p s`` where the steps are many."""
    config = SubspaceConfig(halvings=6, weight=0.3, pull=20, smallest=smallest, iterations=100)
    model = TemporalConfig(**LIGHT, subspace=config).build()
    image, maps, noise, *sampling = model.inputs(batch)
    normal, measured = film_operator("fft", maps, tuple(sampling)), fold(image)
    start = fold(torch.randn(image.shape, generator=torch.Generator().manual_seed(1)))
    (scarce,) = scarce_courses(start, TIME, (config.halvings,))
    found, unexplained = model._few_courses(normal, measured, start, noise, config)
    assert isinstance(model, Temporal)
    pulled = pull * (found - start)
    left = normal(found) + config.weight * along_time(scarce, found) + pulled - measured
    assert float(left.norm()) < 1e-4 * float(measured.norm())
    torch.testing.assert_close(unexplained, measured - normal(found), atol=1e-4, rtol=1e-4)


def test_causal_frames_know_nothing_of_later_ones(batch: Batch) -> None:
    later = {name: one.clone() for name, one in batch.items()}
    later["image"][:, :, 3:] += 1
    later["mask"][:, 3:] = 1 - later["mask"][:, 3:]
    changes = {}
    for causal in (True, False):
        model = lively(TemporalConfig(**LIGHT, causal=causal).build())
        with torch.inference_mode():
            before, after = (model(*model.inputs(one)) for one in (batch, later))
        changes[causal] = (after - before).abs().amax((0, 1, 3, 4))
    assert float(changes[True][:3].max()) < 1e-5
    assert float(changes[True][3:].min()) > 0.1
    assert float(changes[False].min()) > 1e-3


def test_acquired_samples_stay(batch: Batch) -> None:
    """With one coil and hard consistency, k-space is that of the scan wherever there is any."""
    one_coil = batch | {"maps": torch.tensor([1.0, 0.0])[None, None, :, None, None].expand(2, 1, 2, K1, K0)}
    lines = batch["mask"] > 0
    image = torch.complex(*batch["image"].unbind(1))
    measured = to_image(lines * to_kspace(image, (-2,)), (-2,))
    one_coil["image"] = torch.stack((measured.real, measured.imag), 1)
    for config in (
        TemporalConfig(**LIGHT, consistency=HARD),
        DualUnetConfig(**DUAL, n_cascades=2, consistency=HARD),
    ):
        model = lively(config.build())
        with torch.inference_mode():
            made = torch.complex(*model(*model.inputs(one_coil)).unbind(1))
        acquired = lines.expand(-1, -1, -1, K0)
        difference = (to_kspace(made, (-2,)) - to_kspace(measured, (-2,)))[acquired]
        assert float(difference.abs().max()) < 1e-5


def test_where_no_coil_sees_anything_there_is_nothing(batch: Batch) -> None:
    batch["maps"][..., :3] = 0
    model = lively(TemporalConfig(**LIGHT).build())
    with torch.inference_mode():
        made = model(*model.inputs(batch))
    assert not made[..., :3].any()
    assert made[..., 3:].any()


def test_cascades_train_in_the_memory_of_one(batch: Batch) -> None:
    def needed(n_cascades: int, checkpointing: bool) -> int:
        config = DualUnetConfig(
            **DUAL | {"channels": 8}, n_cascades=n_cascades, consistency=HARD, checkpointing=checkpointing
        )
        model = config.build()
        inputs = model.inputs(batch)
        return peak_memory(lambda: model(*inputs).square().mean().backward())

    one = needed(1, True)
    assert needed(3, True) < 1.3 * one
    assert needed(3, False) > 2.2 * one


def test_checkpointing_changes_no_gradient(batch: Batch) -> None:
    gradients = []
    for checkpointing in (True, False):
        torch.manual_seed(3)
        model = (DualUnetConfig(**DUAL, n_cascades=2, consistency=HARD, checkpointing=checkpointing)).build()
        torch.manual_seed(4)  # of dropout
        model(*model.inputs(batch)).square().mean().backward()
        gradients.append([one.grad for one in model.parameters() if one.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_attention_weighs_channels_then_places() -> None:
    attention = BlockAttention(16)
    x = torch.randn(2, 16, 6, 7, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ratio = attention(x) / x
    assert float(ratio.min()) > 0
    assert float(ratio.max()) < 1
    # The weight of a voxel is one of its channel times one of its place.
    logs = ratio.log()
    parts = logs.mean(1, keepdim=True) + logs.mean((2, 3), keepdim=True) - logs.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(logs, parts, atol=1e-4, rtol=1e-4)
    plain = DualUnetConfig(**DUAL).build()
    attending = DualUnetConfig(**DUAL, attention=True).build()
    assert not any(isinstance(one, BlockAttention) for one in plain.modules())
    assert sum(isinstance(one, BlockAttention) for one in attending.modules()) == 2 * 5


def test_a_fresh_network_begins_with_the_film_that_it_is_given(batch: Batch) -> None:
    """A step of data consistency aside, which changes nothing of a film that explains its data."""
    generator = torch.Generator().manual_seed(3)
    film = torch.randn(batch["image"].shape, generator=generator)
    model = TemporalConfig(**LIGHT, start="low_rank_sparse").build().eval()
    _, maps, _, _, *sampling = model.inputs(batch)
    measured = unfold(film_operator("fft", maps, tuple(sampling))(fold(film)), TIME)
    with torch.inference_mode():
        found = model(*model.inputs(batch | {"image": measured, "low_rank_sparse": film}))
    torch.testing.assert_close(found, film, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"low_rank": (4,)}, {"subspace": {}}, {"start": "low_rank_sparse"}])
def test_causal_networks_know_no_correlations_of_all_frames(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="made of all frames of a film: leave out 'causal'"):
        TemporalConfig(**LIGHT, causal=True, **settings)
    with pytest.raises(ValidationError, match="in ascending order"):
        TemporalConfig(**LIGHT, low_rank=(6, 4))


def test_cascades_need_data_consistency() -> None:
    with pytest.raises(ValidationError, match="3 cascades alternate with data consistency: set consistency"):
        DualUnetConfig(**DUAL, n_cascades=3)


SMALL = LIGHT | {"n_cascades": 1, "shared_iterations": 1}
EXPORTED = {
    "temporal-fft": (TemporalConfig(**SMALL, lowering="fft"), torch.float32),
    "temporal-pmatrix": (TemporalConfig(**SMALL, lowering="pmatrix"), torch.bfloat16),
    "temporal-low-rank": (
        TemporalConfig(**SMALL, lowering="pmatrix", low_rank=(2, 6), subspace={"iterations": 2}),
        torch.bfloat16,
    ),
    "temporal-begun": (
        TemporalConfig(**SMALL, lowering="pmatrix", start="low_rank_sparse"),
        torch.bfloat16,
    ),
    "temporal-dft_matmul": (TemporalConfig(**SMALL, lowering="dft_matmul"), torch.float32),
    "temporal-causal": (TemporalConfig(**SMALL, causal=True, lowering="pmatrix"), torch.float32),
    "dual-attention": (DualUnetConfig(**DUAL, attention=True), torch.bfloat16),
    "dual-cascades": (
        DualUnetConfig(**DUAL, n_cascades=2, consistency=HARD, lowering="pmatrix"),
        torch.float32,
    ),
}


@pytest.mark.parametrize(("config", "precision"), EXPORTED.values(), ids=EXPORTED.keys())
def test_export(config: TemporalConfig | DualUnetConfig, precision: torch.dtype, batch: Batch) -> None:
    network = copy.deepcopy(lively(config.build()))
    for module in network.modules():
        if isinstance(module, Body):
            module.to(precision)
    m = network.multiple_of
    example = network.inputs(
        {
            "image": torch.zeros(1, 2, TIME, 4 * m, 6 * m),
            "maps": torch.zeros(1, 4, 2, 4 * m, 6 * m),
            "noise": torch.ones(1),
            "mask": torch.ones(1, TIME, 4 * m, 1),
        }
    )
    start = config.start if isinstance(config, TemporalConfig) else None
    specs = film_specs(config.lowering if len(example) > 1 else "none", start)
    program, weights = export_graph(network, example, dynamic_axes([spec.axes for spec in specs], m))
    one = {name: value[:1] for name, value in batch.items()}
    inputs = network.inputs(one)
    with torch.inference_mode():
        expected = network(*inputs)
        found = BoundGraph(PlainGraph.of(program), weights)(*inputs)
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
