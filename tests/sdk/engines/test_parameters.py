"""Numbers of a scan, as networks are told them."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.engines.parameters import PARAMETERS, Parameter, acceleration_of, normalised


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("acceleration", 6.0, 1.5),
        ("field_strength", 3.0, math.log(2)),
        ("te", 100.0, math.log(2)),
        ("tr", 500.0, -math.log(2)),
        ("ti", 1000.0, 0.0),
        ("flip_angle", 30.0, 1 / 3),
    ],
)
def test_what_goes_in(name: Parameter, value: float, expected: float) -> None:
    found = normalised(name, torch.tensor([value, value], dtype=torch.float64))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([expected, expected], abs=1e-7)


def test_all_have_a_rule() -> None:
    for name in PARAMETERS:
        assert bool(normalised(name, torch.ones(1)).isfinite())


def test_acceleration_counts_lines() -> None:
    mask = torch.zeros(2, 24, 1)
    mask[0, ::3] = 1
    mask[1, ::2] = 1
    assert acceleration_of(mask).tolist() == [3, 2]
    assert acceleration_of(mask > 0).tolist() == [3, 2]
    film = torch.stack((mask[0], mask[0].roll(1, 0)))[None]
    assert acceleration_of(film).tolist() == [3]
    both = mask[:1].expand(-1, -1, 10).clone()
    both[..., ::2] = 0
    assert acceleration_of(both).tolist() == [6]
