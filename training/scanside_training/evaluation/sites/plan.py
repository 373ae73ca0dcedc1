"""Which scans are made: factors that are crossed so that each level of each is seen equally often."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

__all__ = ["QUICK", "Array", "Extent", "Noise", "Object", "Pattern", "SitePlan", "planned"]

Object = Literal[
    "head-t2", "head-csf", "head-fat", "knee", "body", "vessels", "t2-measured", "chest-measured"
]
"""What is scanned: generated heads with T2 contrast, bright fluid or bright fat, a knee, a belly, vessels; measured
T2-weighted heads and chests."""
Array = Literal["ring", "flat", "body", "unequal", "measured"]
"""What receives: loops on an elliptic former, in a plane below, in planes below and above, of all sizes at places of
chance, or measured maps."""
Pattern = Literal["regular", "random", "variable-density", "one-sided"]
"""Which lines: every R-th, drawn, drawn densest about the centre, or drawn from three quarters of k-space."""
Noise = Literal["white", "unequal", "correlated"]
"""Of the receivers: alike, of different strength, or correlated between neighbours and of different strength."""
Extent = Literal["within", "to-edge", "beyond"]
"""Where tissue ends: inside the field of view, at its edge, or outside, which folds it along the phase encoding."""

QUICK = 10
"""Scans of the short list."""

_MEASURED: tuple[Object, ...] = ("t2-measured", "chest-measured")
_LEAST_LINES = 6
"""Lines beside the calibration lines that a drawn pattern must have."""


@dataclass(frozen=True)
class SitePlan:
    """One scan.

    Attributes:
        number: of the scan; what is drawn for it depends on this and the seed alone.
        object: what is scanned.
        n_coils: of the array.
        array: its geometry.
        lines: of the matrix, along the phase encoding.
        aspect: pixels along the readout over lines; as pixels are square, the field of view is as rectangular.
        acceleration: distance of regular lines, else lines of the matrix that could be acquired over acquired lines.
        pattern: of the lines.
        acs: calibration lines.
        snr: bright tissue over the standard deviation of the noise of the fully sampled combined image.
        noise: of the receivers.
        extent: of the object.
        swapped: phase encoding along x of the object instead of y.
    """

    number: int
    object: Object
    n_coils: int
    array: Array
    lines: int
    aspect: float
    acceleration: int
    pattern: Pattern
    acs: int
    snr: int
    noise: Noise
    extent: Extent
    swapped: bool

    @property
    def columns(self) -> int:
        """Pixels along the readout: an even number, and no more or less than lines may be."""
        return min(max(2 * round(self.lines * self.aspect / 2), 64), 384)

    @property
    def needs_data(self) -> bool:
        """Whether measured images or maps go into it, which are not everywhere."""
        return self.object in _MEASURED or self.array == "measured"

    @property
    def is_possible(self) -> bool:
        """Whether the lines suffice for such an acceleration, and such an array exists."""
        if self.n_coils == 1 and self.array == "measured":
            return False
        if self.pattern == "regular":
            return self.lines // self.acceleration >= _LEAST_LINES and 2 * self.acs <= self.lines
        available = self.lines * (0.75 if self.pattern == "one-sided" else 1.0)
        return available / self.acceleration >= self.acs + _LEAST_LINES

    @property
    def strata(self) -> dict[str, str]:
        """Levels by factor, as tables show them."""
        told = asdict(self)
        del told["number"]
        told["swapped"] = "yes" if self.swapped else "no"
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in told.items()
        }


_LEVELS: dict[str, tuple[Any, ...]] = {
    "object": get_args(Object),
    "n_coils": (1, 4, 8, 16, 32),
    "array": get_args(Array),
    "lines": (64, 96, 128, 192, 256, 320, 384),
    "aspect": (0.75, 1.0, 1.25),
    "acceleration": (2, 3, 4, 5, 6, 8),
    "pattern": get_args(Pattern),
    "acs": (12, 16, 20, 24, 32),
    "snr": (5, 10, 20, 50, 100, 200),
    "noise": get_args(Noise),
    "extent": get_args(Extent),
    "swapped": (False, True),
}
_EXCHANGED = ("n_coils", "array", "lines", "acceleration", "acs", "pattern")
"""Factors whose levels scans exchange where their own do not go together."""


def planned(count: int, seed: int) -> tuple[SitePlan, ...]:
    """Scans in which each level of a factor is seen as often as any other, give or take one.

    Args:
        count: number of scans.
        seed: mixes the levels.
    """
    rng = np.random.default_rng([seed, count])
    columns: dict[str, list[Any]] = {}
    for factor, levels in _LEVELS.items():
        order = rng.permutation(np.arange(count) % len(levels))
        columns[factor] = [levels[place] for place in order]
    plans = [
        SitePlan(number, **{name: column[number] for name, column in columns.items()})
        for number in range(count)
    ]
    return _made_possible(plans, rng)


def _made_possible(plans: list[SitePlan], rng: np.random.Generator) -> tuple[SitePlan, ...]:
    """Scans exchange single levels until all are possible, so that each level stays as frequent as it was."""
    while wrong := [plan.number for plan in plans if not plan.is_possible]:
        one, other = wrong[0], int(rng.integers(len(plans)))
        factor = _EXCHANGED[rng.integers(len(_EXCHANGED))]
        a = replace(plans[one], **{factor: getattr(plans[other], factor)})
        b = replace(plans[other], **{factor: getattr(plans[one], factor)})
        # What was possible stays so; what was not may change again.
        if b.is_possible or not plans[other].is_possible:
            plans[one], plans[other] = a, b
    return tuple(plans)
