"""Small changes of the acquired samples that change an image most.

A change δ with ``‖δ‖₂ ≤ ε · (norm of the noise)`` is looked for by projected gradient ascent from random starts. Of
a learned candidate it is to change the image inside a region by more than CG-SENSE's image changes with the same δ:
ascent is on ``‖Δ‖² − ‖Δ_CG‖²``. Of classical candidates it is on ``‖Δ‖²``, and finds the largest singular value of
a linear one. The *amplification* of a change is ``‖Δ‖₂ / ‖δ‖₂``.

Antun et al., PNAS 117:30088-30095 (2020); Madry et al., *Towards deep learning models resistant to adversarial
attacks*, ICLR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from scanside.errors import ConfigError
from scanside.metrics import Mask
from scanside_training.evaluation.candidates.base import Candidate, Traceable
from scanside_training.evaluation.candidates.classical import CgSense, Classical
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.perturbation.config import WorstCaseConfig
from scanside_training.evaluation.perturbation.responses import Pixels, Reading
from scanside_training.evaluation.problem import Problem

__all__ = ["Adversary", "Worst", "bound_of", "region_of"]

Imaging = Callable[[Problem], torch.Tensor]
"""Makes a candidate's image of a perturbed scan."""


@dataclass(frozen=True, eq=False)
class Worst:
    """The change that was found for a candidate.

    Attributes:
        random: amplification of random changes, the largest of all starts.
        found: the same of the changes that ascent ended with, for each start; none where the candidate cannot be
            differentiated.
        reference_there: CG-SENSE's amplification of the worst of these changes, else of the worst random one.
        change: of the image by that change, ``(y, x)`` on the scale of the reference.
        reference_change: of CG-SENSE's image by it.
        image: ``(y, x)`` with that change.
    """

    random: float
    found: tuple[float, ...]
    reference_there: float
    change: Pixels
    reference_change: Pixels
    image: torch.Tensor


class Adversary:
    """Looks for the worst changes of one case.

    Args:
        case: with a problem.
        problem: of the case.
        config: how far to go, and where.
        seed: of the starts.

    Raises:
        ConfigError: the region does not lie in the object, or the scan has no noise.

    Attributes:
        bound: norm of all changes.
        reference_worst: amplification of the worst change that was found for CG-SENSE.
    """

    def __init__(self, case: Case, problem: Problem, config: WorstCaseConfig, seed: int) -> None:
        self._case, self._problem, self._config = case, problem, config
        self._region = region_of(case, config)
        self._weights = torch.from_numpy(self._region)
        self.bound = bound_of(case, problem, config)
        generator = torch.Generator().manual_seed(seed)
        shape = (*problem.maps.shape, 2)
        draws = (torch.randn(shape, generator=generator) for _ in range(config.restarts))
        self._starts = [
            self._projected(torch.view_as_complex(draw) * problem.mask[:, None]) for draw in draws
        ]
        self._reference = CgSense(l2=config.l2, iterations=config.iterations)
        self._reference_image = self._reference.traced(replace(case, problem=problem))
        self._reading = Reading.of(self._reference_image, case.inside, case.roi)
        own = [self._ascend(self._reference, start, beyond=False) for start in self._starts]
        self.reference_worst = max(self._of_reference(one)[0] for one in own)

    def attack(self, candidate: Candidate, imaging: Imaging) -> Worst:
        """Random changes, and the worst ones that are found.

        What is found is measured on images that the candidate makes as always.

        Args:
            candidate: whose images they are.
            imaging: makes them.

        Raises:
            ScansideError: it cannot reconstruct the case.
        """
        without = imaging(self._problem)
        reading = Reading.of(without, self._case.inside, self._case.roi)

        def tried(change: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
            image = imaging(self._problem.plus(change))
            return self._amplification(reading.change(image, without), change), image, change

        random = [tried(start) for start in self._starts]
        found = []
        if isinstance(candidate, Traceable):
            beyond = not isinstance(candidate, Classical)
            found = [tried(self._ascend(candidate, start, beyond=beyond)) for start in self._starts]
        _, image, change = max(found or random, key=lambda one: one[0])
        there, reference_change = self._of_reference(change)
        return Worst(
            random=max(one[0] for one in random),
            found=tuple(one[0] for one in found),
            reference_there=there,
            change=reading.change(image, without),
            reference_change=reference_change,
            image=image.detach().cpu(),
        )

    def _ascend(self, candidate: Traceable, change: torch.Tensor, *, beyond: bool) -> torch.Tensor:
        """What a start becomes by steps uphill, each of which is kept if it leads higher, and halved if not."""
        without = candidate.traced(self._with(self._problem.adjoint)).detach()
        gain = Reading.of(without, self._case.inside, self._case.roi).gain

        def objective(adjoint: torch.Tensor) -> torch.Tensor:
            case = self._with(adjoint)
            power = self._power(candidate.traced(case) - without) / gain**2
            if beyond:
                reference = self._reference.traced(case) - self._reference_image
                power = power - self._power(reference) / self._reading.gain**2
            return power

        best, step, uphill, tried = -np.inf, self._config.step, torch.zeros_like(change), change
        for _ in range(self._config.steps + 1):
            adjoint = (self._problem.adjoint + self._problem.image_of(tried)).requires_grad_()
            reached = objective(adjoint)
            if float(reached.detach()) > best:
                best, change = float(reached.detach()), tried
                uphill = self._problem.samples_of(torch.autograd.grad(reached, adjoint)[0])
            else:
                step /= 2
            length = float(torch.linalg.vector_norm(uphill))
            if not length:
                break
            tried = self._projected(change + step * self.bound / length * uphill)
        return change

    def _with(self, adjoint: torch.Tensor) -> Case:
        """The case with another ``Aᴴ y``, and without k-space, which would not be that of it."""
        return replace(self._case, problem=replace(self._problem, adjoint=adjoint, kspace=None))

    def _projected(self, change: torch.Tensor) -> torch.Tensor:
        """As long as the bound: no shorter change does more in a linear method, and all are comparable so."""
        projected: torch.Tensor = change * (self.bound / torch.linalg.vector_norm(change))
        return projected

    def _power(self, change: torch.Tensor) -> torch.Tensor:
        power: torch.Tensor = change[self._weights].abs().square().sum()
        return power

    def _amplification(self, change: Pixels, samples: torch.Tensor) -> float:
        return float(np.linalg.norm(change[self._region]) / torch.linalg.vector_norm(samples))

    def _of_reference(self, samples: torch.Tensor) -> tuple[float, Pixels]:
        """Amplification and change of CG-SENSE's image by a change of samples."""
        image = self._reference.traced(self._with(self._problem.plus(samples).adjoint))
        change = self._reading.change(image, self._reference_image)
        return self._amplification(change, samples), change


def bound_of(case: Case, problem: Problem, config: WorstCaseConfig) -> float:
    """Norm of the changes of a case.

    Raises:
        ConfigError: the scan has no noise.
    """
    n_samples = len(problem.maps) * int(problem.mask.sum()) * problem.maps.shape[-1]
    bound = config.epsilon * float(problem.noise) * math.sqrt(2 * n_samples)
    if not bound > 0:
        raise ConfigError(f"{case.name} has no noise, to which the bound of changes is relative")
    return bound


def region_of(case: Case, config: WorstCaseConfig) -> Mask:
    """Where changes of an image count, ``(y, x)``.

    Raises:
        ConfigError: the region does not lie in the object.
    """
    if config.region is None:
        return case.roi
    y, x, diameter = config.region
    n1, n0 = case.roi.shape
    rows, columns = np.ogrid[:n1, :n0]
    region: Mask = (rows - y) ** 2 + (columns - x) ** 2 <= (diameter / 2) ** 2
    if not (0 <= y < n1 and 0 <= x < n0) or not bool((region & case.roi).any()):
        raise ConfigError(
            f"worst_case.region at ({y:g}, {x:g}) of {diameter:g} pixels does not lie in the object of {case.name}, "
            f"whose image has {n1} × {n0} pixels (y, x)"
        )
    return region
