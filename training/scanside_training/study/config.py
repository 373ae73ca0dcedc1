"""The configuration of a study: one training configuration, what is varied in it, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scanside_training.config import TrainConfig, load_config, merged, read_config, read_settings, read_yaml
from scanside_training.data.settings import Settings
from scanside_training.evaluation.candidates import AnyCandidate
from scanside_training.evaluation.config import SpeedConfig
from scanside_training.study.folds import of_fold
from scanside_training.study.search_config import SearchConfig

__all__ = ["Comparison", "Planned", "SimilarityConfig", "StudyConfig", "Variation", "load_study"]

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

FULL = "full"
"""The variation of an ablation that has all parts."""


class Variation(Settings):
    """One network, trained once with each seed."""

    name: _Name
    labels: dict[str, str | int | float] = Field(default_factory=dict)
    """What tells it from the others: a column of the table each."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Replace those of the base."""
    seeds: tuple[int, ...] = ()
    """By default those of the study."""
    teacher: str | None = None
    """Another variation, listed before, whose first network this one learns from (``distillation.teacher``)."""
    initial: str | None = None
    """Another variation, listed before, with whose first network's weights this one begins (``initial``)."""
    run: Path | None = None
    """Folder of a run that is there already; nothing is trained then."""


class Comparison(Settings):
    """Which variation should be better than which."""

    variation: str
    against: str


class SimilarityConfig(Settings):
    """Linear CKA of all blocks of a teacher with those of students, on the images of the test."""

    teacher: str
    students: tuple[str, ...] = Field(min_length=1)
    batch_size: int = Field(default=10, ge=4)


class StudyConfig(Settings):
    """``scanside study`` reads it from a YAML file."""

    name: _Name
    """Title of the report; the folder is ``studies/<name>`` unless told otherwise."""
    base: Path
    """Training configuration, relative to the study's file."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Replace those of the base in all variations."""
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    folds: Annotated[int, Field(ge=2)] | Literal["leave-one-out"] | None = None
    """Cross-validation: all is trained once for each fold of the base's split (``folds`` or ``leave_out``), and each
    subject is tested by the networks that were trained without it. As many as that split has."""
    variations: tuple[Variation, ...] = ()
    ablation: dict[_Name, dict[str, Any]] | None = None
    """Instead of variations: parts of the network or its training, each with the settings that take it out. What is
    compared is the ``full`` one with one ``without-`` each."""
    search: SearchConfig | None = None
    """Instead of variations: settings that are searched for, judged by the validation."""
    candidates: tuple[AnyCandidate, ...] = ()
    """What else is compared, such as classical reconstructions."""
    part: Literal["test", "validation"] = "test"
    """Part of the base's data on which all are compared."""
    samples: int = Field(default=30, ge=1)
    """Images of it, or of each fold of it, spread evenly over its slices."""
    speed: SpeedConfig | None = SpeedConfig()
    """Times one image with each network; ``reference`` names a variation."""
    pictures: int = Field(default=3, ge=0)
    worst: int = Field(default=5, ge=0)
    """The worst images of each network that the report of its evaluation shows."""
    comparisons: tuple[Comparison, ...] = ()
    similarity: SimilarityConfig | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StudyConfig:
        given = [
            name for name in ("variations", "ablation", "search") if getattr(self, name) not in ((), {}, None)
        ]
        if len(given) != 1:
            raise ValueError(
                f"give one of variations, ablation and search; there {'are' if given else 'is'} "
                f"{' and '.join(given) or 'none'}"
            )
        if self.search is not None:
            unused = sorted(self.model_fields_set - {"name", "base", "settings", "seeds", "search"})
            if unused:
                raise ValueError(
                    "a search is judged by the validation and compares nothing, so that it has no "
                    f"{', '.join(unused)}"
                )
            if len(self.seeds) > 1:
                raise ValueError("a search trains each trial with one seed: give one in 'seeds'")
        return self

    @model_validator(mode="after")
    def _ablation_is_variations(self) -> StudyConfig:
        if self.ablation:
            without = {part: f"without-{part}" for part in self.ablation}
            variations = [Variation(name=FULL, labels={"left out": "nothing"})]
            variations += [
                Variation(name=without[part], labels={"left out": part}, settings=settings)
                for part, settings in self.ablation.items()
            ]
            comparisons = [Comparison(variation=FULL, against=name) for name in without.values()]
            # Frozen, but not yet given away.
            object.__setattr__(self, "variations", tuple(variations))
            object.__setattr__(self, "comparisons", (*comparisons, *self.comparisons))
        return self

    @model_validator(mode="after")
    def _folds_keep_apart(self) -> StudyConfig:
        there = [one.name for one in self.variations if one.run is not None]
        if self.folds is not None and there:
            raise ValueError(
                f"{', '.join(there)}: a finished run was trained on one split, and the study has folds: its figures "
                "would be those of subjects that it has seen"
            )
        if self.folds is not None and self.part != "test":
            raise ValueError(
                "folds are of the test: leave 'part' out (a fold's validation is drawn from its training part)"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> StudyConfig:
        names = [one.name for one in self.variations]
        others = [one.name or one.label for one in self.candidates]
        if clash := sorted(
            {name for name in others if name in [*names, "zero-filled"] or others.count(name) > 1}
        ):
            raise ValueError(
                f"candidates whose names are taken: {', '.join(clash)}; give each a 'name' of its own"
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"variations of the same name: {', '.join(twice)}")
        for place, one in enumerate(self.variations):
            for what in ("teacher", "initial"):
                parent = getattr(one, what)
                if parent is not None and parent not in names[:place]:
                    raise ValueError(
                        f"{what} of '{one.name}' is '{parent}', and no variation before has that name"
                    )
            if one.run is not None and (one.settings or one.seeds or one.teacher or one.initial):
                raise ValueError(
                    f"'{one.name}' is a finished run: it takes no settings, seeds, teacher or initial"
                )
        asked = [name for pair in self.comparisons for name in (pair.variation, pair.against)]
        if self.similarity is not None:
            asked += [self.similarity.teacher, *self.similarity.students]
        if self.speed is not None and self.speed.reference is not None:
            asked.append(self.speed.reference)
        if unknown := sorted(set(asked) - set(names)):
            raise ValueError(f"there is no variation {', '.join(unknown)}; there are {', '.join(names)}")
        return self

    def first_run(self, name: str, runs: Path, fold: int | None) -> Path:
        """Folder of the first network of a variation of a fold, where those of the study are in `runs`."""
        variation = next(one for one in self.variations if one.name == name)
        return variation.run or runs / _run_name(name, (variation.seeds or self.seeds)[0], fold)


class Planned:
    """One network of a study.

    Attributes:
        variation: what it is an example of.
        seed: of its training; None where it was trained before.
        fold: which is its test; None where there is one split.
        name: of its run, and of its folder.
        measured: in tables: over folds all networks of one seed have one name.
        folder: of its run.
        config: of its training; None where it was trained before.
    """

    def __init__(
        self,
        study: StudyConfig,
        base: Mapping[str, Any],
        variation: Variation,
        seed: int,
        runs: Path,
        fold: int | None = None,
    ):
        self.variation = variation
        self.seed = None if variation.run else seed
        self.fold = fold
        self.name = variation.name if variation.run else _run_name(variation.name, seed, fold)
        self.measured = variation.name if variation.run else _run_name(variation.name, seed, None)
        self.folder = variation.run or runs / self.name
        self.config: TrainConfig | None = None
        if variation.run is None:
            document = merged(merged(base, study.settings), variation.settings)
            document |= {"name": self.name, "seed": seed}
            if variation.teacher is not None:
                teacher = study.first_run(variation.teacher, runs, fold)
                document = merged(document, {"distillation": {"teacher": str(teacher)}})
            if variation.initial is not None:
                document["initial"] = str(study.first_run(variation.initial, runs, fold))
            config = read_config(document, f"study '{study.name}', variation '{variation.name}'")
            self.config = (
                config if fold is None else config.model_copy(update={"data": of_fold(config.data, fold)})
            )


def _run_name(variation: str, seed: int, fold: int | None) -> str:
    return f"{variation}-seed{seed}" + ("" if fold is None else f"-fold{fold}")


def load_study(
    path: Path, settings: Mapping[str, Any] | None = None
) -> tuple[StudyConfig, dict[str, Any], TrainConfig]:
    """Read a study's file and its base.

    Args:
        path: a YAML file.
        settings: nested settings that replace those of the file.

    Returns:
        The study, the base as it stands in its file, and the base as it is understood.

    Raises:
        ConfigError: no such file, not YAML, or a setting is unknown, missing or wrong.
    """
    document = read_yaml(path, settings, "configuration of a study")
    study = read_settings(StudyConfig, document, str(path), "the configuration of a study")
    base = path.parent / study.base
    return study, read_yaml(base, None, "training configuration"), load_config(base, study.settings)
