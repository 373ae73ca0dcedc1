"""The learning rate over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

from scanside_training.config import ScheduleConfig

__all__ = ["rate_of"]


def rate_of(
    config: ScheduleConfig, n_steps: int, time_used: Callable[[], float] = lambda: 0.0
) -> Callable[[int], float]:
    """The learning rate as a share of its peak, as a function of the optimiser steps already made.

    It rises in a straight line over the warm-up, whose first step is not lost at rate 0, then stays or falls
    with half a period of a cosine that reaches ``final`` with the last step.

    Args:
        config: form of the schedule.
        n_steps: optimiser steps of the whole run.
        time_used: share of the run's minutes that has passed, for a schedule that is laid out by them.
    """
    warmup = min(config.warmup_steps, n_steps)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if config.kind == "constant":
            return 1.0
        passed = time_used() if config.over == "minutes" else (step - warmup) / max(1, n_steps - 1 - warmup)
        passed = min(1.0, passed)
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * passed)) / 2

    return rate
