"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from scanside.plain_yaml import read_value

__all__ = ["different_files", "nested", "settings_from"]


def different_files(*paths: Path | None) -> None:
    """Refuse to write two things, or over what is read, into one file.

    Raises:
        typer.BadParameter: two of the paths that are given name the same file.
    """
    given = [path for path in paths if path is not None and str(path) != "-"]
    for i, path in enumerate(given):
        if any(path.resolve() == other.resolve() for other in given[:i]):
            raise typer.BadParameter(f"{path} is named twice: every file needs a name of its own")


def settings_from(assignments: Iterable[str]) -> dict[str, str]:
    """``--set`` options as a mapping: ``["grappa.kernel_k1=4"]`` gives ``{"grappa.kernel_k1": "4"}``.

    Raises:
        typer.BadParameter: an entry has no ``=``, or the same name comes twice.
    """
    settings: dict[str, str] = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign or not name.strip():
            raise typer.BadParameter(f"--set {assignment!r}: expected name=value")
        if name.strip() in settings:
            raise typer.BadParameter(f"--set {name.strip()} is given twice")
        settings[name.strip()] = value.strip()
    return settings


def nested(settings: dict[str, str]) -> dict[str, Any]:
    """Dotted names as nested mappings, values read as YAML: ``{"coils.n_coils": "4"}`` gives
    ``{"coils": {"n_coils": 4}}``.

    Raises:
        typer.BadParameter: a value is not valid YAML, or a name is both a setting and a group.
    """
    tree: dict[str, Any] = {}
    for name, text in settings.items():
        *groups, last = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
            if not isinstance(branch, dict):
                raise typer.BadParameter(f"--set {name}: {group} has a value already")
        try:
            branch[last] = read_value(text)
        except ValueError as error:
            raise typer.BadParameter(f"--set {name}={text}: not valid YAML: {error}") from None
    return tree
