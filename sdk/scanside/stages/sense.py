"""SENSE, by iterations or by columns of the image."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from scanside.items import Calibration, KSpace
from scanside.mrd.meta import Meta
from scanside.recon.acquired import Acquired
from scanside.recon.sense import solve
from scanside.stage import StageConfig
from scanside.stages._columns import Columns
from scanside.stages._finite import check_finite
from scanside.stages._fit_images import FitImages, FitImagesConfig
from scanside.stages._noise_weight import NoiseWeight

__all__ = ["Sense"]


class Sense(FitImages):
    """Solves for the image whose coil views fit the acquired lines, for any undersampling of phase encoding.

    It minimises ‖F S x − y‖² + l2 ‖x‖², with coil maps from an earlier stage: by conjugate gradients, or exactly, by
    columns of the image, where whole readouts of a slice were sampled. Columns are factorised as soon as maps and
    lines are known, which may be before the last line has come, and once for repetitions that have the same (see
    `scanside.recon.columns`). The meta attribute ``SenseSolver`` tells which; of iterations others tell their number
    and the residual, and a solution that has not converged is one with a warning. Where l2 follows the noise,
    ``SenseWeight`` tells it.

    Only what was acquired is fitted: lines that were left out by undersampling or partial Fourier, and samples
    that an asymmetric echo lacks, count as unknown. Of what lies beyond one end of the acquired band the coils alone
    tell little, and the fit has no phase constraint: that part is completed afterwards, by POCS on the k-space
    of the solution as the coils see it.

    Where the maps have a second set (see `coil-maps`), an image of each is solved for together, which is soft SENSE;
    their root sum of squares goes out, with the phase of the first. Where maps do not explain the calibration lines,
    the operator is told, and where; ``ScansideMaps`` says how much they explain.

    Attributes:
        weight: of the Tikhonov term of the latest images.
        factor: what the latest solutions were multiplied by, to give back what the Tikhonov term takes off all of an
            image; it broadcasts against the images.

    Pruessmann et al.: Advances in sensitivity encoding with arbitrary k-space trajectories, Magn Reson Med
    2001;46:638. Uecker et al., Magn Reson Med 2014;71:990.
    """

    class Config(FitImagesConfig):
        """Settings.

        Attributes:
            l2: Tikhonov weight, relative to the largest eigenvalue that the problem can have, 1: what coils and lines
                determine with an eigenvalue λ comes out as λ / (λ + l2) of itself. So 0.002 takes off a fifth of a
                percent where sampling is full and a tenth where λ = 0.02, as at high acceleration; and noise grows
                no further than to 1 / (2 √l2) of its level, elevenfold. In simulated scans (R = 2 to 4 in 2-D and
                2 × 2 in 3-D, noise of 0.5 to 2 % of the tissue's signal) the error was mostly within 3 % of that
                with the best value, at worst 19 % above it; noisier scans gain from more, see `l2_noise`.
            l2_noise: raises `l2` to this / SNR² where that is more, SNR being bright tissue over the noise's standard
                deviation, as told by the lines of a slice: 1 / l2_noise is the energy of its voxels, bright tissue
                being 1. With 10, simulated scans of SNR 5 to 20 were 3 to 6 dB better than with 0.002, and others no
                worse than 0.1 dB. What it takes off all of the image is given back. 0 leaves `l2` as it is.
            solver: ``cg`` iterates. ``columns`` solves exactly, and iterates where that is not possible: slabs,
                asymmetric echoes, and images of more than 383 rows. It pays where maps are known early, or serve
                repetitions; at 256 × 256 it takes up to 134 MB for each slice, 512 MB in all.
            tolerance: residual relative to the right-hand side at which conjugate gradients stop.
            max_iterations: where they stop anyway.
        """

        l2: float = Field(0.002, ge=0)
        l2_noise: float = Field(0.0, ge=0)
        solver: Literal["cg", "columns"] = "cg"
        tolerance: float = Field(1e-4, gt=0, lt=1)
        max_iterations: int = Field(100, ge=1)

        @model_validator(mode="after")
        def _solvable(self) -> Sense.Config:
            if self.solver == "columns" and self.l2 == 0:
                raise ValueError(
                    "solver 'columns' needs l2 > 0: without it there is no solution where no coil sees anything"
                )
            return self

    what = "SENSE"
    config: Config

    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.columns = Columns()
        self.weight = self.config.l2
        self.factor = torch.ones(())
        self._weights = NoiseWeight(self.config.l2, self.config.l2_noise)

    def close(self) -> None:
        """Forget the scan's maps."""
        super().close()
        self._weights.close()
        self.columns.close()

    def begin(self, item: Calibration) -> None:
        """Prepare for the images of a k-space, when the calibration lines are there."""
        if self.config.solver == "columns":
            reference = item.kspace.reference
            self.columns.begin(item, self.config.l2 if reference is None else self._weights.early(reference))

    def solution(self, item: KSpace, data: Acquired) -> torch.Tensor:
        """What fits the acquired lines and no more: ``(*other, z, y, x)``, ``(2, *other, z, y, x)`` of two sets."""
        return self.solved(item, data, item.meta.copy())

    def solved(self, item: KSpace, data: Acquired, meta: Meta) -> torch.Tensor:
        """See `FitImages`."""
        self.weight = self._weights.of(item)
        if self.config.l2_noise:
            meta["SenseWeight"] = f"{self.weight:.3g}"
        solution = self._by_columns(item, data, meta) if self.config.solver == "columns" else None
        if solution is None:
            solution = self._by_iterations(item, data, meta)
        given_back = self.weight != self.config.l2
        self.factor = _factor(solution, data, self.weight) if given_back else torch.ones(())
        return solution * self.factor if given_back else solution

    def _by_columns(self, item: KSpace, data: Acquired, meta: Meta) -> torch.Tensor | None:
        """The images; None where they are not to be had so, which the operator is told."""
        if (why := self.columns.cannot(item)) is not None:
            self._scan.warn(f"SENSE is solved by iterations, not by columns as asked for: {why}")
            return None
        check_finite(data.right, item)
        meta["SenseSolver"] = ["columns"]
        return self.columns.solve(item, data.right, self.weight)

    def _by_iterations(self, item: KSpace, data: Acquired, meta: Meta) -> torch.Tensor:
        """The images by conjugate gradients."""
        result = solve(
            data.operator,
            data.right,
            l2=self.weight,
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        # Conjugate gradients stop at once where the data are no numbers: the residuals tell.
        check_finite(result.residuals, item)
        check_finite(result.solution, item)
        residual = float(result.residuals[-1].max())
        if not bool(result.converged.all()):
            self._scan.warn(
                f"CG-SENSE stopped after {result.iterations} iterations before the residual reached the tolerance "
                f"{self.config.tolerance:g}: raise sense.max_iterations, sense.tolerance or sense.l2"
            )
        meta["SenseSolver"] = ["cg"]
        meta["SenseIterations"] = [str(result.iterations)]
        meta["SenseResidual"] = [f"{residual:.3g}"]
        return result.solution


def _factor(images: torch.Tensor, data: Acquired, weight: float) -> torch.Tensor:
    """Multiples of solutions of ``(Aᴴ A + λ) x = Aᴴ y`` that are nearest to y: λ takes some off everything.

    Args:
        images: x, of each member of `other`.
        data: what was acquired.
        weight: λ.
    """
    explained, energy = (
        (one * images.conj()).real.sum(data.operator.image_dims, keepdim=True) for one in (data.right, images)
    )
    predicted = explained - weight * energy  # ‖A x‖²
    return torch.where(predicted > 0, explained / predicted, 1.0)
