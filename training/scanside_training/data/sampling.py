"""Random Cartesian sampling masks with a fully sampled centre (ACS): along k1, for images and for films, and over the
plane of two phase encodings.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside.simulate.temporal import TemporalPattern, frame_masks
from scanside_training.data.settings import FloatRange, IntRange, Settings

__all__ = [
    "FrameMaskConfig",
    "MaskConfig",
    "PlaneMaskConfig",
    "random_frame_masks",
    "random_mask",
    "random_plane_mask",
]

Pattern = Literal["equispaced", "random", "variable-density", "centre"]
PlanePattern = Literal["variable-density"]


class PlaneMaskConfig(Settings):
    """Which masks over both phase encodings (k1, k0) of a volume's slices are drawn."""

    patterns: tuple[PlanePattern, ...] = Field(default=("variable-density",), min_length=1)
    """Samples drawn with a weight that falls outwards."""
    acceleration: FloatRange = (4.0, 8.0)
    """Samples that can be acquired over those that are, the ACS block included."""
    acs: IntRange = (16, 24)
    """Edge of the fully sampled block around the centre."""
    density_power: FloatRange = (2.0, 4.0)
    """Weights are (1 − r)^power, r being the distance from the centre, 1 at the ends of both axes."""

    @model_validator(mode="after")
    def _possible(self) -> PlaneMaskConfig:
        if self.acceleration[0] < 1 or self.acs[0] < 0 or self.density_power[0] < 0:
            raise ValueError("acceleration is at least 1, acs and density_power at least 0")
        return self


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
    plane: PlaneMaskConfig | None = None
    """Masks over two phase encodings, as slices of a volume have them, in place of lines."""

    @model_validator(mode="after")
    def _possible(self) -> MaskConfig:
        fields = type(self).model_fields
        lines = [name for name in fields if name != "plane" and getattr(self, name) != fields[name].default]
        if self.plane is not None and lines:
            raise ValueError(
                f"plane has masks over two phase encodings, and {', '.join(lines)} of lines along one count for "
                "nothing then: set them in plane, or leave plane out"
            )
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


def random_plane_mask(
    config: PlaneMaskConfig,
    shape: tuple[int, int],
    rng: np.random.Generator,
    possible: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.bool_], tuple[int, int]]:
    """A mask over two phase encodings, and the edges of its ACS block.

    Args:
        config: what may be drawn.
        shape: (k1, k0) of the matrix.
        rng: draws it.
        possible: ``(k1, k0)``, samples that can be acquired; all by default. The others count for no acceleration.

    Returns:
        ``(k1, k0)`` with the centre of k-space at ``n // 2``, and (k1, k0) of the block around it, from
        ``n // 2 - edge // 2`` on.

    Raises:
        ConfigError: nothing can be acquired, the mask of what can be has another size, or the ACS block alone is more
            than the acceleration leaves.
    """
    possible = np.ones(shape, np.bool_) if possible is None else possible
    if possible.shape != shape:
        raise ConfigError(
            f"a mask of {shape} was asked for, and one of {possible.shape} says what is possible"
        )
    if not possible.any():
        raise ConfigError("no sample of k-space can be acquired: the scan is empty, leave it out")
    n_acs = int(rng.integers(*config.acs, endpoint=True))
    edges = min(n_acs, shape[0]), min(n_acs, shape[1])
    rows, columns = (
        slice(n // 2 - edge // 2, n // 2 - edge // 2 + edge) for n, edge in zip(shape, edges, strict=True)
    )
    mask = np.zeros(shape, np.bool_)
    mask[rows, columns] = possible[rows, columns]
    wanted = round(int(possible.sum()) / rng.uniform(*config.acceleration)) - int(mask.sum())
    if wanted < 0:
        raise ConfigError(
            f"{int(possible.sum())} samples at an acceleration of up to {config.acceleration[1]} leave fewer than "
            f"the {int(mask.sum())} of the ACS block: lower masks.plane.acceleration or masks.plane.acs"
        )
    power = rng.uniform(*config.density_power)
    weight = np.maximum(1 - _radius(possible), 0.01) ** power
    # Samples in the order of exponential times with these rates: the first are drawn without replacement (Efraimidis
    # and Spirakis, Inf Process Lett 97:181-185, 2006), in one pass however many there are.
    times = np.where(possible & ~mask, rng.exponential(size=shape) / weight, np.inf)
    if wanted:
        mask.flat[np.argpartition(times, wanted - 1, axis=None)[:wanted]] = True
    return mask, edges


def _radius(possible: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance from the centre of k-space, 1 at the outermost samples along each axis."""
    squares = np.zeros(possible.shape)
    for axis, other in ((0, 1), (1, 0)):
        distance = np.abs(np.arange(possible.shape[axis]) - possible.shape[axis] // 2)
        farthest = max(distance[possible.any(other)].max(), 1)
        squares += np.expand_dims((distance / farthest) ** 2, other)
    return np.asarray(np.sqrt(squares))


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
