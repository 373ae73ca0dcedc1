"""Networks with exact data consistency: fed in training as in use, bound to the data, told what these leave open."""

from __future__ import annotations

import pytest
import torch

from scanside.engines.columns import column_inputs
from scanside.recon.columns import factorise
from scanside_training.models import Batch, ExactConfig, UnrolledConfig
from scanside_training.models.consistency import numbers_of
from scanside_training.models.exact import Exact
from scanside_training.models.rules import ProximalConfig
from scanside_training.models.unrolled import CascadesConfig

SMALL = ExactConfig(n_cascades=2, channels=4, pools=2, memory=2)


def a_network(seed: int = 0) -> Exact:
    torch.manual_seed(seed)
    network = SMALL.build()
    assert isinstance(network, Exact)
    return network


def a_batch(n: int = 2, n_coils: int = 3, *, lines: slice | None = None, noise: float = 0.05) -> Batch:
    """Adjoint images of random objects, the outermost columns and rows of which no coil sees."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(n, n_coils, 24, 16, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    maps[..., :2] = 0
    maps[..., :3, :] = 0
    mask = (
        torch.rand(n, 24, generator=generator) < 0.4
        if lines is None
        else torch.zeros(n, 24, dtype=torch.bool)
    )
    if lines is not None:
        mask[:, lines] = True
    objects = torch.randn(n, 24, 16, dtype=torch.complex64, generator=generator)
    seen = (
        torch.fft.fftshift(torch.fft.fft(maps * objects.unsqueeze(1), dim=-2), dim=-2)
        * mask[:, None, :, None]
    )
    image = (maps.conj() * torch.fft.ifft(torch.fft.ifftshift(seen, dim=-2), dim=-2)).sum(1)
    return {
        "image": torch.view_as_real(image).movedim(-1, 1).contiguous(),
        "maps": torch.view_as_real(maps).movedim(-1, 2).contiguous(),
        "mask": mask[..., None].float(),
        "noise": torch.full((n,), noise),
    }


def test_training_feeds_what_the_stage_feeds() -> None:
    batch, network = a_batch(), a_network()
    weight = SMALL.weight * 0.05**2
    found = network.inputs(batch)
    for number in range(2):
        maps, image = numbers_of(batch["maps"][number]), numbers_of(batch["image"][number])
        system = factorise(maps, batch["mask"][number, :, 0] > 0, weight)
        for one, expected in zip(found[1:], column_inputs(image, maps, system), strict=True):
            torch.testing.assert_close(one[number : number + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("noise", "smallest"), [(0.0, 5e-4), (1.0, 1.0)])
def test_weight_stays_within_its_limits(noise: float, smallest: float) -> None:
    batch = a_batch(lines=slice(None), noise=noise)
    _, _, kept, _ = a_network().inputs(batch)
    # With all lines, AᴴA is 1 wherever a coil sees something.
    share = kept[:, 0].diagonal(dim1=-2, dim2=-1)[:, 2:, 3:]
    torch.testing.assert_close(share, torch.full_like(share, smallest / (1 + smallest)), rtol=1e-3, atol=1e-6)


def test_networks_see_what_the_data_leave_open() -> None:
    network = a_network()
    seen: list[torch.Tensor] = []
    levels: list[torch.Tensor] = []
    first = network.networks[0]
    first.register_forward_pre_hook(lambda _, given: seen.append(given[-1]))
    for lines in (slice(None), slice(0, 1), slice(0, 24, 2)):
        inputs = network.inputs(a_batch(lines=lines, noise=0.01))
        network(*inputs)
        levels.append((inputs[1].square().sum((1, 2, 3), keepdim=True) / (21 * 14)).sqrt())
    everything, one_line, half = (one[..., 3:, 2:] / by for one, by in zip(seen, levels, strict=True))
    assert float(everything.max()) < 0.1
    assert float(one_line.min()) > 0.8
    assert 0.1 < float(half.mean()) < 0.9
    assert not any(bool(one[..., :2].any()) or bool(one[..., :3, :].any()) for one in seen)


@pytest.mark.parametrize("share_weights", [False, True])
def test_it_begins_where_an_unrolled_network_stands(share_weights: bool) -> None:
    settings = SMALL.model_copy(update={"share_weights": share_weights})
    network = settings.build()
    torch.manual_seed(1)
    other = UnrolledConfig(
        **settings.model_dump(include={*CascadesConfig.model_fields} - {"kind"}),
        consistency=ProximalConfig(weight=90.0),
    ).build()
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(network.adopted(other.state_dict()))
    batch = a_batch()
    inputs = network.inputs(batch)
    with torch.no_grad():
        exact = other.exact()
        assert exact is not None
        torch.testing.assert_close(network(*inputs), exact.network(*inputs))
    network.load_state_dict(network.adopted(own))
    torch.testing.assert_close(dict(network.state_dict()), own)


def test_of_nothing_networks_make_nothing() -> None:
    network = a_network().eval()
    batch = a_batch()
    batch["image"] = torch.zeros_like(batch["image"])
    with torch.no_grad():
        found = network(*network.inputs(batch))
    assert not found.any()


def test_where_the_data_say_all_nothing_of_a_correction_is_left() -> None:
    batch, network = a_batch(lines=slice(None), noise=0.001), a_network()
    with torch.no_grad():
        found = network(*network.inputs(batch))
    # The smallest λ lets 0.05 % of the networks' corrections through, whatever these are.
    torch.testing.assert_close(found, batch["image"], rtol=0.02, atol=0.02)


def test_coils_may_be_as_many_as_there_are() -> None:
    network = a_network().eval()
    for n_coils in (1, 2, 7, 20):
        with torch.no_grad():
            assert network(*network.inputs(a_batch(n_coils=n_coils))).shape == (2, 2, 24, 16)


def test_it_learns() -> None:
    network, batch = a_network(), a_batch()
    target = batch["image"] * 1.3
    inputs = network.inputs(batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = (network(*inputs) - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.networks[0].parameters())
