"""``scanside regions``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from scanside.cli.console import console, progress_bar
from scanside.cli.options import nested, settings_from
from scanside.errors import MissingExtra

__all__ = ["regions"]


def regions(
    config: Annotated[Path, typer.Argument(help="Configuration of a classifier, a YAML file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The classifier's folder.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY.PATH=VALUE", help="Replace a setting; may be given several times."
        ),
    ] = None,
) -> None:
    """Train a classifier of findings on generated knees, whose heat maps weigh the errors of other trainings."""
    for package in ("torchmetrics", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtra(package, "training", "scanside regions")
    from scanside_training.config import read_settings, read_yaml
    from scanside_training.regions import ClassifierConfig, train_classifier

    document = read_yaml(config, nested(settings_from(settings or ())), "configuration of a classifier")
    chosen = read_settings(ClassifierConfig, document, str(config), "the configuration of a classifier")
    with progress_bar("steps") as progress:
        record = train_classifier(chosen, output, progress)
    console.print(
        f"{record.steps} steps in {record.seconds:.0f} s: AUC {record.auc:.3f} (chance 0.5); the heat map is "
        f"largest on the finding in {100 * record.hits:.0f} % of the stacks with one (chance "
        f"{100 * record.chance:.0f} %)"
    )
