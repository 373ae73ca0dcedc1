"""The one configuration of a training run, and how it is read from YAML."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scanside.errors import ConfigError
from scanside.stage import describe_settings
from scanside.texts import shown
from scanside_training.data import DataConfig
from scanside_training.data.simulation import possible_sizes
from scanside_training.distillation import DistillationConfig
from scanside_training.losses import LossConfig
from scanside_training.models import NetworkConfig
from scanside_training.plugins import PluginSettings

__all__ = [
    "OptimiserConfig",
    "ScheduleConfig",
    "TeachingConfig",
    "TrainConfig",
    "ValidationConfig",
    "load_config",
    "merged",
    "read_config",
    "read_settings",
    "read_yaml",
]

AnySettings = TypeVar("AnySettings", bound=BaseModel)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=describe_settings)


class OptimiserConfig(_Settings):
    """AdamW (Loshchilov & Hutter, *Decoupled weight decay regularization*, ICLR 2019), or Adam without decay.

    Attributes:
        kind: ``adamw`` or ``adam``.
        lr: peak learning rate.
        weight_decay: decoupled decay per step, relative to the learning rate; biases are decayed too.
        betas: decay of the running means of gradient and squared gradient.
    """

    kind: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)

    @model_validator(mode="after")
    def _decay_needs_adamw(self) -> OptimiserConfig:
        if self.kind == "adam" and self.weight_decay:
            raise ValueError("'adam' has no weight decay: use 'adamw', or leave weight_decay out")
        return self


class ScheduleConfig(_Settings):
    """The learning rate over the steps of the run.

    Attributes:
        kind: ``cosine`` falls from the peak to ``final`` at the run's last step (Loshchilov & Hutter, *SGDR*,
            ICLR 2017); ``constant`` stays at the peak.
        warmup_steps: steps over which the rate first rises in a straight line.
        final: rate at the end of the cosine, as a share of the peak.
        over: what the cosine is laid out by: the run's steps, or its ``max_minutes``, so that networks of different
            speed can be compared that were trained for the same time. By minutes, a run is not repeatable exactly.
    """

    kind: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    final: float = Field(0.0, ge=0, le=1)
    over: Literal["steps", "minutes"] = "steps"


class ValidationConfig(_Settings):
    """When the network is looked at, and how closely.

    Attributes:
        every_steps: optimiser steps between two validations; each also writes weights and checkpoint.
        images: samples, from the first on, that are shown as pictures.
        patience: the run ends after so many validations in a row without a lower loss, and its weights are those of
            the lowest, which may be those it began with; by default all steps are made, and the last weights kept.
    """

    every_steps: int = Field(500, ge=1)
    images: int = Field(4, ge=0)
    patience: int | None = Field(None, ge=1)


class TeachingConfig(DistillationConfig):
    """Distillation from a finished run.

    Attributes:
        teacher: folder of the run that trained the teacher.
    """

    teacher: Path


class TrainConfig(_Settings):
    """A training run: ``scanside train`` reads it from a YAML file.

    Attributes:
        name: short name; the run's folder is ``runs/<name>`` unless told otherwise.
        model: the network, chosen by ``kind``.
        loss: what is minimised.
        data: where slices come from and how training pairs are made of them.
        optimiser: how weights follow gradients.
        schedule: the learning rate over the steps.
        max_steps: optimiser steps of the whole run; the cosine ends there.
        max_epochs: the same, in passes through the training set; give one of the two.
        max_minutes: stop earlier where this time has passed, over all resumed parts of the run.
        precision: ``32-true``; ``bf16-mixed`` (CPU with AMX, CUDA); ``16-mixed`` (CUDA).
        gradient_clip: largest norm of the whole gradient; longer ones are shortened to it.
        accumulate: batches per optimiser step.
        ema_decay: decay per step of the moving average of the weights, which is what is validated and kept.
        seed: of the initial weights, the order of the data and all that is drawn at random, generated individuals
            included. ``data.seed``, where it is given, holds for the data instead.
        accelerator: ``auto`` takes CUDA where there is a device.
        devices: CUDA devices, or processes on the CPU, of each node; the batch of the data's settings is each
            device's own.
        nodes: machines that train together.
        validation: when and how closely the network is looked at.
        log_every_steps: optimiser steps between two rows of the training loss.
        weight_changes: tell how far each layer's weights and biases move: ``weights.csv`` in the run's folder, and
            their histograms before and after in TensorBoard.
        distillation: learn from a trained teacher too.
        initial: folder of a finished run, or of a bundle, whose weights this one begins with.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: NetworkConfig
    loss: LossConfig
    data: DataConfig
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    max_steps: int | None = Field(None, ge=1)
    max_epochs: int | None = Field(None, ge=1)
    max_minutes: float | None = Field(None, gt=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_clip: float | None = Field(None, gt=0)
    accumulate: int = Field(1, ge=1)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    seed: int = Field(0, ge=0)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    validation: ValidationConfig = ValidationConfig()
    log_every_steps: int = Field(20, ge=1)
    weight_changes: bool = False
    distillation: TeachingConfig | None = None
    initial: Path | None = None

    @model_validator(mode="after")
    def _seed_reaches_data(self) -> TrainConfig:
        object.__setattr__(self, "data", self.data.of_run(self.seed))  # frozen, but not yet given away
        return self

    @model_validator(mode="after")
    def _sizes_can_be_halved(self) -> TrainConfig:
        multiple = self.model.multiple_of
        for name in ("simulation", "validation_simulation"):
            simulation = getattr(self.data, name)
            if simulation is None:
                continue
            sizes = possible_sizes(simulation)
            for setting, size in sizes:
                if size % multiple:
                    raise ValueError(
                        f"the network halves images until they are {multiple} times smaller, and {size} "
                        f"(data.{name}.{setting}) is no multiple of {multiple}: lower model.pools, or draw sizes by "
                        f"data.{name}.multiple = {math.lcm(multiple, simulation.multiple)}"
                    )
            least = {setting: min(n for one, n in sizes if one == setting) for setting, _ in sizes}
            if all(size == multiple for size in least.values()):
                told = ", ".join(f"{setting} = {size}" for setting, size in least.items())
                raise ValueError(
                    f"the network halves images until they are {multiple} times smaller, and of data.{name} ({told}) "
                    "a single pixel is left, which has no mean and spread: lower model.pools, or draw larger images"
                )
        return self

    @model_validator(mode="after")
    def _sizes_are_taken(self) -> TrainConfig:
        fixed = self.model.fixed_size
        if fixed is None:
            return self
        k1, k0 = fixed
        for name in ("simulation", "validation_simulation"):
            simulation = getattr(self.data, name)
            for setting, size in () if simulation is None else possible_sizes(simulation):
                if size != (k1 if setting == "k1" else k0):
                    raise ValueError(
                        f"the network takes images of {k1}x{k0} and no others, and data.{name} has {setting} "
                        f"= {size}: set its k1 to [{k1}, {k1}], its k0 to [{k0}, {k0}] and its readout_crop to null, "
                        "or give the network another size"
                    )
        return self

    @model_validator(mode="after")
    def _masks_are_taken(self) -> TrainConfig:
        for name in ("simulation", "validation_simulation"):
            simulation = getattr(self.data, name)
            if simulation is not None and simulation.masks.plane is not None and self.model.takes_lines_alone:
                raise ValueError(
                    f"the data consistency of this network ('{self.model.kind}') is for masks along k1, and "
                    f"data.{name}.masks.plane has masks over two phase encodings: take 'unrolled' or 'kiki' with the "
                    "lowering 'fft', or an image network"
                )
        return self

    @model_validator(mode="after")
    def _minutes_are_given(self) -> TrainConfig:
        if self.schedule.over == "minutes" and self.max_minutes is None:
            raise ValueError("schedule.over is 'minutes', and there are none: give max_minutes")
        return self

    @model_validator(mode="after")
    def _terms_begin(self) -> TrainConfig:
        for term in self.loss.terms:
            if self.max_steps is not None and term.begins_at >= self.max_steps:
                raise ValueError(
                    f"the term '{term.kind}' of the loss begins after {term.begins_at} steps, and the run ends after "
                    f"{self.max_steps}: let it begin earlier (after_steps), train longer, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.max_steps is None) == (self.max_epochs is None):
            raise ValueError(
                "give the length of the run once, by max_steps or by max_epochs (max_minutes ends it earlier)"
            )
        return self


def load_config(path: Path, settings: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a configuration file.

    Args:
        path: a YAML file.
        settings: nested settings that replace those of the file.

    Raises:
        ConfigError: no such file, not YAML, or a setting is unknown, missing or wrong.
    """
    return read_config(read_yaml(path, settings, "training configuration"), str(path))


def read_config(document: Mapping[str, Any], where: str) -> TrainConfig:
    """Check settings.

    Args:
        document: as read from YAML.
        where: where they stand, for messages.

    Raises:
        ConfigError: a setting is unknown, missing or wrong; every one is named, and an unknown one with those
            that exist.
    """
    return read_settings(TrainConfig, document, where, "a training configuration")


def read_yaml(path: Path, settings: Mapping[str, Any] | None, what: str) -> dict[str, Any]:
    """Read a YAML file of settings.

    Args:
        path: the file.
        settings: nested settings that replace those of the file.
        what: what they are, for messages: ``training configuration``.

    Raises:
        ConfigError: no such file, not YAML, or no mapping.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the {what} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected settings like 'name: …', found {type(document).__name__}")
    return merged(document, settings or {})


def read_settings(cls: type[AnySettings], document: Mapping[str, Any], where: str, what: str) -> AnySettings:
    """Check settings of any kind.

    Args:
        cls: their model.
        document: as read from YAML.
        where: where they stand, for messages.
        what: what they are, for messages.

    Raises:
        ConfigError: a setting is unknown, missing or wrong; every one is named, and an unknown one with those
            that exist.
    """
    try:
        return cls.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_sentences(error, cls, what, document))) from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of which some are replaced, groups setting by setting."""
    together = dict(base)
    for key, value in over.items():
        below = together.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        together[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return together


def _sentences(
    error: ValidationError, cls: type[BaseModel], what: str, document: Mapping[str, Any]
) -> Iterator[str]:
    for problem in error.errors():
        models, names = _walk(problem["loc"], cls, document)
        where = ".".join(names)
        if problem["type"] == "extra_forbidden":
            known = list(dict.fromkeys(field for model in models for field in model.model_fields))
            group = ".".join(names[:-1]) or what
            near = difflib.get_close_matches(names[-1], known, n=1)
            meant = f" (did you mean '{near[0]}'?)" if near else ""
            yield f"{group} has no setting '{names[-1]}'{meant}; it has: {', '.join(known) or 'none'}"
        elif problem["type"] == "missing":
            yield f"{where} is missing"
        elif isinstance(problem["input"], Mapping | BaseModel):  # too much to repeat
            said = str(problem["msg"]).removeprefix("Value error, ")
            yield f"{where}: {said}" if where else said
        else:
            yield f"{where} = {shown(problem['input'])}: {problem['msg']}"


def _walk(
    location: tuple[int | str, ...], cls: type[BaseModel], document: Any
) -> tuple[list[type[BaseModel]], list[str]]:
    """The models whose setting stands at a location, and its path without the tags of unions."""
    models: list[type[BaseModel]] = [cls]
    names: list[str] = []
    for i, part in enumerate(location):
        models = [_chosen(model, document) for model in models]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields or isinstance(part, int):
            document = _below(document, part)
        if isinstance(part, int):
            names[-1] = f"{names[-1]}[{part}]"
        elif fields:
            names.append(part)
            if i < len(location) - 1:
                models = [below for field in fields for below in _models_in(field.annotation)]
        elif i == len(location) - 1 and part not in {model.__name__ for model in models}:
            names.append(part)
        else:  # the tag by which one member of a union was chosen
            models = [model for model in models if part in _tags(model)] or models
    return models, names


def _chosen(model: type[BaseModel], settings: Any) -> type[BaseModel]:
    """The plug-in that settings are of, where they are of one."""
    if not issubclass(model, PluginSettings):
        return model
    try:
        return model.chosen(settings)
    except ValueError:  # told by another sentence
        return model


def _below(document: Any, part: int | str) -> Any:
    try:
        return document[part]
    except (KeyError, IndexError, TypeError):
        return None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """What a model may be called in a location: its kind, or its class."""
    kind = model.model_fields.get("kind")
    return (model.__name__, *(typing.get_args(kind.annotation) if kind else ()))
