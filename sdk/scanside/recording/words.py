"""What is said of recordings, and the words that pipelines are written in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ALL", "REMAINS", "SHIPPED", "pipeline_words"]

ALL = ("everything",)
"""What a recording holds whose names were not taken out."""

REMAINS = (
    "samples of readouts, images and known waveforms",
    "times of day of readouts",
    "make of the scanner, sequence, body part and coils",
    "names and numbers of user parameters",
    "words of pipelines and their settings",
)
"""What any other recording still holds."""

SHIPPED = Path(__file__).parents[1] / "pipelines"
"""The pipelines that come with Scanside."""


def pipeline_words(folder: Path) -> Iterator[str]:
    """Names of the pipelines in a folder, and what stands in them: stages, settings and their values."""
    for file in folder.glob("*.yaml"):
        yield file.stem
        text = file.read_text(encoding="utf-8", errors="replace")
        yield re.sub(r"#.*|^description:.*", "", text, flags=re.MULTILINE)
