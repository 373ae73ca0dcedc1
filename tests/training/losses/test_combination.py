"""Sums of terms, regions, precisions, and configurations that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scanside.errors import ConfigError, ShapeError
from scanside_training.losses import LossConfig, build_loss


def config(*terms: dict[str, Any]) -> LossConfig:
    return LossConfig.model_validate({"terms": terms})


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Complex images (2, 2, 12, 10)."""
    generator = torch.Generator().manual_seed(4)
    output, target = torch.randn(2, 2, 2, 12, 10, generator=generator)
    return output, target


def test_weighted_sum(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    kinds = ("l1", "l2", "weighted_l2", "ssim", "edge")
    weights = (1.0, 0.5, 0.25, 3.0, 0.1)
    terms = [{"kind": kind, "weight": weight} for kind, weight in zip(kinds, weights, strict=True)]
    losses = build_loss(config(*terms))(output.requires_grad_(), {"target": target})
    assert list(losses) == [*kinds, "total"]
    alone = [build_loss(config({"kind": kind}))(output, {"target": target})["total"] for kind in kinds]
    assert [float(losses[kind]) for kind in kinds] == pytest.approx([one.item() for one in alone])
    expected = sum(weight * one.item() for weight, one in zip(weights, alone, strict=True))
    assert losses["total"].item() == pytest.approx(expected)
    assert losses["total"].requires_grad
    assert not any(losses[kind].requires_grad for kind in kinds)
    losses["total"].backward()
    assert output.grad is not None
    assert output.grad.abs().min() > 0


def test_only_the_region_counts(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    roi = torch.zeros(2, 1, 12, 10)
    roi[0, :, 2:5, 3:7] = 1
    batch = {"target": target, "roi": roi}
    losses = build_loss(config({"kind": "l2", "within_roi": True}, {"kind": "l2"}))(output, batch)
    squares = (output - target).square().sum(1)
    assert float(losses["l2_roi"]) == pytest.approx(float(squares[0, 2:5, 3:7].mean()))
    assert float(losses["l2"]) == pytest.approx(float(squares.mean()))
    nowhere = {"target": target, "roi": torch.zeros_like(roi)}
    assert float(build_loss(config({"kind": "edge", "within_roi": True}))(output, nowhere)["total"]) == 0


def test_frames_of_films_count_as_images() -> None:
    output, target = torch.randn(2, 2, 2, 3, 12, 10, generator=torch.Generator().manual_seed(4))
    roi = torch.zeros(2, 1, 12, 10)
    roi[0, :, 2:9, 1:9] = 1
    roi[1, :, 1:7, 3:8] = 1
    loss = build_loss(config({"kind": "l1"}, {"kind": "ssim"}, {"kind": "l2", "within_roi": True}))
    together = loss(output, {"target": target, "roi": roi})
    apart = [loss(output[:, :, t], {"target": target[:, :, t], "roi": roi}) for t in range(3)]
    for name, value in together.items():
        assert float(value) == pytest.approx(sum(float(one[name]) for one in apart) / 3, rel=1e-5)


def test_half_precision_is_raised(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    loss = build_loss(config({"kind": "ssim"}, {"kind": "edge"}))
    lowered = output.bfloat16()
    expected = loss(lowered.float(), {"target": target})["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(lowered, {"target": target})["total"]
    assert found.dtype == torch.float32
    assert float(found) == float(expected)


def test_shapes_must_agree(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    loss = build_loss(LossConfig())
    with pytest.raises(ShapeError, match=r"\(2, 2, 12, 10\).*\(2, 1, 12, 10\)"):  # would be broadcast
        loss(output, {"target": target[:, :1]})
    with pytest.raises(ShapeError, match="1 or 2"):
        loss(output.repeat(1, 2, 1, 1), {"target": target.repeat(1, 2, 1, 1)})
    regional = build_loss(config({"kind": "l1", "within_roi": True}))
    with pytest.raises(ConfigError, match=r"no 'roi', only target.*within_roi: false"):
        regional(output, {"target": target})
    with pytest.raises(ShapeError, match="'roi'"):
        regional(output, {"target": target, "roi": torch.ones(2, 12, 10)})


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "at least 1"),
        (
            [{"kind": "l3"}],
            "there is no term of a loss 'l3': known are: activations, adversarial, .*l1, l2",
        ),
        ([{"kind": "l1", "wieght": 2}], "wieght"),
        ([{"kind": "l1", "weight": 0}], "greater than 0"),
        ([{"kind": "l1", "weight": float("nan")}], "finite|greater"),
        ([{"kind": "ssim"}, {"kind": "ssim"}], "more than once: ssim"),
        ([{"kind": "weighted_l2", "map": {"source": "centre", "extent": [0, 1]}}], "greater than 0"),
        ([{"kind": "weighted_l2", "map": {"source": "centre", "factor": -1}}], "greater than 0"),
    ],
)
def test_configurations_that_cannot_work(terms: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(*terms)


def test_configuration_survives_json() -> None:
    terms = (
        {"kind": "l1", "of": "channels"},
        {"kind": "weighted_l2", "map": {"source": "file", "path": "m"}},
    )
    before = config(*terms, {"kind": "edge", "within_roi": True})
    assert LossConfig.model_validate(before.model_dump(mode="json")) == before
