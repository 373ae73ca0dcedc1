"""Images as spin-echo sequences weight them, from maps of tissue."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator
from torch import Tensor

from scanside_training.data.settings import FloatRange, Settings
from scanside_training.relaxation import LEAST_MS

__all__ = ["SpinEchoConfig", "random_spin_echo", "spin_echo"]


def _positive(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] <= 0:
        raise ValueError(f"a time is positive, got {bounds}")
    return bounds


Times = Annotated[FloatRange, AfterValidator(_positive)]
"""In ms, (shortest, longest)."""


class SpinEchoConfig(Settings):
    """One contrast: what may be drawn of a spin-echo sequence."""

    te: Times
    """Echo time in ms."""
    tr: Times
    """Repetition time in ms."""


def random_spin_echo(
    sequences: tuple[SpinEchoConfig, ...], tissues: Tensor, rng: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw one of some sequences, and its times.

    Args:
        sequences: drawn with equal weight.
        tissues: ``(3, y, x)``, see `spin_echo`.
        rng: draws it.

    Returns:
        The image ``(y, x)``, and ``te`` and ``tr`` in ms.
    """
    sequence = sequences[int(rng.integers(len(sequences)))]
    te, tr = rng.uniform(*sequence.te), rng.uniform(*sequence.tr)
    told = {name: torch.tensor(value, dtype=torch.float32) for name, value in (("te", te), ("tr", tr))}
    return spin_echo(tissues, te, tr), told


def spin_echo(tissues: Tensor, te: float, tr: float) -> Tensor:
    """Signal of a spin echo, ``PD (1 − exp(−TR / T1)) exp(−TE / T2)``, of TE that is much shorter than TR.

    Args:
        tissues: ``(3, y, x)``, proton density, T1 and T2 in ms.
        te: echo time in ms.
        tr: repetition time in ms.

    Returns:
        ``(y, x)``; 0 where there is nothing.
    """
    density, t1, t2 = tissues.unbind()
    recovered = 1 - torch.exp(-tr / t1.clamp_min(LEAST_MS))
    return density * recovered * torch.exp(-te / t2.clamp_min(LEAST_MS))
