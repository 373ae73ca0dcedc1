"""Times of engines as they are kept: which one took how long, and what else the machine did meanwhile."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from scanside.engines.cache import EngineKey
from scanside.engines.manifest import Precision
from scanside.engines.timing import Timed

__all__ = ["EngineTime", "Times"]


class EngineTime(BaseModel):
    """The time of one engine.

    Attributes:
        engine: see `EngineKey.digest`.
        backend: that built it.
        precision: of the network parts.
        ms: of one call, the lowest of the medians of several rounds.
        busy: share of the time that other work took meanwhile, where the system tells.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Annotated[str, Field(min_length=1)]
    backend: Annotated[str, Field(min_length=1)]
    precision: Precision
    ms: PositiveFloat
    busy: NonNegativeFloat | None

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} {self.ms:.1f} ms"


class Times(BaseModel):
    """Times of engines that were taken in turn.

    Attributes:
        weights_sha256: of the network.
        shape: ``(k1, k0)`` of the engines.
        n_coils: of their input; None where no coils go in.
        threads: on which they ran.
        created: when.
        engines: all that were timed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_sha256: str
    shape: tuple[PositiveInt, PositiveInt]
    n_coils: PositiveInt | None
    threads: PositiveInt
    created: AwareDatetime
    engines: tuple[EngineTime, ...]

    @property
    def busy(self) -> tuple[EngineTime, ...]:
        """Those whose time says little, as other work was in the way."""
        return tuple(one for one in self.engines if not Timed(one.ms, one.busy).quiet)

    def ms(self, key: EngineKey) -> float | None:
        """Time of an engine; None where it was not among them."""
        return next((one.ms for one in self.engines if one.engine == key.digest), None)
