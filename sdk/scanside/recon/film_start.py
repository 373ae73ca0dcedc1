"""The film that a network begins with, where it does not begin with the acquired lines alone.

Training, the engine stage, evaluations and the probes of the gate all make it here, from what each of them has at
hand, so that a network is given what it was trained with.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from scanside.recon.low_rank_sparse import largest_singular_value, low_rank_plus_sparse
from scanside.recon.scaling import film_scale
from scanside.recon.sense import SenseOperator

__all__ = ["STARTS", "Start", "film_start"]

Start = Literal["low_rank_sparse"]
"""Name of the input, which says how it is made: low rank plus sparse, of few iterations and no tolerance."""

STARTS: tuple[Start, ...] = get_args(Start)

_ITERATIONS = 20
_LOW_RANK, _SPARSE = 0.01, 0.01


def film_start(image: torch.Tensor, maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Low rank plus sparse in a fixed number of iterations: the time that it takes is that of every scan.

    With their momentum, twenty come as near to the truth as all that it takes to converge.

    Args:
        image: ``(time, k1, k0)`` complex ``Aᴴ y``; the film has its scale.
        maps: ``(coil, k1, k0)`` complex.
        mask: ``(time, k1)``, which lines were acquired, the centre of k-space at ``k1 // 2``.

    Returns:
        ``(time, k1, k0)`` complex; zeros where there are no data.
    """
    film = image[:, None]
    operator = SenseOperator(maps[None, :, None], mask[:, None] > 0)
    return low_rank_plus_sparse(
        operator.normal,
        film,
        low_rank=_LOW_RANK * largest_singular_value(film),
        sparse=_SPARSE * float(film_scale(image)),
        tolerance=0.0,
        max_iterations=_ITERATIONS,
    ).film[:, 0]
