"""What is known of one recording; it stands as JSON beside the recorded stream."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from scanside._version import __version__

__all__ = ["Outcome", "RecordingEntry"]

Outcome: TypeAlias = Literal["done", "failed", "lost", "query"]
"""How a session ended: in order, with a reported error, without its client or worker, or before it had a header."""


class RecordingEntry(BaseModel):
    """One recording.

    Attributes:
        id: name of its files; it begins with the time.
        session: that was recorded.
        begun: when.
        seconds: how long the session took.
        pipeline: that reconstructed it.
        outcome: how it ended.
        error: what was reported to the client.
        n_readouts: that came.
        n_images: that went.
        fallbacks: images of a classical reconstruction that stood in for a network's.
        kept_for: the rules that kept it.
        size: of the recorded stream in bytes.
        complete: whether every byte that came is there.
        problem: why not.
        patient: whether texts that may identify a person were taken out.
        kept: what may still tell something of a person or a place.
        pinned: kept whatever its age, until it is released.
        version: of Scanside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    session: str
    begun: datetime
    seconds: float = 0.0
    pipeline: str = ""
    outcome: Outcome
    error: str = ""
    n_readouts: int = 0
    n_images: int = 0
    fallbacks: int = 0
    kept_for: tuple[str, ...] = ()
    size: int = 0
    complete: bool = True
    problem: str = ""
    patient: Literal["removed", "kept"] = "removed"
    kept: tuple[str, ...] = ()
    pinned: bool = False
    version: str = __version__
