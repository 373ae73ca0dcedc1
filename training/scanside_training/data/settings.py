"""What the settings of training data have in common."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Content", "FloatRange", "IntRange", "Probability", "Settings"]


class Settings(BaseModel):
    """Frozen, and a name with a typo is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"a range is (lowest, highest), got {bounds}")
    return bounds


FloatRange = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""(lowest, highest), both included."""

IntRange = Annotated[tuple[int, int], AfterValidator(_ordered)]
"""(lowest, highest), both included."""

Content: TypeAlias = Literal["slices", "kspace", "planes", "contrasts", "films", "scans", "tissues"]
"""What a source gives and a task takes: images, fully sampled k-space, the same of slices with two phase encodings,
images with several contrasts, films, scans as recorded, or maps of what sequences weight."""

Probability = Annotated[float, Field(ge=0, le=1)]
