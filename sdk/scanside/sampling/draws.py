"""Draws that give the same on any machine.

NumPy promises the raw numbers of a bit generator for ever, and no method of `numpy.random.Generator` beyond them.
`choose` and `draw_whole` take `Generator.random` alone, 53 bits of the next raw number, and go on in whole numbers,
so that a seed gives the same mask whatever the NumPy and the processor. `draw_lines` is older and keeps its draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Mask", "choose", "draw_lines", "draw_whole", "generator"]

Mask: TypeAlias = npt.NDArray[np.bool_]

_TICKETS = 2**24
"""Of the place with the largest weight. All tickets of a mask stay below 2^53, where floating point is exact."""


def generator(seed: int | Sequence[int]) -> np.random.Generator:
    """The generator of a seed, PCG64 by name, as NumPy's default may become another one."""
    return np.random.Generator(np.random.PCG64(seed))


def draw_whole(n: int, rng: np.random.Generator) -> int:
    """One of 0 to ``n - 1``, each with equal weight."""
    return int(rng.random() * n)


def choose(weight: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> Mask:
    """Draw places one after the other, each once, with a probability in proportion to the weights that are left.

    Args:
        weight: of any shape, not negative; zero for what cannot be drawn.
        count: how many; at most as many as have a weight.
        rng: draws them.

    Returns:
        Of the shape of the weights, True at `count` places.
    """
    tickets = np.rint(weight.ravel() / weight.max() * _TICKETS).astype(np.int64)
    tickets[(tickets == 0) & (weight.ravel() > 0)] = 1
    chosen = np.zeros(weight.size, bool)
    while missing := count - int(chosen.sum()):
        # A place that is drawn again counts once, as if it had been drawn from the others.
        ends = np.cumsum(tickets)
        drawn = np.floor(rng.random(missing) * ends[-1]).astype(np.int64)
        places = np.searchsorted(ends, drawn, side="right")
        chosen[places] = True
        tickets[places] = 0
    return chosen.reshape(weight.shape)


def draw_lines(mask: Mask, weight: npt.NDArray[Any], count: int, rng: np.random.Generator) -> None:
    """Add `count` lines to a mask, each drawn once with a probability in proportion to its weight.

    The simulator's and the trainers' first patterns draw like this, by `Generator.choice`.

    Args:
        mask: of any shape; lines that it has are not drawn.
        weight: of the same shape; zero for what cannot be acquired.
        count: how many lines to add.
        rng: draws them.
    """
    left = np.where(mask, 0, weight).ravel()
    if count:
        mask.ravel()[rng.choice(left.size, size=count, replace=False, p=left / left.sum())] = True
