"""Classical reconstructions of films."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from scanside.errors import ConfigError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.low_rank_sparse import largest_singular_value, low_rank_plus_sparse
from scanside.recon.scaling import film_scale
from scanside.recon.sense import SenseOperator
from scanside.recon.view_sharing import share_views
from scanside_training.evaluation.candidates.base import Job
from scanside_training.evaluation.candidates.classical import Classical
from scanside_training.evaluation.case import Case

__all__ = ["LowRankSparseFilm", "ViewSharing"]


class ViewSharing(Classical):
    """Lines that a frame lacks come from the frames nearest in time. For scans with one coil."""

    kind: Literal["view-sharing"] = "view-sharing"

    @property
    def label(self) -> str:
        """Name where none is given."""
        return "view sharing"

    def open(self) -> ViewSharing:
        """The candidate."""
        return self

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        film, maps, mask = _scan(case)
        if len(maps) > 1:
            raise ConfigError(
                f"simulated samples hold Aᴴy, not the k-space of {len(maps)} coils, which view sharing needs: "
                "set simulation.coils.n_coils to [1, 1]"
            )
        kspace = mask[:, None, :, None] * to_kspace(maps * film[:, None], (-2,))

        def run() -> torch.Tensor:
            filled, _ = share_views(kspace[:, :, None], mask[:, None])
            return (maps.conj() * to_image(filled[:, :, 0], (-2,)))[:, 0]

        return run


class LowRankSparseFilm(Classical):
    """Low-rank plus sparse: see `scanside.recon.low_rank_sparse`; settings are those of the stage."""

    kind: Literal["low-rank-sparse"] = "low-rank-sparse"
    low_rank: float = Field(default=0.01, ge=0)
    """Relative to the largest singular value of the zero-filled film."""
    sparse: float = Field(default=0.01, ge=0)
    """Relative to the brightness of the zero-filled film."""
    tolerance: float = Field(default=2e-3, gt=0, lt=1)
    iterations: int = Field(default=100, ge=1)
    """Most of them."""

    @property
    def label(self) -> str:
        """Name where none is given."""
        return "low-rank plus sparse"

    def open(self) -> LowRankSparseFilm:
        """The candidate."""
        return self

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        film, maps, mask = _scan(case)
        operator = SenseOperator(maps[None, :, None], mask[:, None])

        def run() -> torch.Tensor:
            return low_rank_plus_sparse(
                operator.normal,
                film[:, None],
                low_rank=self.low_rank * largest_singular_value(film),
                sparse=self.sparse * float(film_scale(film)),
                tolerance=self.tolerance,
                max_iterations=self.iterations,
            ).film[:, 0]

        return run


def _scan(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``Aᴴ y`` ``(time, k1, k0)``, maps ``(coil, k1, k0)`` and mask ``(time, k1)``.

    Raises:
        ConfigError: the case is no film.
    """
    if not case.is_film:
        raise ConfigError("the data are single images, and this one reconstructs films")
    sample = case.sample
    film = torch.complex(*sample["image"])
    maps = torch.complex(*sample["maps"].unbind(1))
    return film, maps, sample["mask"][..., 0] > 0
