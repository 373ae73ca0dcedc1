"""What has changed since an earlier evaluation, and which figures moved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanside.errors import ConfigError, FormatError

__all__ = ["Changes", "Moved", "changes", "read_results"]

_PARTS = ("config", "summaries")
"""Without which a file holds no results."""


@dataclass(frozen=True)
class Moved:
    """A figure that is another one now.

    Attributes:
        where: candidate, stratum and measure in words.
        old: what it was.
        new: what it is; None where it is gone.
    """

    where: str
    old: float
    new: float | None

    @property
    def described(self) -> str:
        """In words."""
        if self.new is None:
            return f"{self.where}: was {self.old:.6g}, and is not there any more"
        return f"{self.where}: {self.old:.6g} → {self.new:.6g} ({self.new - self.old:+.2g})"


@dataclass(frozen=True)
class Changes:
    """What is different.

    Attributes:
        circumstances: configuration, data, weights and versions that changed, in words.
        moved: figures that moved by more than the tolerance.
        n_figures: how many were compared.
        n_new: figures that were not there.
    """

    circumstances: tuple[str, ...]
    moved: tuple[Moved, ...]
    n_figures: int
    n_new: int


def read_results(path: Path, name: str) -> dict[str, Any]:
    """What an earlier evaluation left as ``results.json``.

    Args:
        path: of the file.
        name: of the evaluation that it should be.

    Raises:
        ConfigError: there is no such file, or it is that of another evaluation.
        FormatError: it is damaged, or holds no results.
    """
    if not path.is_file():
        raise ConfigError(f"there is no {path}: give the results.json of an earlier evaluation")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{path} is damaged, it is no JSON: {error}") from error
    if not isinstance(found, dict) or any(part not in found for part in _PARTS):
        raise FormatError(f"{path} holds no results of an evaluation: it has no {' and '.join(_PARTS)}")
    there = found["config"].get("name") if isinstance(found["config"], dict) else None
    if there != name:
        raise ConfigError(
            f"{path} is of the evaluation '{there}', and this one is '{name}': give the results of the same one"
        )
    try:
        dict(_figures(found))
    except (TypeError, KeyError, AttributeError) as error:
        raise FormatError(f"{path} is damaged, its summaries are not such as evaluations write") from error
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> Changes:
    """Compare two documents as ``results.json`` has them.

    Args:
        old: the earlier one, by `read_results`.
        new: the other.
        tolerance: how much a mean may differ, as a share of it.
    """
    before, now = dict(_figures(old)), dict(_figures(new))
    moved = [
        Moved(where, value, now.get(where))
        for where, value in before.items()
        if where not in now or not _close(value, now[where], tolerance)
    ]
    return Changes(
        tuple(_circumstances(old, new)), tuple(moved), len(before), sum(where not in before for where in now)
    )


def _figures(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every mean of every table, by where it stands."""
    for table in ("summaries", "volumes"):
        for row in document.get(table, ()):
            of = "volumes" if table == "volumes" else "images"
            group = f"{row['stratum']} {row['value']}".strip()
            for measure, value in row["means"].items():
                yield f"{row['candidate']}, {group} {of}, {measure}", float(value)


def _close(old: float, new: float, tolerance: float) -> bool:
    return math.isclose(old, new, rel_tol=tolerance) or (math.isnan(old) and math.isnan(new))


def _circumstances(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, now = _flat(old["config"]), _flat(new["config"])
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"configuration: {name} was {before.get(name, 'not there')}, is {now.get(name, 'not there')}"
    then, here = old.get("provenance"), new["provenance"]
    if not isinstance(then, dict):
        yield "data and versions: not recorded then"
        return
    if then.get("data") != here["data"]:
        yield (
            f"data: fingerprint was {then.get('data')} of {then.get('n_cases')} cases, is {here['data']} of "
            f"{here['n_cases']}"
        )
    for kind in ("weights", "versions"):
        earlier = then.get(kind) or {}
        for name in sorted(earlier.keys() | here[kind].keys()):
            if earlier.get(name) != here[kind].get(name):
                was, is_now = (one.get(name, "not there") for one in (earlier, here[kind]))
                yield f"{kind}: {name} was {was}, is {is_now}"


def _flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Every setting by its path."""
    if isinstance(settings, dict):
        pairs = [(str(key), value) for key, value in settings.items()]
    elif isinstance(settings, list):
        pairs = [(str(number), value) for number, value in enumerate(settings)]
    else:
        return {path: settings}
    found: dict[str, Any] = {}
    for key, value in pairs:
        found |= _flat(value, f"{path}.{key}" if path else key)
    return found
