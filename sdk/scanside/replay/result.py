"""What comes of a replay, the ways that it may take, and how long each part may last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from scanside.items import Image
from scanside.trace import Trace

__all__ = [
    "ANSWER_SECONDS",
    "SERVER_SECONDS",
    "START_SECONDS",
    "Progress",
    "ReplayResult",
    "Via",
]

Via: TypeAlias = Literal["direct", "gadgetron", "mrd"]
"""The way that a scan takes."""

Progress: TypeAlias = Callable[[int, "int | None"], None]
"""Called with the readouts sent so far and, where known, with how many there are."""

START_SECONDS = 60.0
"""How long a node may take to start."""

SERVER_SECONDS = 3600.0
"""How long a server may take to be ready: it builds engines first."""

ANSWER_SECONDS = 600.0
"""How long a node or server may take to end once it has the whole scan."""


@dataclass
class ReplayResult:
    """What came of a replay.

    Attributes:
        images: the images in the order in which they came.
        n_sent: how many readouts had been sent when each of them came.
        output: the file that holds them, where one was asked for.
        n_readouts: readouts that were sent.
        seconds: from the first readout to the last image, without starting node or server.
        warnings: what an operator should know.
        trace: times of the stages; None where they ran in another process.
    """

    images: list[Image] = field(default_factory=list)
    n_sent: list[int] = field(default_factory=list)
    output: Path | None = None
    n_readouts: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    trace: Trace | None = None
