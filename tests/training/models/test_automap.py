"""AUTOMAP: how large it is, what it begins with, what it takes and gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scanside.engines.roles import Known
from scanside.errors import ConfigError, ShapeError
from scanside_training.config import load_config
from scanside_training.models import AutomapConfig

CONFIG = Path(__file__).resolve().parents[3] / "training/configs/automap.yaml"


def an_image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def n_weights(**settings: Any) -> int:
    with torch.device("meta"):
        return sum(one.numel() for one in AutomapConfig(**settings).build().parameters())


def test_with_dense_layers_it_is_as_large_as_in_the_paper() -> None:
    n = 128 * 128
    dense = 2 * n * n + n + n * n + n
    assert n_weights(size=(128, 128), separable=False, hidden=1) == pytest.approx(dense, rel=1e-3)
    assert round(dense / 1e6) == 805


def test_separable_layers_fit_into_a_small_bundle() -> None:
    assert 2 * n_weights(size=(128, 128)) < 1e6


@pytest.mark.parametrize("separable", [True, False])
def test_it_may_begin_as_the_fourier_transform(separable: bool) -> None:
    network = AutomapConfig(size=(10, 8), separable=separable, start="fourier").build()
    image = an_image(3, 2, 10, 8)
    kspace = Known("none", at_hand={"image": image}).tensor("kspace")
    with torch.no_grad():
        torch.testing.assert_close(network.dense1(kspace), 0.5 * image, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network.dense2(image), image, rtol=1e-5, atol=1e-6)
        faint = 0.01 * kspace  # tanh bends it by less than 1e-4
        torch.testing.assert_close(network.eval()(faint), 0.01 * image, rtol=1e-3, atol=1e-6)


def test_separable_layers_are_dense_layers_of_fewer_weights() -> None:
    """What a separable layer does of its parts along each axis, a full one does by their Kronecker product."""
    along_k1, along_k0 = (torch.complex(an_image(n, n), an_image(n, n)) for n in (6, 4))
    both = [AutomapConfig(size=(6, 4), separable=one).build().dense1 for one in (True, False)]
    image = an_image(2, 2, 6, 4)
    expected = along_k1 @ torch.complex(*image.unbind(1)) @ along_k0.T
    for layer in both:
        layer.begin_as(along_k1, along_k0)
        with torch.no_grad():
            found = torch.complex(*layer(image).unbind(1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_features_are_given_in_training_only() -> None:
    network = AutomapConfig(size=(10, 8), channels=5).build()
    kspace = an_image(2, 2, 10, 8)
    with torch.no_grad():
        image, others = network.train().split(network(kspace))
        assert others["activations"].shape == (2, 5, 10, 8)
        assert float(others["activations"].min()) >= 0
        torch.testing.assert_close(network.last(others["activations"]), image)
        alone, none = network.eval().split(network(kspace))
    assert not none
    assert torch.equal(alone, image)


def test_of_nothing_it_makes_nothing() -> None:
    network = AutomapConfig(size=(10, 8)).build().eval()
    with torch.no_grad():
        for one in network.parameters():
            one.fill_(0.1)
        assert not bool(network(torch.zeros(1, 2, 10, 8)).any())


def test_kspace_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="takes k-space of 10×8 and no other, got 8×10"):
        AutomapConfig(size=(10, 8)).build()(torch.zeros(1, 2, 8, 10))


@pytest.mark.parametrize("settings", [{"hidden": 3}, {"channels": 3}])
def test_the_fourier_transform_needs_room(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"two planes and at least 4 channels.*or start with 'random'"):
        AutomapConfig(size=(10, 8), start="fourier", **settings)


@pytest.mark.parametrize("data", [{"k1": [64, 96]}, {"k0": [48, 48]}, {"readout_crop": 32}])
def test_data_of_other_sizes_are_told_beforehand(data: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"images of 64x64 and no others, and data\.simulation has .*set its k1 to"
    ):
        load_config(CONFIG, {"data": {"simulation": data}})
