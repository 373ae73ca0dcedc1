"""What could not be done, and what may end one candidate without ending the comparison."""

from __future__ import annotations

from dataclasses import dataclass

from scanside.errors import ScansideError

__all__ = ["UNUSABLE", "Failure"]

UNUSABLE = (ScansideError, OSError, RuntimeError, ValueError, MemoryError)
"""What may end one candidate, but not the comparison."""


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be opened, or could not reconstruct some cases.

    Attributes:
        candidate: which.
        cases: names of the cases, none where it could not be opened.
        reason: why; of several cases, that of the first.
    """

    candidate: str
    cases: tuple[str, ...]
    reason: str
