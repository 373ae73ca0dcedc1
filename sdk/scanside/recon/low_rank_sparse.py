"""A film as the sum of a background that changes slowly and of motion that is sparse in temporal frequency.

Otazo, Candès, Sodickson: *Low-rank plus sparse matrix decomposition for accelerated dynamic MRI with separation of
background and dynamic components*, MRM 73:1125-1136 (2015). The steps are accelerated as in Beck, Teboulle: *A fast
iterative shrinkage-thresholding algorithm for linear inverse problems*, SIAM J Imaging Sci 2:183-202 (2009), which
Lin, Fessler, IEEE Trans Comput Imaging 5:17-31 (2019), do for this problem, and gather momentum anew where it leads
uphill: O'Donoghue, Candès: *Adaptive restart for accelerated gradient schemes*, Found Comput Math 15:715-732 (2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from scanside.recon.soft_threshold import soft_threshold_

__all__ = [
    "LowRankSparse",
    "largest_singular_value",
    "low_rank_plus_sparse",
    "shrink_singular_values",
    "shrink_temporal_frequencies",
]

_STEP = 0.5
"""The gradient with respect to both parts together grows twice as fast as that with respect to one of them."""


@dataclass(frozen=True)
class LowRankSparse:
    """A film in two parts.

    Attributes:
        low_rank: ``(time, *)`` the background.
        sparse: ``(time, *)`` what moves.
        rank: of the background.
        changes: ``(iterations)``, ``|x − x before| / |x|`` of the film x in every iteration.
        converged: whether the last of them reached the tolerance.
    """

    low_rank: torch.Tensor
    sparse: torch.Tensor
    rank: int
    changes: torch.Tensor
    converged: bool

    @property
    def film(self) -> torch.Tensor:
        """Both parts together ``(time, *)``."""
        return self.low_rank + self.sparse

    @property
    def iterations(self) -> int:
        """How many iterations were done."""
        return len(self.changes)


def low_rank_plus_sparse(
    normal: Callable[[torch.Tensor], torch.Tensor],
    rhs: torch.Tensor,
    *,
    low_rank: float,
    sparse: float,
    tolerance: float,
    max_iterations: int,
) -> LowRankSparse:
    """Minimise ``½ |A (L + S) − y|² + low_rank |L|₍*₎ + sparse |T S|₁``, T the orthonormal transform along time.

    Args:
        normal: ``Aᴴ A``, with no eigenvalue above 1.
        rhs: ``Aᴴ y``, ``(time, *)`` complex.
        low_rank: weight of the sum of the singular values of L as a matrix (time, voxel).
        sparse: weight of the sum of the magnitudes of T S.
        tolerance: stop when the film changes by less than this part of itself.
        max_iterations: stop then at the latest.

    Returns:
        Both parts, and how they were reached.
    """
    background, motion = rhs.clone(), torch.zeros_like(rhs)
    at_background, at_motion = background, motion
    momentum = 1.0
    rank, changes = 0, []
    for _ in range(max_iterations):
        downhill = normal(at_background + at_motion).sub_(rhs).mul_(-_STEP)
        new_background, rank = shrink_singular_values(at_background + downhill, _STEP * low_rank)
        new_motion = shrink_temporal_frequencies(downhill.add_(at_motion), _STEP * sparse)
        moves = new_background - background, new_motion - motion
        change, size = _norm(moves[0] + moves[1]), _norm(new_background + new_motion)
        changes.append(change / size if size > 0 else 0.0)
        # Uphill: the way from where the step was taken to its end turns against the last move.
        turned = _inner(at_background, moves[0]) - _inner(new_background, moves[0])
        turned += _inner(at_motion, moves[1]) - _inner(new_motion, moves[1])
        if turned > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        push = (momentum - 1) / following
        background, motion, momentum = new_background, new_motion, following
        at_background = torch.add(background, moves[0], alpha=push)
        at_motion = torch.add(motion, moves[1], alpha=push)
        if not changes[-1] > tolerance:
            break
    history = torch.tensor(changes)
    return LowRankSparse(background, motion, rank, history, bool(history[-1] <= tolerance))


def _inner(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(torch.view_as_real(a).flatten(), torch.view_as_real(b).flatten()))


def _norm(film: torch.Tensor) -> float:
    # As real numbers: norms of complex ones are computed twenty times as slowly.
    return float(torch.linalg.vector_norm(torch.view_as_real(film)))


def largest_singular_value(film: torch.Tensor) -> float:
    """Of a film ``(time, *)`` as a matrix (time, voxel)."""
    squares, _ = _gram(film.flatten(1))
    return float(squares[-1].clamp(min=0).sqrt())


def _gram(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares of the singular values of a matrix of few rows, ascending, and what belongs to them on the left."""
    # In double precision, as the eigenvalues are squares.
    squares, vectors = torch.linalg.eigh((matrix @ matrix.mH).to(torch.complex128))
    return squares, vectors


def shrink_singular_values(film: torch.Tensor, threshold: float) -> tuple[torch.Tensor, int]:
    """The film ``(time, *)`` with singular values smaller by a threshold, those below it zero; and its rank.

    Cai, Candès, Shen, SIAM J Optim 20:1956-1982 (2010). Few frames have many voxels, so singular values come from
    the eigenvalues of the small matrix (time, time).
    """
    matrix = film.flatten(1)
    squares, vectors = _gram(matrix)
    values = squares.clamp(min=0).sqrt()
    kept = values > threshold
    gain = torch.where(kept, 1 - threshold / values.clamp(min=torch.finfo(torch.float64).tiny), 0)
    projection = (vectors * gain) @ vectors.mH
    return (projection.to(matrix.dtype) @ matrix).reshape(film.shape), int(kept.sum())


def shrink_temporal_frequencies(film: torch.Tensor, threshold: float) -> torch.Tensor:
    """The film ``(time, *)`` with its temporal frequencies smaller by a threshold, those below it zero."""
    # A product with the small matrix of the transform leaves the film as it lies in memory, which FFTs do not.
    transform = _transform(len(film), film)
    spectrum = transform @ film.flatten(1)
    soft_threshold_(spectrum, threshold)
    return (transform.mH @ spectrum).reshape(film.shape)


def _transform(n: int, like: torch.Tensor) -> torch.Tensor:
    """The orthonormal Fourier transform of n samples as a matrix."""
    unit = torch.eye(n, dtype=torch.complex128, device=like.device)
    matrix: torch.Tensor = torch.fft.fft(unit, norm="ortho")
    return matrix.to(like.dtype)
