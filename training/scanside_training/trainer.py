"""Runs a training, from its configuration to a folder with weights, figures and pictures.

::

    runs/<name>/
    ├── config.yaml          the whole configuration, defaults spelt out
    ├── model.safetensors    weights of the last validation (with patience the best), averaged where the run averages
    ├── best.safetensors     weights of the validation with the highest PSNR (with patience the lowest loss)
    ├── last.ckpt            all that resuming needs
    ├── metrics.csv          figures by step
    ├── images/              input, output, target and error of some validation samples, by step
    ├── tensorboard/         figures and pictures for TensorBoard
    ├── weights.csv          how far each layer moved; of a run that is to tell it
    ├── log                  what happened when
    ├── lineage.json         the networks that the weights go back to, and their data; of a run that begins with some
    └── training.json        facts about the finished run
"""

from __future__ import annotations

import logging
import math
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from rich.console import Console
from torch.utils.data import default_collate

from scanside.errors import ConfigError
from scanside.storage import naming_disk
from scanside_training.ancestry import lineage_of
from scanside_training.callbacks import (
    MovingAverage,
    ProgressLine,
    RunFolder,
    ValidationMeasures,
    ValidationPictures,
    WeightChanges,
)
from scanside_training.checkpoint import (
    CONFIG,
    LAST_CHECKPOINT,
    begin_with,
    read_checkpoint,
    write_config,
)
from scanside_training.config import TrainConfig, load_config
from scanside_training.csv_log import CsvLog
from scanside_training.data import ReconstructionData, SampleKey, SampleKeys
from scanside_training.draws import Draws
from scanside_training.reconstruction import Reconstruction
from scanside_training.record import RECORD, Lineage, SourceRecord, TrainingRecord, identity, versions

logger = logging.getLogger(__name__)

__all__ = ["RECORD", "SourceRecord", "TrainingRecord", "train"]

_LINEAGE = "lineage.json"

_MAY_CHANGE = {
    "max_steps", "max_epochs", "max_minutes", "validation", "log_every_steps", "accelerator", "devices", "nodes",
}  # fmt: skip
"""Settings that a resumed run may give anew."""


_SETTLED = (
    ".*does not have many workers",
    "GPU available but not used",
    ".*isinstance\\(treespec, LeafSpec\\)` is deprecated",
)
"""Beginnings of warnings that nobody can act on."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    until: int | None = None,
) -> TrainingRecord:
    """Train a network.

    Args:
        config: the run's configuration.
        folder: where everything is written; made where it is missing.
        resume: go on from the folder's last checkpoint.
        console: where a progress bar is drawn.
        until: step at which to stop for now; learning rates are those of the whole run.

    Raises:
        ConfigError: settings that contradict each other, this machine or, resuming, the run's own; or the folder
            holds a run already.
        FormatError: the checkpoint to resume from or the weights to begin with are missing or damaged.
        NonFiniteError: the loss or its gradient became NaN or infinite.
        RunError: the folder is full or must not be written.
    """
    accelerator = _checked(config)
    checkpoint = _opened(config, folder) if resume else None
    if checkpoint is None:
        _claim(folder)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    with naming_disk(
        folder, f"the training '{config.name}' stopped (--resume goes on from its last validation)"
    ):
        if _is_first():
            folder.mkdir(parents=True, exist_ok=True)
            write_config(config, folder)
        with _log_file(folder), _quiet():
            return _run(config, folder, accelerator, checkpoint, console, until)


def _run(
    config: TrainConfig,
    folder: Path,
    accelerator: Literal["cpu", "gpu"],
    checkpoint: dict[str, Any] | None,
    console: Console | None,
    until: int | None,
) -> TrainingRecord:
    data = ReconstructionData(config.data)
    n_ranks = config.devices * config.nodes
    batches_per_step = n_ranks * config.accumulate
    batches_per_epoch = math.ceil(config.data.samples_per_epoch / config.data.batch_size)
    n_steps = config.max_steps or math.ceil((config.max_epochs or 0) * batches_per_epoch / batches_per_step)
    last = n_steps if until is None else min(until, n_steps)
    step = 0 if checkpoint is None else int(checkpoint["global_step"])
    if checkpoint is not None and step >= last:
        raise ConfigError(
            f"{folder}: all {last} steps are made: give more with --set max_steps=…, or begin a new run"
        )

    example = default_collate([data.samples("validation")[SampleKey(0, 0, 0)]])
    module = Reconstruction(config, n_steps, folder, example)
    if config.initial is not None and checkpoint is None:
        begin_with(module.model, config.initial)
    lineage = _lineage(config, folder, resumed=checkpoint is not None)
    n_parameters = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    logger.info("%s: %d parameters, steps %d to %d", config.name, n_parameters, step, last)

    for caution in config.loss.cautions:
        logger.warning("%s: %s", config.name, caution)
    patience = config.validation.patience
    files = RunFolder(folder, by_loss=patience is not None)
    stopping = None if patience is None else EarlyStopping("validation/loss", patience=patience)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=_strategy(n_ranks, accelerator),
        precision=config.precision,
        max_steps=last,
        max_epochs=-1,
        val_check_interval=config.validation.every_steps * config.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every_steps,
        gradient_clip_val=config.gradient_clip,
        accumulate_grad_batches=config.accumulate,
        use_distributed_sampler=False,
        logger=[
            CsvLog(folder / "metrics.csv", step),
            TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False),
        ],
        callbacks=_callbacks(config, folder, files, stopping, console, last),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    # Taken from the checkpoint, not counted from the steps: the number of processes may have changed.
    first_batch = 0 if checkpoint is None else int(checkpoint["batches"])
    module.batches = (first_batch, step, batches_per_step)
    module.seconds = lambda: files.seconds
    batch_size, rank = config.data.batch_size, trainer.global_rank
    validation = data.loader(
        "validation", SampleKeys(config.data.validation_samples, batch_size, rank, n_ranks)
    )
    if stopping is not None and checkpoint is None:
        trainer.validate(module, validation, verbose=False)  # the weights that it begins with may be the best
    trainer.fit(
        module,
        data.loader(
            "train", Draws(batch_size, batches_per_epoch, rank=rank, n_ranks=n_ranks, first=first_batch)
        ),
        validation,
        ckpt_path=None if checkpoint is None else folder / LAST_CHECKPOINT,
        weights_only=True,
    )
    if files.validated_step != trainer.global_step:
        trainer.validate(module, validation, verbose=False)
    stopped = stopping is not None and stopping.wait_count >= stopping.patience
    if stopping is not None and trainer.is_global_zero:
        files.go_back_to_best()
    record = TrainingRecord(
        name=config.name,
        steps=trainer.global_step,
        complete=stopped or trainer.global_step >= n_steps,
        epochs=round(trainer.global_step * batches_per_step / batches_per_epoch, 2),
        seconds=round(files.seconds, 1),
        seed=config.seed,
        n_parameters=n_parameters,
        data=_seen(data),
        lineage=lineage,
        cautions=config.loss.cautions,
        validation=files.measures,
        best_psnr=files.best_psnr if math.isfinite(files.best_psnr) else None,
        machine=_machine(accelerator, n_ranks),
        versions=versions(),
    )
    if trainer.is_global_zero:
        (folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", "utf-8")
        logger.info("finished after %d steps and %.0f s", record.steps, record.seconds)
    return record


def _lineage(config: TrainConfig, folder: Path, *, resumed: bool) -> Lineage:
    """What the weights go back to, as it was when the run began: folders may be gone when it is resumed."""
    path = folder / _LINEAGE
    if resumed and path.is_file():
        return Lineage.model_validate_json(path.read_text("utf-8"))
    lineage = lineage_of(config)
    if lineage.ancestors and _is_first():
        path.write_text(lineage.model_dump_json(indent=2) + "\n", "utf-8")
    if lineage.unknown:
        logger.warning(
            "the data of %s, which these weights go back to, are not known", ", ".join(lineage.unknown)
        )
    return lineage


def _seen(data: ReconstructionData) -> tuple[SourceRecord, ...]:
    """What the network is trained on."""
    samples = data.samples("train")
    return tuple(
        SourceRecord(
            **one._asdict(),
            seen=(*(identity(of.origin, subject) for subject in one.subjects), *of.recordings),
        )
        for one, of in zip(samples.provenance, samples.origins, strict=True)
    )


def _what_counts(config: TrainConfig) -> dict[str, Any]:
    """The settings that a resumed run must keep."""
    return config.model_dump(
        mode="json", exclude={**dict.fromkeys(_MAY_CHANGE, True), "data": {"num_workers", "prefetch"}}
    )


def _callbacks(
    config: TrainConfig,
    folder: Path,
    files: RunFolder,
    stopping: EarlyStopping | None,
    console: Console | None,
    n_steps: int,
) -> list[Callback]:
    callbacks: list[Callback] = [
        ValidationMeasures(),
        ValidationPictures(folder / "images", config.validation.images),
        files,
    ]
    if config.ema_decay is not None:
        callbacks.append(MovingAverage(config.ema_decay))
    if stopping is not None:
        callbacks.append(stopping)
    if config.weight_changes:
        callbacks.append(WeightChanges(folder / "weights.csv"))
    if config.max_minutes is not None:
        callbacks.append(Timer(timedelta(minutes=config.max_minutes), verbose=False))
    if console is not None:
        callbacks.append(ProgressLine(console, n_steps))
    return callbacks


def _checked(config: TrainConfig) -> Literal["cpu", "gpu"]:
    has_cuda = torch.cuda.is_available()
    if config.accelerator == "cuda" and not has_cuda:
        raise ConfigError("accelerator = 'cuda', and torch sees no CUDA device: use 'auto' or 'cpu'")
    accelerator: Literal["cpu", "gpu"] = "gpu" if has_cuda and config.accelerator != "cpu" else "cpu"
    if accelerator == "cpu" and config.precision == "16-mixed":
        raise ConfigError("precision = '16-mixed' needs CUDA: on the CPU use 'bf16-mixed' or '32-true'")
    if accelerator == "gpu" and config.devices > torch.cuda.device_count():
        raise ConfigError(
            f"devices = {config.devices}, and torch sees {torch.cuda.device_count()} CUDA devices"
        )
    n_ranks = config.devices * config.nodes
    n_batches = math.ceil(config.data.validation_samples / config.data.batch_size)
    if n_batches < n_ranks:
        raise ConfigError(
            f"data.validation_samples = {config.data.validation_samples} makes {n_batches} batches for {n_ranks} "
            "processes: each needs one, as weights are judged and written at validations"
        )
    return accelerator


def _is_first() -> bool:
    """Whether this is the process that writes files; the processes' starter says so in the environment."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _strategy(n_ranks: int, accelerator: str) -> Strategy | str:
    if n_ranks == 1:
        return "auto"
    return DDPStrategy(process_group_backend="gloo" if accelerator == "cpu" else "nccl")


def _claim(folder: Path) -> None:
    """Refuse to write over a run."""
    if _is_first() and (folder / LAST_CHECKPOINT).exists():
        raise ConfigError(
            f"{folder} holds a run already: go on with it by --resume, or name another folder by --output"
        )


def _opened(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """The checkpoint of a run that is to be resumed with this configuration."""
    checkpoint = read_checkpoint(folder / LAST_CHECKPOINT)
    before, now = (_what_counts(one) for one in (load_config(folder / CONFIG), config))
    changed = [name for name in now if now[name] != before[name]]
    if changed:
        raise ConfigError(
            f"{folder} was trained with other settings of {', '.join(changed)} (see its {CONFIG}). A resumed run "
            f"may only change {', '.join(sorted(_MAY_CHANGE))} and data.num_workers; to begin a new run with "
            "its weights, use 'initial:'"
        )
    return checkpoint


def _machine(accelerator: str, n_ranks: int) -> dict[str, str | int]:
    machine: dict[str, str | int] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "processes": n_ranks,
    }
    if accelerator == "gpu":
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Collect in the run's folder what is logged, on the first process."""
    if not _is_first():
        yield
        return
    ours = logging.getLogger("scanside_training")
    handler = logging.FileHandler(folder / "log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    except BaseException as error:
        # In the file only: whoever started the run sees the error itself.
        text = f"stopped: {type(error).__name__}: {error}"
        handler.handle(logging.makeLogRecord({"levelname": "ERROR", "levelno": logging.ERROR, "msg": text}))
        raise
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep out Lightning's advice on what the configuration has settled, and its own use of old torch."""
    lightning = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in lightning]
    for one in lightning:
        one.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _SETTLED:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        finally:
            for one, level in zip(lightning, levels, strict=True):
                one.setLevel(level)
