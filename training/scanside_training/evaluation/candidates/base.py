"""What is compared: anything that makes an image of a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from pydantic import Field

from scanside.errors import ConfigError
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem

__all__ = [
    "Candidate",
    "CandidateConfig",
    "Job",
    "Silent",
    "Told",
    "Traceable",
    "image_of",
    "kspace_of",
    "problem_of",
]

Job: TypeAlias = Callable[[], torch.Tensor]
"""Makes the image ``(y, x)`` or film ``(time, y, x)``, real or complex, of any scale; this is what is timed."""


Told: TypeAlias = Mapping[str, Sequence[str]]
"""What an operator is told of an image, by kind: ``fallback``, ``fitness``, ``check``, ``warning``; of settings that
are tuned, ``chosen``."""


class Silent:
    """A candidate that says nothing of its images."""

    told: ClassVar[Told] = {}


class CandidateConfig(Settings):
    """Settings of a candidate."""

    name: str | None = Field(default=None, min_length=1)
    """In tables and pictures; by default made from the other settings."""


class Candidate(Protocol):
    """One of those that are compared."""

    @property
    def n_parameters(self) -> int | None:
        """Trained numbers; None where nothing was trained."""

    @property
    def timed(self) -> bool:
        """Whether the time of its jobs says anything: they do nothing but reconstruct, in this process."""
        ...

    @property
    def facts(self) -> dict[str, str]:
        """What else is worth telling, such as the backend that was chosen."""
        ...

    @property
    def told(self) -> Told:
        """What it says of the image that the last job made."""
        ...

    def job(self, case: Case) -> Job:
        """Prepare the reconstruction of a case.

        Raises:
            ScansideError: this candidate cannot reconstruct such a case; says why.
        """
        ...


@runtime_checkable
class Traceable(Protocol):
    """A candidate through which gradients can be followed."""

    def traced(self, case: Case) -> torch.Tensor:
        """The image of a case, with a trace back to ``case.problem.adjoint``.

        Raises:
            ScansideError: as `Candidate.job`.
        """
        ...


def image_of(channels: torch.Tensor) -> torch.Tensor:
    """``(1 or 2, *time, y, x)`` as real or complex ``(*time, y, x)``."""
    return channels[0] if len(channels) == 1 else torch.complex(channels[0], channels[1])


def problem_of(case: Case) -> Problem:
    """What was acquired.

    Raises:
        ConfigError: the case holds an image only.
    """
    if case.is_film:
        raise ConfigError("the data are films, and this one reconstructs single images")
    if case.problem is None:
        raise ConfigError(
            "the data give images only, without coil maps and mask: choose 'simulation.task.kind: unrolled' for data "
            "that all kinds of reconstructions can use"
        )
    return case.problem


def kspace_of(problem: Problem) -> torch.Tensor:
    """``(coil, k1, k0)``.

    Raises:
        ConfigError: only ``Aᴴ y`` is known.
    """
    if problem.kspace is None:
        raise ConfigError(
            "simulated samples hold Aᴴy, coil maps and mask, but no k-space, which this one needs"
        )
    return problem.kspace
