"""Perturbs cases, has every candidate reconstruct them, and measures what became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scanside.errors import ConfigError
from scanside.many.work import reason
from scanside.scratch import ScratchFolder
from scanside_training.evaluation.candidates.base import Candidate
from scanside_training.evaluation.candidates.pipeline import ReplayedPipeline
from scanside_training.evaluation.case import Case, Cases, Recorded, spread
from scanside_training.evaluation.failures import UNUSABLE, Failure
from scanside_training.evaluation.measured import scan_of, written
from scanside_training.evaluation.perturbation.config import PerturbationConfig
from scanside_training.evaluation.perturbation.detectability import area_under_roc, d_prime
from scanside_training.evaluation.perturbation.responses import Measured, Reading, measured, replica_shifts
from scanside_training.evaluation.perturbation.structures import Added, StructuresConfig, added_to
from scanside_training.evaluation.perturbation.summary import Row, rows_of
from scanside_training.evaluation.perturbation.worst_case import Adversary, Worst, bound_of, region_of
from scanside_training.evaluation.problem import Problem

logger = logging.getLogger(__name__)

__all__ = ["Attacked", "Perturbed", "Response", "ShownResponse", "ShownWorst", "n_units", "perturb"]

_NOT_TRACEABLE = "no gradient goes through it: random changes alone"


@dataclass(frozen=True)
class Response:
    """What a candidate made of one structure in one case.

    Attributes:
        candidate: which.
        case: name of the case.
        diameter: of the structure, in the unit of the configuration.
        contrast: of it.
        y: of its centre.
        x: of its centre.
        measured: what became of it in the scan as it is.
        detectability: d′ over realisations of noise; None where none were asked for.
        auc: area under the ROC curve, likewise.
    """

    candidate: str
    case: str
    diameter: float
    contrast: float
    y: float
    x: float
    measured: Measured
    detectability: float | None
    auc: float | None


@dataclass(frozen=True)
class Attacked:
    """The worst changes of one case that were found for a candidate.

    Attributes:
        candidate: which.
        case: name of the case.
        random: largest amplification of the random changes.
        worst: largest one of those found by ascent; None where no gradient goes through the candidate.
        starts: amplification that each start ended with.
        reference_there: CG-SENSE's amplification of the same change.
        reference_worst: CG-SENSE's amplification of the worst change for CG-SENSE.
        note: why there is no worst change.
    """

    candidate: str
    case: str
    random: float
    worst: float | None
    starts: tuple[float, ...]
    reference_there: float
    reference_worst: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class ShownResponse:
    """Structures of one place and contrast, and the responses to them.

    Attributes:
        case: name of the case.
        added: the structures, by diameter.
        responses: of each candidate, by diameter: what of the change is in phase with its image.
    """

    case: str
    added: Mapping[float, Added]
    responses: dict[str, dict[float, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ShownWorst:
    """The worst change of a case for a candidate, or the worst random one."""

    case: str
    candidate: str
    worst: Worst


@dataclass
class Perturbed:
    """What came out.

    Attributes:
        config: what was asked for.
        cases: names of the cases that were perturbed.
        responses: of every candidate to every structure.
        attacked: of every candidate and case.
        failures: what could not be done, and why.
        shown: structures of the first case, for pictures.
        shown_worst: worst changes of the first case, for pictures.
    """

    config: PerturbationConfig
    cases: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    attacked: list[Attacked] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    shown: list[ShownResponse] = field(default_factory=list)
    shown_worst: list[ShownWorst] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Means by candidate, diameter and contrast."""
        return rows_of((one.candidate, one.diameter, one.contrast, _figures(one)) for one in self.responses)

    def as_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            "config": self.config.model_dump(mode="json"),
            "cases": self.cases,
            "structures": [asdict(one) for one in self.rows],
            "responses": [asdict(one) for one in self.responses],
            "worst_case": [asdict(one) for one in self.attacked],
        }


def n_units(config: PerturbationConfig, n_cases: int, n_candidates: int) -> int:
    """How often progress is told: for every structure, and every worst case."""
    structures = config.structures
    n = 0 if config.worst_case is None else 1
    if structures is not None:
        n_places = structures.places if isinstance(structures.places, int) else len(structures.places)
        n += n_places * len(structures.diameters) * len(structures.contrasts)
    return n * n_candidates * min(config.cases, n_cases)


def perturb(
    config: PerturbationConfig,
    cases: Cases,
    candidates: Mapping[str, Candidate],
    *,
    on_unit: Callable[[], None] = lambda: None,
) -> Perturbed:
    """Perturb some cases.

    A candidate that fails is listed with the reason and does not stop the others.

    Args:
        config: what is done.
        cases: of the data.
        candidates: by name.
        on_unit: called after every structure of every candidate, and after every worst case.

    Raises:
        ConfigError: the data are films or hold images only, a structure or region does not lie in the object, or no
            candidate can reconstruct what was perturbed.
    """
    result = Perturbed(config)
    chosen = sorted(spread(len(cases), config.cases))
    for number in chosen:  # what cannot be perturbed is told before hours of work
        _check(config, cases[number])
    for number in chosen:
        case = cases[number]
        problem = _problem_of(case)
        result.cases.append(case.name)
        with ScratchFolder("scanside-perturbation-") as folder:
            scan = _Perturbable(case, problem, candidates, folder / "scan.h5")
            if config.structures is not None:
                _add(result, scan, config.structures, number, on_unit)
            if config.worst_case is not None:
                _attack(result, scan, number, on_unit)
    if not result.responses and not result.attacked:
        reasons = "; ".join(f"{one.candidate}: {one.reason}" for one in result.failures)
        raise ConfigError(
            f"no candidate takes perturbed k-space, so that there is nothing to tell: {reasons}"
        )
    return result


def _check(config: PerturbationConfig, case: Case) -> None:
    problem = _problem_of(case)
    if config.structures is not None:
        added_to(case, problem, config.structures)
        if config.structures.realisations and not float(problem.noise) > 0:
            raise ConfigError(
                f"{case.name} has no noise, without which detectability says nothing: set realisations to 0"
            )
    if config.worst_case is not None:
        region_of(case, config.worst_case)
        bound_of(case, problem, config.worst_case)


def _problem_of(case: Case) -> Problem:
    if case.problem is None:
        what = "is a film" if case.is_film else "is an image without coil maps and mask"
        raise ConfigError(
            f"perturbations are put into k-space, and {case.name} {what}, so that no candidate takes k-space of it: "
            "evaluate measured scans, or simulated ones of 'simulation.task.kind: unrolled'"
        )
    return case.problem


class _Perturbable:
    """A case that candidates reconstruct with changes.

    Args:
        case: of the data.
        problem: of it.
        candidates: by name.
        path: where a perturbed scan is written for those that read files.
    """

    def __init__(self, case: Case, problem: Problem, candidates: Mapping[str, Candidate], path: Path) -> None:
        self.case, self.problem, self.candidates = case, problem, candidates
        self._path = path
        self._n_written = 0

    def image(self, name: str, problem: Problem) -> torch.Tensor:
        """A candidate's image ``(y, x)`` of a changed scan."""
        recorded = None
        candidate = self.candidates[name]
        if isinstance(candidate, ReplayedPipeline) and problem.kspace is not None:
            # A new name each time: what was made of the last file is kept by that.
            self._n_written += 1
            path = self._path.with_stem(f"scan-{self._n_written}")
            written(scan_of(problem.kspace, float(problem.noise)), path)
            recorded = Recorded(path, problem.mask.numpy(), 0, 0)
        try:
            return candidate.job(replace(self.case, problem=problem, recorded=recorded))().detach().cpu()
        finally:
            if recorded is not None:
                recorded.path.unlink()

    def reading(self, image: torch.Tensor) -> Reading:
        """How a candidate's changes are read, from its image without any."""
        return Reading.of(image, self.case.inside, self.case.roi)


def _add(
    result: Perturbed,
    scan: _Perturbable,
    config: StructuresConfig,
    number: int,
    on_unit: Callable[[], None],
) -> None:
    """Structures in one case, by all candidates."""
    problem = scan.problem
    structures = added_to(scan.case, problem, config)
    samples = [problem.samples_of(one.image) for one in structures]
    shifts = replica_shifts(problem.mask)
    noisy = _noisy(problem, config.realisations, result.config.seed, number)
    shown = _to_show(scan.case.name, structures) if not result.shown else None
    if shown is not None:
        result.shown.append(shown)
    for name in scan.candidates:
        try:
            without = scan.image(name, problem)
            reading = scan.reading(without)
            absent = [scan.image(name, one) for one in noisy]
            for added, heard in zip(structures, samples, strict=True):
                change = reading.change(scan.image(name, problem.plus(heard)), without)
                seen = reading.seen(change)
                template = added.profile * (1 if added.amplitude > 0 else -1)
                values = [[reading.value(one, template) for one in absent], []]
                values[1] = [reading.value(scan.image(name, one.plus(heard)), template) for one in noisy]
                structure = added.structure
                result.responses.append(
                    Response(
                        candidate=name,
                        case=scan.case.name,
                        **asdict(structure),
                        measured=measured(change, seen, added, shifts),
                        detectability=d_prime(values[1], values[0]) if noisy else None,
                        auc=area_under_roc(values[1], values[0]) if noisy else None,
                    )
                )
                if shown is not None and shown.added.get(structure.diameter) is added:
                    shown.responses.setdefault(name, {})[structure.diameter] = seen
                on_unit()
        except UNUSABLE as error:
            logger.debug("%s, %s", name, scan.case.name, exc_info=True)
            result.failures.append(Failure(name, (scan.case.name,), f"structures: {reason(error)}"))


def _noisy(problem: Problem, n: int, seed: int, number: int) -> list[Problem]:
    """The scan with more noise of its own level, again and again: its noise is known to be the larger for it.

    Pseudo-replicas: Robson et al., MRM 60:895-907 (2008).
    """
    generator = torch.Generator().manual_seed(_seed_of(seed, number))
    found = []
    for _ in range(n):
        noise = (
            torch.view_as_complex(torch.randn((*problem.maps.shape, 2), generator=generator)) * problem.noise
        )
        found.append(replace(problem.plus(noise), noise=problem.noise * 2**0.5))
    return found


def _seed_of(seed: int, number: int) -> int:
    """A seed of its own for each case."""
    return 1_000_003 * seed + number


def _to_show(case: str, structures: Sequence[Added]) -> ShownResponse:
    """All diameters at the first place, with the largest contrast."""
    first = structures[0].structure
    here = [one for one in structures if (one.structure.y, one.structure.x) == (first.y, first.x)]
    contrast = max((one.structure.contrast for one in here), key=abs)
    return ShownResponse(
        case, {one.structure.diameter: one for one in here if one.structure.contrast == contrast}
    )


def _attack(result: Perturbed, scan: _Perturbable, number: int, on_unit: Callable[[], None]) -> None:
    """Worst changes of one case, for all candidates."""
    assert result.config.worst_case is not None
    seed = _seed_of(result.config.seed, number)
    adversary = Adversary(scan.case, scan.problem, result.config.worst_case, seed)
    for name, candidate in scan.candidates.items():
        try:
            worst = adversary.attack(candidate, partial(scan.image, name))
        except UNUSABLE as error:
            logger.debug("%s, %s", name, scan.case.name, exc_info=True)
            result.failures.append(Failure(name, (scan.case.name,), f"worst case: {reason(error)}"))
            continue
        result.attacked.append(
            Attacked(
                candidate=name,
                case=scan.case.name,
                random=worst.random,
                worst=max(worst.found, default=None),
                starts=worst.found,
                reference_there=worst.reference_there,
                reference_worst=adversary.reference_worst,
                note="" if worst.found else _NOT_TRACEABLE,
            )
        )
        if scan.case.name == result.cases[0]:
            result.shown_worst.append(ShownWorst(scan.case.name, name, worst))
        on_unit()


def _figures(one: Response) -> dict[str, float | None]:
    figures: dict[str, float | None] = asdict(one.measured)
    return figures | {"detectability": one.detectability, "auc": one.auc}
