"""What tensors take, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scanside_training.config import read_config
from scanside_training.memory import peak_memory, training_memory

N = 1000


def test_what_is_there_at_one_time() -> None:
    there = torch.ones(N)
    assert peak_memory(lambda: there + 1) == 4 * N
    assert peak_memory(lambda: (there + 1) + 1) == 8 * N
    assert peak_memory(lambda: there.view(10, 100).T) == 0

    def one_after_the_other() -> None:
        last = there
        for _ in range(5):
            last = last + 1

    assert peak_memory(one_after_the_other) == 8 * N


def test_what_gradients_need_counts() -> None:
    weight = torch.ones(N, requires_grad=True)

    def step() -> None:
        (weight.exp().exp().exp()).sum().backward()

    assert peak_memory(step) >= 3 * 4 * N


@pytest.mark.usefixtures("slice_cache", "one_thread")
def test_a_training_step(tiny: dict[str, Any]) -> None:
    small = training_memory(read_config(tiny, "tiny"))
    tiny["model"]["channels"] *= 2
    wide = training_memory(read_config(tiny, "tiny"))
    assert 1.3 < wide / small < 3
