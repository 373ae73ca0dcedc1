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
    """

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"
