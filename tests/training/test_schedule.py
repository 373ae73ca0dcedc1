"""The learning rate over the steps, against torch's own schedules."""

from __future__ import annotations

import pytest
import torch

from scanside_training.config import ScheduleConfig
from scanside_training.schedule import rate_of


def test_cosine_is_that_of_torch() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=9, eta_min=0.1)
    ours = rate_of(ScheduleConfig(final=0.1), 10)
    for step in range(10):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        theirs.step()


def test_warmup_rises_in_a_line_to_the_peak() -> None:
    for kind in ("cosine", "constant"):
        rate = rate_of(ScheduleConfig(kind=kind, warmup_steps=3), 10)
        assert [rate(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_ends() -> None:
    assert rate_of(ScheduleConfig(warmup_steps=5), 100)(99) == pytest.approx(0.0)
    assert rate_of(ScheduleConfig(warmup_steps=5), 100)(250) == pytest.approx(0.0)
    assert rate_of(ScheduleConfig(kind="constant"), 100)(99) == 1.0


def test_warmup_longer_than_the_run_never_exceeds_the_peak() -> None:
    rate = rate_of(ScheduleConfig(warmup_steps=50), 10)
    assert 0 < max(rate(step) for step in range(12)) <= 1.0


def test_by_minutes_it_follows_the_time_that_has_passed() -> None:
    used = 0.0
    rate = rate_of(ScheduleConfig(warmup_steps=2, over="minutes"), 10**6, lambda: used)
    assert [rate(step) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    used = 0.5
    assert rate(7) == pytest.approx(0.5)
    used = 1.2
    assert rate(8) == pytest.approx(0.0)
