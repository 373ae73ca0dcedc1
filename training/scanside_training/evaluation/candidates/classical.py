"""Classical reconstructions from `scanside.recon`."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside.recon import grappa
from scanside.recon.combine import combine_with_maps
from scanside.recon.compressed_sensing.pics import Penalties, image_wavelet, pics
from scanside.recon.fourier import to_image
from scanside.recon.scaling import image_scale
from scanside.recon.wavelet import WaveletName
from scanside_training.evaluation.candidates.base import CandidateConfig, Job, Told, kspace_of, problem_of
from scanside_training.evaluation.case import Case

__all__ = ["CgSense", "Classical", "GrappaFill", "SparseSense", "ZeroFilled", "line_distance"]


class Classical(CandidateConfig):
    """Opens as a candidate of itself: there is nothing to load."""

    _timed: ClassVar[bool] = True

    @property
    def n_parameters(self) -> None:
        """Nothing was trained."""

    @property
    def timed(self) -> bool:
        """Whether jobs do all that there is to do."""
        return self._timed

    @property
    def facts(self) -> dict[str, str]:
        """Nothing else."""
        return {}

    @property
    def told(self) -> Told:
        """Nothing."""
        return {}


class ZeroFilled(Classical):
    """``Aᴴ y``: missing lines are zero, coils are combined with their maps; or the image that networks get."""

    kind: Literal["zero-filled"] = "zero-filled"
    _timed = False  # the image is part of the problem

    @property
    def label(self) -> str:
        """Name where none is given."""
        return "zero-filled"

    def open(self) -> ZeroFilled:
        """The candidate."""
        return self

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        if case.problem is None:
            image = case.sample["image"]
            return lambda: torch.linalg.vector_norm(image, dim=0)
        adjoint = case.problem.adjoint
        return lambda: adjoint

    def traced(self, case: Case) -> torch.Tensor:
        """See `Traceable`."""
        return problem_of(case).adjoint


class CgSense(Classical):
    """CG-SENSE with a Tikhonov weight."""

    kind: Literal["cg-sense"] = "cg-sense"
    l2: float = Field(default=0.002, ge=0)
    """Relative to the largest eigenvalue of ``Aᴴ A``."""
    iterations: int = Field(default=50, ge=1)
    """Most steps of conjugate gradients."""

    @property
    def label(self) -> str:
        """Name where none is given."""
        return "CG-SENSE"

    def open(self) -> CgSense:
        """The candidate."""
        return self

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        problem = problem_of(case)
        return lambda: problem.cg_sense(self.l2, self.iterations)

    def traced(self, case: Case) -> torch.Tensor:
        """See `Traceable`."""
        return problem_of(case).cg_sense(self.l2, self.iterations)


class SparseSense(Classical):
    """Compressed sensing: an L1 norm of wavelet coefficients, total variation, or both."""

    kind: Literal["pics"] = "pics"
    wavelet: float = Field(default=0.002, ge=0)
    """Weight of wavelet coefficients, relative to the brightness of ``Aᴴ y``, as that of the stage ``pics``."""
    tv: float = Field(default=0.0, ge=0)
    """Weight of total variation, likewise."""
    family: WaveletName = "db2"
    """Which wavelet."""
    shifts: Literal[1, 2, 4, 8] = 4
    """Of how many shifted transforms the mean is taken."""
    tolerance: float = Field(default=2e-3, gt=0, lt=1)
    """Change of the image at which it stops."""
    iterations: int = Field(default=100, ge=1)
    """Most steps."""

    @model_validator(mode="after")
    def _sparse(self) -> SparseSense:
        if not self.wavelet and not self.tv:
            raise ValueError("pics needs a weight, and wavelet and tv are 0: this is cg-sense")
        return self

    @property
    def label(self) -> str:
        """Name where none is given."""
        named = {"L1-wavelet": self.wavelet, "TV": self.tv}
        return " + ".join(name for name, weight in named.items() if weight)

    def open(self) -> SparseSense:
        """The candidate."""
        return self

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        problem = problem_of(case)
        scale = float(image_scale(problem.adjoint))
        penalties = Penalties(self.wavelet * scale, self.tv * scale)

        def run() -> torch.Tensor:
            wavelet = image_wavelet((1, *problem.adjoint.shape), self.family) if self.wavelet else None
            result = pics(
                problem.normal,
                problem.adjoint[None],
                penalties,
                wavelet=wavelet,
                shifts=self.shifts,
                tolerance=self.tolerance,
                max_iterations=self.iterations,
            )
            return result.solution[0]

        return run


class GrappaFill(Classical):
    """GRAPPA, and the coils combined with the same maps that the others get; for equispaced lines."""

    kind: Literal["grappa"] = "grappa"
    regularisation: float = Field(default=5e-4, ge=0)

    @property
    def label(self) -> str:
        """Name where none is given."""
        return "GRAPPA"

    def open(self) -> GrappaFill:
        """The candidate."""
        return self

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        problem = problem_of(case)
        kspace = kspace_of(problem)[:, None]
        mask = problem.mask[None]
        acceleration = (line_distance(problem.mask), 1)
        maps = problem.maps[:, None]

        def run() -> torch.Tensor:
            block = grappa.calibration_block(kspace, mask, acceleration)
            weights = grappa.calibrate(block, acceleration, regularisation=self.regularisation)
            filled = grappa.apply(weights, kspace, mask)
            return combine_with_maps(to_image(filled, (-2, -1)), maps)[0]

        return run


def line_distance(mask: torch.Tensor) -> int:
    """The distance of the lines outside the calibration lines.

    Raises:
        ConfigError: they are not equispaced, or all there.
    """
    lines = mask.nonzero().flatten()
    gaps = Counter(int(gap) for gap in lines.diff() if gap > 1)
    if not gaps:
        raise ConfigError("there is no missing line between the acquired ones: GRAPPA has nothing to fill")
    distance, count = gaps.most_common(1)[0]
    # Where lines of the lattice meet the calibration lines, a gap may be shorter.
    if any(gap > distance for gap in gaps) or sum(gaps.values()) - count > 2:
        raise ConfigError(
            f"GRAPPA needs equispaced lines, and the distances between these are {dict(sorted(gaps.items()))}"
        )
    return distance
