"""One training of many: kept where it is finished, gone on with where it was interrupted."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from scanside.errors import ConfigError
from scanside_training.checkpoint import CONFIG, LAST_CHECKPOINT
from scanside_training.config import TrainConfig, load_config
from scanside_training.record import TrainingRecord, read_record
from scanside_training.trainer import train

__all__ = ["check_settings", "is_finished", "time_left", "trained"]


def check_settings(config: TrainConfig, folder: Path) -> None:
    """Refuse a folder whose run was made with other settings: its figures would be taken for those of these.

    Raises:
        ConfigError: it holds such a run.
    """
    if not (folder / CONFIG).is_file():
        return
    there = load_config(folder / CONFIG).model_dump(mode="json")
    asked = config.model_dump(mode="json")
    other = [name for name in asked if asked[name] != there[name]]
    if other:
        raise ConfigError(
            f"{folder} holds a run with other settings ({', '.join(other)}): choose another folder for the "
            "study, or remove this one"
        )


def is_finished(config: TrainConfig, folder: Path) -> bool:
    """Whether a folder holds a run that made all its steps, or used up its time."""
    record = read_record(folder)
    if record is None:
        return False
    used_up = config.max_minutes is not None and record.seconds >= 60 * config.max_minutes
    return record.complete or used_up


def trained(
    config: TrainConfig, folder: Path, console: Console | None, *, until: int | None = None
) -> TrainingRecord:
    """The record of a training, which is done here unless it is finished.

    A run that ended before its first checkpoint begins anew.

    Args:
        config: of the run.
        folder: of the run.
        console: where it draws its progress.
        until: step at which it stops for now.

    Raises:
        ScansideError: as `scanside_training.trainer.train`.
    """
    record = read_record(folder)
    if record is not None and is_finished(config, folder):
        return record
    resume = (folder / LAST_CHECKPOINT).is_file()
    return train(config, folder, resume=resume, console=console, until=until)


def time_left(seconds: float, done: float, left: float) -> str:
    """How long the rest will take, in words; nothing where nothing is done yet.

    Args:
        seconds: that what is done has taken.
        done: runs, or steps, that are done.
        left: those that are not.
    """
    if not done or not left:
        return ""
    minutes = seconds / done * left / 60
    if minutes < 1:
        return ", less than a minute left"
    return f", about {minutes / 60:.1f} h left" if minutes >= 90 else f", about {minutes:.0f} min left"
