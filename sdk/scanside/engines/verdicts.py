"""What the engine stage says of a learned image in one word, for whoever counts and shows it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["CHECKS", "FALLBACKS", "Check", "Why"]

Why: TypeAlias = Literal[
    "unfit",
    "size",
    "not-built",
    "failed",
    "deadline",
    "busy",
    "non-finite",
    "data-consistency",
    "self-check",
    "maps",
]
"""Why it is not taken, and the fallback's goes out."""

Check: TypeAlias = Literal["better", "undecided", "worse", "worse than nothing", "none"]
"""What its self-check says, see the attribute ``ScansideCheck``."""

FALLBACKS: Final[tuple[str, ...]] = get_args(Why)
CHECKS: Final[tuple[str, ...]] = get_args(Check)
