"""What a search tries: a grid, or settings drawn at random, all trained to the end or halved on the way."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside_training.data.settings import FloatRange, IntRange, Settings

__all__ = ["Distribution", "HalvingConfig", "Metric", "SearchConfig", "set_at", "trial_name"]

Metric = Literal[
    "loss", "psnr", "ssim", "nmse", "mse", "psnr_inside", "ssim_inside", "nmse_inside", "mse_inside"
]
"""Figures of a run's validations."""


class Distribution(Settings):
    """What a setting is drawn from: one of the four. Numbers are rounded to four digits."""

    uniform: FloatRange | None = None
    """(lowest, highest)."""
    log_uniform: FloatRange | None = None
    """(lowest, highest), both above 0: the logarithm is uniform."""
    choice: tuple[Any, ...] | None = Field(default=None, min_length=1)
    """Values of any kind, each as likely as the others."""
    integers: IntRange | None = None
    """(lowest, highest), both included."""

    @model_validator(mode="after")
    def _one(self) -> Distribution:
        if len(self.model_fields_set) != 1:
            raise ValueError(
                f"give one of {', '.join(type(self).model_fields)}; there are "
                f"{' and '.join(sorted(self.model_fields_set)) or 'none'}"
            )
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform is between numbers above 0, got {list(self.log_uniform)}")
        return self

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        if self.choice is not None:
            return self.choice[int(rng.integers(len(self.choice)))]
        if self.integers is not None:
            return int(rng.integers(self.integers[0], self.integers[1] + 1))
        if self.log_uniform is not None:
            return float(f"{np.exp(rng.uniform(*np.log(self.log_uniform))):.4g}")
        assert self.uniform is not None
        return float(f"{rng.uniform(*self.uniform):.4g}")


class HalvingConfig(Settings):
    """Asynchronous successive halving: of the trials that reach a rung the best share goes on to the next.

    Li et al., *A system for massively parallel hyperparameter tuning*, MLSys (2020; ASHA, first published in 2018).
    """

    max_steps: int = Field(ge=1)
    """Steps of a whole training, in place of the base's; learning rates are laid out over them."""
    grace: int = Field(ge=1)
    """Steps of the first rung, which every trial makes."""
    reduction: int = Field(default=3, ge=2)
    """Each rung has so many times the steps of the one before, and one of so many trials gets there."""

    @model_validator(mode="after")
    def _rungs(self) -> HalvingConfig:
        if self.grace >= self.max_steps:
            raise ValueError(
                f"grace {self.grace} is not below max_steps {self.max_steps}: no trial would be stopped early"
            )
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps of each rung; the last one is the whole training."""
        made, step = [], self.grace
        while step < self.max_steps:
            made.append(step)
            step *= self.reduction
        return (*made, self.max_steps)


class SearchConfig(Settings):
    """Settings by their dotted paths, such as ``model.channels`` or ``loss.terms.0.weight``: every combination of a
    grid, or some that are drawn. Trials are judged by the last validation; the test is never looked at.
    """

    grid: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] | None = None
    """Values of each setting."""
    random: dict[str, Distribution] | None = None
    """Distribution of each setting."""
    samples: int | None = Field(default=None, ge=1)
    """Trials that are drawn; more of them later begin with the same ones."""
    seed: int = Field(default=0, ge=0)
    """Of what is drawn."""
    metric: Metric = "psnr"
    """Figure of the validation that counts; ``loss`` compares nothing where the loss itself is varied."""
    asha: HalvingConfig | None = None
    """Stop trials early that are behind; by default all are trained to the end."""

    @model_validator(mode="after")
    def _one_kind(self) -> SearchConfig:
        if bool(self.grid) == bool(self.random):
            raise ValueError("give settings once: as 'grid' or as 'random'")
        if (self.samples is None) == bool(self.random):
            raise ValueError("'samples' goes with 'random': a grid has all its combinations")
        if self.asha is not None:
            n_trials, least = len(self.trials()), self.asha.reduction ** (len(self.asha.rungs) - 1)
            if n_trials < least:
                raise ValueError(
                    f"of {n_trials} trials none would reach max_steps: {len(self.asha.rungs)} rungs "
                    f"({', '.join(map(str, self.asha.rungs))} steps) that keep one of {self.asha.reduction} need "
                    f"{least}: try more, or raise asha.grace"
                )
        return self

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return self.metric.startswith(("loss", "mse", "nmse"))

    @property
    def paths(self) -> tuple[str, ...]:
        """The settings."""
        return tuple(self.grid or self.random or ())

    def trials(self) -> list[dict[str, Any]]:
        """The settings of each trial by path; what comes twice is there once."""
        if self.grid is not None:
            every = [
                dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
            ]
        else:
            assert self.random is not None
            draws = [np.random.default_rng([self.seed, number]) for number in range(self.samples or 0)]
            every = [{path: one.draw(rng) for path, one in self.random.items()} for rng in draws]
        return list({trial_name(settings): settings for settings in every}.values())


def trial_name(settings: Mapping[str, Any]) -> str:
    """A name that hangs on a trial's settings alone, so that a search with more trials finds those it has."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return f"trial-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def set_at(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A document with one setting replaced.

    Args:
        document: nested settings.
        path: names, and numbers of entries of lists, with dots between.
        value: the new one.

    Raises:
        ConfigError: the path leads through what has no settings, or to an entry that a list does not have.
    """
    made: dict[str, Any] = _set(document, path.split("."), value, path)
    return made


def _set(below: Any, names: Sequence[str], value: Any, path: str) -> Any:
    if not names:
        return value
    name, *rest = names
    if isinstance(below, list | tuple):
        if not name.isdecimal() or int(name) >= len(below):
            raise ConfigError(
                f"search: '{path}' asks for '{name}' of a list of {len(below)}, whose entries are numbered from 0"
            )
        index = int(name)
        return [*below[:index], _set(below[index], rest, value, path), *below[index + 1 :]]
    if below is not None and not isinstance(below, Mapping):
        raise ConfigError(f"search: '{path}' asks for '{name}' of {below!r}, which has no settings")
    there = dict(below or {})
    return {**there, name: _set(there.get(name), rest, value, path)}
