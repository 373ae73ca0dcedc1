"""Random Cartesian sampling masks along k1, with a fully sampled centre (ACS), for images and for films."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside.simulate.temporal import TemporalPattern, frame_masks
from scanside_training.data.settings import FloatRange, IntRange, Settings

__all__ = ["FrameMaskConfig", "MaskConfig", "random_frame_masks", "random_mask"]

Pattern = Literal["equispaced", "random", "variable-density", "centre"]


class MaskConfig(Settings):
    """Which masks are drawn. Every sample draws its pattern, acceleration and number of ACS lines."""

    patterns: tuple[Pattern, ...] = Field(default=("equispaced", "random", "variable-density"), min_length=1)
    """Every R-th line from a random offset, lines drawn with equal weight, or with one that falls outwards; or the
    lines around the centre alone, as in a scan of low resolution."""
    acceleration: FloatRange = (3.0, 5.0)
    """``equispaced``: distance of the lines, a whole number within the range, the ACS lines come on top of them.
    Other patterns: lines of the matrix over acquired lines, ACS included."""
    acs: IntRange = (16, 24)
    """Number of fully sampled lines around the centre."""
    density_power: FloatRange = (1.0, 3.0)
    """``variable-density``: weights are (1 − r)^power, r being the distance from the centre, 1 at the edge."""

    @model_validator(mode="after")
    def _possible(self) -> MaskConfig:
        low, high = self.acceleration
        if low < 1 or self.acs[0] < 0 or self.density_power[0] < 0:
            raise ValueError("acceleration is at least 1, acs and density_power at least 0")
        if "equispaced" in self.patterns and np.floor(high) < np.ceil(low):
            raise ValueError(
                f"equispaced lines need a whole acceleration, and there is none within {self.acceleration}: widen it"
            )
        return self


def random_mask(config: MaskConfig, n: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.bool_], int]:
    """A mask and the number of its ACS lines.

    Args:
        config: what may be drawn.
        n: lines of the matrix.
        rng: draws it.

    Returns:
        ``(n,)`` with the centre of k-space at ``n // 2``, and the width of the fully sampled block around it
        (from ``n // 2 - width // 2`` on).

    Raises:
        ConfigError: the ACS lines alone are more than the acceleration leaves.
    """
    pattern = config.patterns[rng.integers(len(config.patterns))]
    n_acs = min(int(rng.integers(config.acs[0], config.acs[1], endpoint=True)), n)
    mask = np.zeros(n, bool)
    first = n // 2 - n_acs // 2
    mask[first : first + n_acs] = True
    low, high = config.acceleration
    if pattern == "equispaced":
        distance = int(rng.integers(int(np.ceil(low)), int(np.floor(high)), endpoint=True))
        mask[int(rng.integers(distance)) :: distance] = True
        return mask, n_acs
    wanted = round(n / rng.uniform(low, high))
    if pattern == "centre":
        mask[:] = False
        first = n // 2 - wanted // 2
        mask[first : first + wanted] = True
        return mask, wanted
    if wanted < n_acs:
        raise ConfigError(
            f"{n} lines at an acceleration of up to {high} leave {wanted} lines, but acs asks for {n_acs} in the "
            "centre: lower masks.acceleration or masks.acs, or enlarge the matrix"
        )
    power = rng.uniform(*config.density_power) if pattern == "variable-density" else 0.0
    radius = np.abs(np.arange(n) - n // 2) / (n / 2)
    weight = np.where(mask, 0.0, np.maximum(1 - radius, 0.01) ** power)
    if wanted > n_acs:
        mask[rng.choice(n, wanted - n_acs, replace=False, p=weight / weight.sum())] = True
    return mask, n_acs


class FrameMaskConfig(Settings):
    """Which masks films get: see `scanside.simulate.temporal.frame_masks`. All frames of one share a pattern."""

    patterns: tuple[TemporalPattern, ...] = Field(default=("variable-density",), min_length=1)
    """Drawn with equal weight."""
    acceleration: FloatRange = (5.0, 5.0)
    """Lines of the matrix over acquired lines; of ``kt`` the distance of lines, a whole number within the range."""
    acs: IntRange = (11, 11)
    """Central lines that every frame has."""
    density_power: FloatRange = (2.0, 2.0)
    """``variable-density``: weights are (1 − r)^power, r being the distance from the centre, 1 at the edge."""

    @model_validator(mode="after")
    def _possible(self) -> FrameMaskConfig:
        low, high = self.acceleration
        if low < 1 or self.acs[0] < 0 or self.density_power[0] < 0:
            raise ValueError("acceleration is at least 1, acs and density_power at least 0")
        if "kt" in self.patterns and np.floor(high) < np.ceil(low):
            raise ValueError(
                f"'kt' needs a whole acceleration, and there is none within {self.acceleration}: widen it"
            )
        return self


def random_frame_masks(
    config: FrameMaskConfig, n_lines: int, n_frames: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], int]:
    """Masks of the frames of a film, and the number of central lines that all have.

    Args:
        config: what may be drawn.
        n_lines: lines of the matrix.
        n_frames: frames.
        rng: draws them.

    Returns:
        ``(n_frames, n_lines)`` with the centre of k-space at ``n_lines // 2``, and the width of the block around it.

    Raises:
        ConfigError: the central lines alone are more than the acceleration leaves.
    """
    pattern = config.patterns[rng.integers(len(config.patterns))]
    n_acs = int(rng.integers(*config.acs, endpoint=True))
    low, high = config.acceleration
    if pattern == "kt":
        acceleration = float(rng.integers(int(np.ceil(low)), int(np.floor(high)), endpoint=True))
    else:
        acceleration = rng.uniform(low, high)
    power = rng.uniform(*config.density_power)
    masks = frame_masks(
        pattern, n_lines, n_frames, acceleration=acceleration, acs=n_acs, rng=rng, density_power=power
    )
    return masks, n_acs
