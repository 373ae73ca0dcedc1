"""The penalty on features."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ConfigError
from scanside_training.losses import Loss, LossConfig, build_loss

IMAGE = torch.zeros(2, 2, 6, 4)


@pytest.fixture
def loss() -> Loss:
    return build_loss(LossConfig.model_validate({"terms": [{"kind": "activations", "weight": 0.5}]}))


def test_it_is_their_mean_magnitude(loss: Loss) -> None:
    features = torch.full((2, 3, 6, 4), -2.0)
    features[0] = 1
    found = loss(IMAGE, {"target": IMAGE, "activations": features})
    assert float(found["activations"]) == pytest.approx((2 + 1) / 2)
    assert float(found["total"]) == pytest.approx(0.75)


def test_a_validation_looks_at_images_only(loss: Loss) -> None:
    assert float(loss.eval()(IMAGE, {"target": IMAGE})["total"]) == 0


def test_a_network_without_features_is_told(loss: Loss) -> None:
    with pytest.raises(ConfigError, match="such as 'automap', and this one does not: leave the term out"):
        loss(IMAGE, {"target": IMAGE})
