"""``scanside train``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from scanside.cli.console import console, err, table
from scanside.cli.options import nested, settings_from
from scanside.errors import MissingExtra
from scanside.memory import keep_freed_memory

__all__ = ["train"]


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, a YAML file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder; runs/<name> by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY.PATH=VALUE", help="Replace a setting; may be given several times."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each process; torch's choice by default.")
    ] = None,
) -> None:
    """Train a reconstruction network: weights, figures and pictures in one folder."""
    for package in ("lightning", "safetensors", "tensorboard"):
        if find_spec(package) is None:
            raise MissingExtra(package, "training", "scanside train")
    keep_freed_memory()
    import torch

    from scanside_training.config import load_config
    from scanside_training.trainer import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    configuration = load_config(config, nested(settings_from(settings or ())))
    folder = output or Path("runs") / configuration.name
    record = run(configuration, folder, resume=resume, console=err)
    rows = table("measure", "value", title=f"{record.name} after {record.steps} steps", right=("value",))
    for name, value in record.validation.items():
        rows.add_row(name, f"{value:.5g}")
    console.print(rows)
    console.print(f"\n{record.n_parameters:,} parameters, {record.seconds:,.0f} s, in {folder}")
