"""Data consistency of samples anywhere in k-space, and the network around it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scanside.engines.roles import Known
from scanside.engines.shapes import Fit, noncartesian_specs
from scanside.recon.noncartesian.sense import NonCartesianSense
from scanside.testing.adjoint import assert_adjoint
from scanside_deploy.testing import NetworkTests
from scanside_training.data import Drawn, NonCartesianTask, SampleShape, SimulationConfig
from scanside_training.models import Batch, Network, NetworkConfig, NonCartesianConfig
from scanside_training.models.noncartesian import ToeplitzOperator
from scanside_training.models.rules import GradientConfig, ProximalConfig

SIZE = (24, 32)
Complex = torch.Tensor


def batch_of(snr: float = 50.0, **task: object) -> Batch:
    """A sample of an object of spots, three coils."""
    y, x = torch.linspace(-1, 1, 40)[:, None], torch.linspace(-1, 1, 40)
    pixels = torch.exp(-8 * (y.square() + (x - 0.2).square())) + 0.5 * torch.exp(
        -30 * ((y + 0.4).square() + x.square())
    )
    config = SimulationConfig.model_validate(
        {
            "task": {"kind": "noncartesian", "acceleration": [3, 4], **task},
            "k1": [SIZE[0], SIZE[0]],
            "k0": [SIZE[1], SIZE[1]],
            "multiple": 8,
            "readout_crop": None,
            "coils": {"n_coils": [3, 3], "measured": 0},
            "espirit": {"probability": 0},
            "snr": [snr, snr],
        }
    )
    drawn = Drawn(config, SampleShape(3, *SIZE), np.random.default_rng(5))
    assert isinstance(config.task, NonCartesianTask)
    return {name: one[None] for name, one in config.task.sample(pixels, drawn).items()}


def operator_of(batch: Batch) -> ToeplitzOperator:
    known = Known("dft_matmul", at_hand={"image": batch["image"]})
    return ToeplitzOperator(
        batch["maps"], batch["toeplitz"], (known.tensor("double1"), known.tensor("double0"))
    )


def by_matrices(operator: ToeplitzOperator, image: torch.Tensor) -> torch.Tensor:
    return operator.plain(operator._in_planes(operator.aligned(image)))


@pytest.mark.parametrize("kind", ["radial", "spiral"])
def test_products_of_matrices_are_the_normal_operator(kind: str) -> None:
    batch = batch_of(trajectories=[kind])
    operator, image = operator_of(batch), torch.randn_like(batch["image"])
    found = by_matrices(operator, image)
    torch.testing.assert_close(found, operator(image), rtol=0, atol=1e-5)
    maps = torch.complex(*batch["maps"][0].unbind(1))[:, None]
    points = batch["points"][0].flatten(0, 1)
    task = NonCartesianTask()
    sense = NonCartesianSense(maps, points, task.weights(batch["points"][0], SIZE).flatten())
    expected = sense.normal(torch.complex(*image[0])[None])[0]
    torch.testing.assert_close(torch.complex(*found[0]), expected, rtol=0, atol=1e-5)


def test_it_is_its_own_adjoint() -> None:
    operator = operator_of(batch_of())

    def apply(image: Complex) -> Complex:
        planes = torch.view_as_real(image).movedim(-1, 0)[None]
        return torch.complex(*by_matrices(operator, planes)[0])

    assert_adjoint(apply, apply, SIZE, SIZE, dtype=torch.complex64)


def test_in_a_larger_engine_it_is_the_same() -> None:
    """Zeros around maps, kernel and transforms leave the operator as it is."""
    batch = batch_of()
    known = Known(
        "dft_matmul",
        at_hand={role: batch[role] for role in ("image", "maps", "toeplitz")},
        noise=batch["noise"],
    )
    specs = noncartesian_specs()
    given = [known.tensor(spec.name) for spec in specs]
    place = Fit(SIZE, (40, 36))
    image, maps, _, kernel, *transforms = place.surround(specs, given)
    larger = ToeplitzOperator(maps, kernel, (transforms[0], transforms[1]))
    found = by_matrices(larger, image)
    torch.testing.assert_close(
        place.crop(found), by_matrices(operator_of(batch), batch["image"]), rtol=0, atol=1e-6
    )
    assert float(found.square().sum()) == pytest.approx(float(place.crop(found).square().sum()))


def test_samples_fit_the_kernel() -> None:
    """Of a scan without noise, what goes in is ``Aᴴ W A`` of what should come out."""
    batch = batch_of(snr=1e7)
    torch.testing.assert_close(operator_of(batch)(batch["target"]), batch["image"], rtol=0, atol=2e-4)


def test_it_begins_with_the_image_of_conjugate_gradients_and_learns() -> None:
    torch.manual_seed(0)
    batch = batch_of(snr=60)
    network = NonCartesianConfig(channels=4, pools=1, n_cascades=2).build()
    given = network.inputs(batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = (network(*given) - batch["target"]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] < float((batch["image"] - batch["target"]).abs().mean())
    assert losses[-1] < 0.98 * losses[0]


class _Tests(NetworkTests):
    def batch(self, network: Network) -> Batch:
        return batch_of()

    @pytest.mark.slow
    def test_exports(self) -> None:
        super().test_exports()

    def _network(self) -> Network:
        network = super()._network()
        for name, one in network.named_parameters():
            if name.endswith("last.weight"):  # which begin as zeros
                nn.init.normal_(one, std=0.05)
        return network


class TestNonCartesian(_Tests):
    def config(self) -> NetworkConfig:
        rule = ProximalConfig(iterations=2, initial_iterations=3)
        return NonCartesianConfig(channels=4, pools=1, n_cascades=2, memory=2, consistency=rule)


class TestNonCartesianByGradients(_Tests):
    def config(self) -> NetworkConfig:
        return NonCartesianConfig(
            channels=4, pools=1, n_cascades=2, share_weights=True, consistency=GradientConfig()
        )
