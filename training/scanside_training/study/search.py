"""Searches settings: trains trials one after the other, and goes on where it was interrupted.

All that a decision hangs on lies in the folders of the runs, so that an interrupted search makes its decisions again,
and trains only what is missing.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from scanside.errors import ConfigError, RunError, ScansideError
from scanside_training.config import TrainConfig, merged, read_config
from scanside_training.record import read_record
from scanside_training.study.config import StudyConfig
from scanside_training.study.halving import Halving
from scanside_training.study.search_config import SearchConfig, set_at, trial_name
from scanside_training.study.training import check_settings, time_left, trained

logger = logging.getLogger(__name__)

__all__ = ["Search", "Trial", "run_search", "shown"]


@dataclass
class Trial:
    """One combination of settings, and how it did.

    Attributes:
        name: of its run, and of its folder.
        settings: by path.
        config: of its training.
        folder: of its run.
        values: metric of the validation by the step of each rung that it reached.
        seconds: of its training.
        failure: why it could not be trained; None where it could.
    """

    name: str
    settings: dict[str, Any]
    config: TrainConfig
    folder: Path
    values: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str | None = None

    @property
    def steps(self) -> int:
        """How far it was trained; 0 where that failed."""
        return max(self.values, default=0)

    @property
    def value(self) -> float:
        """Metric at the last rung."""
        return self.values[self.steps] if self.values else math.nan


@dataclass
class Search:
    """What came of a search.

    Attributes:
        study: what was asked for.
        trials: all of them, the best first: those that were trained longer, and of these the better ones.
        best: training configuration of the best trial.
    """

    study: StudyConfig
    trials: list[Trial]
    best: TrainConfig

    @property
    def config(self) -> SearchConfig:
        """What was searched."""
        assert self.study.search is not None
        return self.study.search


def run_search(
    study: StudyConfig,
    base: dict[str, Any],
    folder: Path,
    *,
    console: Console | None = None,
    on_step: Callable[[str], None] = lambda step: None,  # noqa: ARG005
) -> Search:
    """Train all trials as far as they shall go.

    A trial that fails is reported, and the others go on.

    Args:
        study: with a search.
        base: the training configuration, as it stands in its file.
        folder: of the study; finished runs in it are kept, interrupted ones gone on with.
        console: where trainings draw their progress.
        on_step: told what is about to happen.

    Raises:
        ConfigError: settings of a trial are wrong, a run in the folder was made with others, the base cannot be
            stopped early, or its validations do not have the metric.
        RunError: no trial could be trained; the text is that of the first.
    """
    search = study.search
    assert search is not None
    trials = [_trial(study, search, base, settings, folder) for settings in search.trials()]
    for trial in trials:
        check_settings(trial.config, trial.folder)
    # Without rungs a trial counts as one step, whatever its training has.
    asha = search.asha
    halving = (
        Halving(len(trials), (1,), 2) if asha is None else Halving(len(trials), asha.rungs, asha.reduction)
    )
    done = 0
    while (job := halving.next()) is not None:
        number, rung = job
        trial = trials[number]
        until = None if asha is None else asha.rungs[rung]
        left = time_left(sum(one.seconds for one in trials), done, halving.n_steps - done)
        to = "" if until is None else f", to step {until}"
        on_step(f"trial {number + 1} of {len(trials)}{to}: {trial.name} ({shown(trial.settings)}){left}")
        try:
            step, figures = _trained_to(until, trial, console)
        except (ScansideError, OSError, RuntimeError) as error:
            logger.warning("%s was not trained: %s", trial.name, error)
            trial.failure = str(error) or type(error).__name__
        else:
            if search.metric not in figures:
                raise ConfigError(
                    f"search '{study.name}': validations have no {search.metric}; they have {', '.join(figures)}"
                )
            trial.values[step] = figures[search.metric]
        halving.tell(number, rung, _goodness(trial, search))
        done += halving.steps(rung)
    order = sorted(trials, key=lambda one: _rank(one, search))
    if _goodness(order[0], search) == -math.inf:
        raise RunError(
            f"no trial of '{study.name}' could be trained: {trials[0].failure or 'no finite figure'}"
        )
    best = _config(study, search, base, order[0].settings, f"{study.name}-best")
    return Search(study, order, best)


def shown(settings: dict[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{path} {value}" for path, value in settings.items())


def _config(
    study: StudyConfig, search: SearchConfig, base: dict[str, Any], settings: dict[str, Any], name: str
) -> TrainConfig:
    document = merged(base, study.settings)
    for path, value in settings.items():
        document = set_at(document, path, value)
    document |= {"name": name, "seed": study.seeds[0]}
    if search.asha is not None:
        document |= {"max_steps": search.asha.max_steps, "max_epochs": None}
    return read_config(document, f"search '{study.name}', trial with {shown(settings)}")


def _trial(
    study: StudyConfig, search: SearchConfig, base: dict[str, Any], settings: dict[str, Any], folder: Path
) -> Trial:
    name = trial_name(settings)
    config = _config(study, search, base, settings, name)
    if search.asha is not None:
        if config.max_minutes is not None or config.validation.patience is not None:
            raise ConfigError(
                f"search '{study.name}': asha says by steps how long a trial trains, and the base may end it "
                "earlier: set max_minutes and validation.patience to null in 'settings'"
            )
        # Each rung ends in a validation, which writes the checkpoint that the next one begins with.
        validation = config.validation.model_copy(update={"every_steps": search.asha.grace})
        config = config.model_copy(update={"validation": validation})
    return Trial(name, settings, config, folder / "runs" / name)


def _trained_to(until: int | None, trial: Trial, console: Console | None) -> tuple[int, dict[str, float]]:
    """Train a trial to a step, or to its end, unless it has been there: the step, and its validation's figures."""
    logged = {} if until is None else _logged(trial.folder / "metrics.csv", until)
    if until is not None and logged:
        before = read_record(trial.folder)
        trial.seconds = trial.seconds if before is None else before.seconds
        return until, logged
    record = trained(trial.config, trial.folder, console, until=until)
    trial.seconds = record.seconds
    return record.steps, record.validation


def _logged(log: Path, step: int) -> dict[str, float]:
    """The validation's figures that a run logged at a step; empty where it has none."""
    if not log.is_file():
        return {}
    with log.open(newline="", encoding="utf-8") as file:
        return {
            name.partition("/")[2]: float(value)
            for row in csv.DictReader(file)
            if int(row["step"]) == step
            for name, value in row.items()
            if name.startswith("validation/") and value
        }


def _goodness(trial: Trial, search: SearchConfig) -> float:
    """Higher is better; minus infinity where there is no finite figure."""
    if trial.failure is not None or not math.isfinite(trial.value):
        return -math.inf
    return -trial.value if search.lower_is_better else trial.value


def _rank(trial: Trial, search: SearchConfig) -> tuple[float, ...]:
    """Sorts trials: those that failed last; where some were stopped early, those that were not first."""
    goodness = _goodness(trial, search)
    return (goodness == -math.inf, -trial.steps if search.asha is not None else 0, -goodness)
