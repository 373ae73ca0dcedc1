"""Something to know about a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Finding", "Level"]

Level: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about a scan.

    Attributes:
        level: ``error``: it cannot be reconstructed as it is; ``warning``: look at it before trusting an image;
            ``note``: unusual, but right.
        text: what was found, where, what it means, and what to do.
        corrected_by: name of a stage that takes care of it: where that stage runs, there is nothing to tell.
    """

    level: Level
    text: str
    corrected_by: str | None = None

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"
