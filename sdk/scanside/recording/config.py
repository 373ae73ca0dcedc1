"""What is recorded, and how long it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RecordingConfig"]


class RecordingConfig(BaseModel):
    """Which sessions are kept, and how many of them.

    Attributes:
        folder: where recordings are, made if need be; only its owner can read it.
        keep: sessions to keep: ``errors`` (failed, or client or worker lost), ``fallbacks`` (a classical image stood
            in for a network's), or ``all``.
        every: keep every so-many-th session as well, counted over all processes that record there.
        gigabytes: most that all recordings together may take; the oldest go first. A session that is larger than
            that alone is cut off.
        days: how long a recording is kept; None for as long as there is room.
        keep_patient: record streams as they come, names and all. Without it, a recording keeps numbers, samples and
            words that Scanside or the standard knows, and every other text is taken out or masked; see
            `scanside.privacy`.
        keep_fields: names of what stays all the same: header elements (``protocolName``), user parameters, hosts'
            settings, images' attributes.
        spare_gigabytes: what recordings leave free on the disk.
        queue_megabytes: what may wait to be written; when the disk is slower than the scan for longer than that, the
            recording ends and the scan goes on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    keep: tuple[Literal["errors", "fallbacks", "all"], ...] = ("errors", "fallbacks")
    every: int | None = Field(None, ge=1)
    gigabytes: float = Field(50.0, gt=0)
    days: float | None = Field(30.0, gt=0)
    keep_patient: bool = False
    keep_fields: tuple[str, ...] = ()
    spare_gigabytes: float = Field(2.0, ge=0)
    queue_megabytes: float = Field(64.0, gt=0)

    @property
    def most_bytes(self) -> int:
        """Most bytes that all recordings together may take."""
        return int(self.gigabytes * 1e9)
