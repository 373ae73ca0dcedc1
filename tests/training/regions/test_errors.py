"""Errors inside regions, where regions and errors are known."""

from __future__ import annotations

import math

import pytest
import torch

from scanside_training.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from scanside_training.regions import StackClassifier
from scanside_training.regions import errors as errors_module
from scanside_training.regions.errors import errors_in_regions


class Off(EncoderDecoder):
    """Is off by 2 in the left half and by 1 in the right one."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.where(torch.arange(16) < 8, 2.0, 1.0)


def test_inside_and_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two images one has a finding, whose heat covers a corner of the left half."""
    heat = torch.zeros(2, 1, 12, 16)
    heat[:, :, :4, :4] = 0.5
    monkeypatch.setattr(
        errors_module, "heat_maps", lambda classifier, stacks: (torch.tensor([1.0, -1.0]), heat)
    )
    image = torch.ones(2, 1, 12, 16)
    batch = {"image": image, "target": image, "roi": torch.ones(2, 1, 12, 16)}
    batch["roi"][..., 8:] = 0
    batch["roi"][..., 8] = 1
    network = Off(EncoderDecoderConfig(channels=2))
    found = errors_in_regions(network, StackClassifier(2, 1), [batch, batch])
    assert found.n_images == 2
    assert found.inside == pytest.approx(4)
    n_left, n_right = 8 * 12 - 16, 12
    assert found.outside == pytest.approx((4 * n_left + n_right) / (n_left + n_right))


def test_without_findings_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        errors_module,
        "heat_maps",
        lambda classifier, stacks: (torch.tensor([-1.0]), torch.zeros_like(stacks)),
    )
    image = torch.ones(1, 1, 12, 16)
    found = errors_in_regions(
        Off(EncoderDecoderConfig(channels=2)),
        StackClassifier(2, 1),
        [{"image": image, "target": image, "roi": image}],
    )
    assert math.isnan(found.inside)
    assert found.n_images == 0
