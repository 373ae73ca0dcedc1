"""One measure of a check against its limits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Verdict"]


class Verdict(BaseModel):
    """One measure against its limits.

    Attributes:
        measure: its name.
        value: that was measured; None where it could not be.
        low: least allowed, where there is one.
        high: most allowed, where there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str
    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it lies within; what could not be measured passes nothing and fails nothing."""
        if self.value is None:
            return True
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        parts = [f"at least {self.low:.4g}"] if self.low is not None else []
        parts += [f"at most {self.high:.4g}"] if self.high is not None else []
        return f"{self.measure} {value}" + (f", allowed {' and '.join(parts)}" if parts else "")
