"""What a look at one thing found, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Check", "Status"]

Status = Literal["ok", "missing", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: ``ok``; ``missing``: optional and not there, or not as good as it could be; ``problem``: broken.
        found: what was found.
        advice: what to do, empty where all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """As JSON-ready values."""
        return asdict(self)
