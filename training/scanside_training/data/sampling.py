"""Random Cartesian sampling masks with a fully sampled centre (ACS): along k1, for images and for films, and over the
plane of two phase encodings.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside.sampling.densities import line_density
from scanside.sampling.draws import draw_lines
from scanside.sampling.patterns import LINES, SERIES, line_mask, plane_mask
from scanside.sampling.space import Limits, Space
from scanside.sampling.temporal import TemporalPattern, frame_masks
from scanside_training.data.settings import FloatRange, IntRange, Settings

__all__ = [
    "FrameMaskConfig",
    "LimitsConfig",
    "MaskConfig",
    "PlaneMaskConfig",
    "random_frame_masks",
    "random_mask",
    "random_plane_mask",
]

Pattern = Literal[
    "equispaced",
    "random",
    "variable-density",
    "centre",
    "equispaced-fraction",
    "fastmri-random",
    "magic",
    "magic-fraction",
    "gaussian",
]


class LimitsConfig(Settings):
    """What masks leave out of the matrix whatever their pattern."""

    partial_fourier: FloatRange = (1.0, 1.0)
    """Share of the lines that is acquired, from one end: 0.75 is 6/8. Accelerations are those of this share."""
    side: Literal["early", "late", "either"] = "either"
    """Which end is left out: low positions, high ones, or one of them, drawn for every sample."""

    @model_validator(mode="after")
    def _possible(self) -> LimitsConfig:
        low, high = self.partial_fourier
        if not 0 < low <= high <= 1:
            raise ValueError(f"partial_fourier is above 0 and at most 1, got {self.partial_fourier}")
        return self


PlanePattern = Literal[
    "variable-density",
    "random",
    "gaussian",
    "poisson",
    "poisson-uniform",
    "circus-radial",
    "circus-spiral",
    "radial",
]


class PlaneMaskConfig(Settings):
    """Which masks over both phase encodings (k1, k0) of a volume's slices are drawn."""

    patterns: tuple[PlanePattern, ...] = Field(default=("variable-density",), min_length=1)
    """Samples drawn with a weight that falls outwards, or another pattern of `scanside.sampling`, drawn with equal
    weight."""
    acceleration: FloatRange = (4.0, 8.0)
    """Samples that can be acquired over those that are; ``gaussian`` and ``radial`` have the ACS block on top."""
    acs: IntRange = (16, 24)
    """Edge of the fully sampled block around the centre."""
    density_power: FloatRange = (2.0, 4.0)
    """``variable-density``: weights are (1 − r)^power, r being the distance from the centre, 1 at the ends of both
    axes."""

    @model_validator(mode="after")
    def _possible(self) -> PlaneMaskConfig:
        if self.acceleration[0] < 1 or self.acs[0] < 0 or self.density_power[0] < 0:
            raise ValueError("acceleration is at least 1, acs and density_power at least 0")
        return self

    def fewest_acs(self, n: int) -> int:
        """The least edge of the ACS block, where k1 has `n` lines."""
        return min(self.acs[0], n)

    def most_acs(self, n: int) -> int:
        """The largest edge of the ACS block along an axis of `n` samples."""
        return min(self.acs[1], n)


class MaskConfig(Settings):
    """Which masks are drawn. Every sample draws its pattern, acceleration and number of ACS lines."""

    patterns: tuple[Pattern, ...] = Field(default=("equispaced", "random", "variable-density"), min_length=1)
    """Every R-th line from a random offset, lines drawn with equal weight, or with one that falls outwards; or the
    lines around the centre alone, as in a scan of low resolution; or further ones of `scanside.sampling`."""
    acceleration: FloatRange = (3.0, 5.0)
    """``equispaced``, ``magic``: distance of the lines, a whole number within the range; these and ``gaussian`` have
    the ACS lines on top. Other patterns: lines of the matrix over acquired lines, ACS included."""
    acs: IntRange = (16, 24)
    """Number of fully sampled lines around the centre."""
    pairs: tuple[tuple[float, float], ...] = ()
    """In place of `acceleration` and `acs`: what belongs together, share of the lines in the centre and acceleration,
    one pair drawn for every sample; fastMRI has (0.08, 4) and (0.04, 8)."""
    density_power: FloatRange = (1.0, 3.0)
    """``variable-density``: weights are (1 − r)^power, r being the distance from the centre, 1 at the edge."""
    limits: LimitsConfig = LimitsConfig()
    """Partial Fourier."""
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
        if self.pairs:
            fields = type(self).model_fields
            if any(getattr(self, name) != fields[name].default for name in ("acceleration", "acs")):
                raise ValueError(
                    "pairs take the place of acceleration and acs: leave these out, or the pairs"
                )
            if not all(0 <= share < 1 <= acceleration for share, acceleration in self.pairs):
                raise ValueError(
                    f"pairs are (share of the centre, acceleration), shares below 1 and accelerations from 1 on, got "
                    f"{self.pairs}"
                )
        ranges = [(acceleration, acceleration) for _, acceleration in self.pairs] or [self.acceleration]
        for pattern in self.patterns:
            for low, high in ranges:
                if LINES[pattern].whole and np.floor(high) < np.ceil(low):
                    raise ValueError(
                        f"{pattern} lines need a whole acceleration, and there is none within {(low, high)}: widen it"
                    )
        return self

    def fewest_acs(self, n: int) -> int:
        """The least number of ACS lines in a matrix of `n` lines."""
        return min((round(share * n) for share, _ in self.pairs), default=self.acs[0])

    def most_acs(self, n: int) -> int:
        """The largest number of ACS lines in a matrix of `n` lines."""
        if "centre" in self.patterns:
            return n
        return max((round(share * n) for share, _ in self.pairs), default=self.acs[1])


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
        ConfigError: the ACS lines alone are more than the acceleration leaves, or partial Fourier cuts them off.
    """
    pattern = config.patterns[rng.integers(len(config.patterns))]
    if config.pairs:
        share, acceleration = config.pairs[rng.integers(len(config.pairs))]
        n_acs, low, high = round(share * n), acceleration, acceleration
    else:
        n_acs = min(int(rng.integers(config.acs[0], config.acs[1], endpoint=True)), n)
        low, high = config.acceleration
    space = Space.of(_region(config.limits, n, rng), (n_acs,))
    if pattern not in ("equispaced", "random", "variable-density", "centre"):
        if LINES[pattern].whole:
            low = high = int(rng.integers(int(np.ceil(low)), int(np.floor(high)), endpoint=True))
        return line_mask(pattern, space, acceleration=rng.uniform(low, high), rng=rng), n_acs
    # These four have drawn like this before there were others, and do so still.
    mask = space.block.copy()
    if pattern == "equispaced":
        distance = int(rng.integers(int(np.ceil(low)), int(np.floor(high)), endpoint=True))
        mask[int(rng.integers(distance)) :: distance] = True
        return mask & space.region, n_acs
    wanted = round(space.n_places / rng.uniform(low, high))
    if pattern == "centre":
        return Space.of(space.region, (wanted,)).block, wanted
    if wanted < n_acs:
        raise ConfigError(
            f"{space.n_places} lines at an acceleration of up to {high} leave {wanted} lines, but acs asks for "
            f"{n_acs} in the centre: lower masks.acceleration or masks.acs, or enlarge the matrix"
        )
    power = rng.uniform(*config.density_power) if pattern == "variable-density" else 0.0
    radius = np.abs(np.arange(n) - n // 2) / (n / 2)
    draw_lines(mask, np.where(space.region, line_density(radius, power), 0), wanted - n_acs, rng)
    return mask, n_acs


def _region(limits: LimitsConfig, n: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    if limits.partial_fourier == (1, 1):
        return np.ones(n, bool)
    share = rng.uniform(*limits.partial_fourier)
    side = limits.side
    if side == "either":
        side = "early" if rng.random() < 0.5 else "late"
    return Limits((share, 1.0), side).region((n,))


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
    acceleration = rng.uniform(*config.acceleration)
    if len(config.patterns) > 1 or config.patterns[0] != "variable-density":
        pattern = config.patterns[rng.integers(len(config.patterns))]
        if pattern != "variable-density":
            space = Space(possible, mask)
            return plane_mask(pattern, space, acceleration=acceleration, rng=rng), edges
    wanted = round(int(possible.sum()) / acceleration) - int(mask.sum())
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
    """Which masks films get: see `scanside.sampling.temporal.frame_masks`. All frames of one share a pattern."""

    patterns: tuple[TemporalPattern, ...] = Field(default=("variable-density",), min_length=1)
    """Drawn with equal weight."""
    acceleration: FloatRange = (5.0, 5.0)
    """Lines of the matrix over acquired lines; of ``kt`` and ``kt-uniform`` the distance of lines, a whole number
    within the range; these and ``kt-gaussian`` do not count the central lines."""
    acs: IntRange = (11, 11)
    """Central lines that every frame has."""
    density_power: FloatRange = (2.0, 2.0)
    """``variable-density``: weights are (1 − r)^power, r being the distance from the centre, 1 at the edge."""

    @model_validator(mode="after")
    def _possible(self) -> FrameMaskConfig:
        low, high = self.acceleration
        if low < 1 or self.acs[0] < 0 or self.density_power[0] < 0:
            raise ValueError("acceleration is at least 1, acs and density_power at least 0")
        for pattern in self.patterns:
            if SERIES[pattern].whole and np.floor(high) < np.ceil(low):
                raise ValueError(
                    f"'{pattern}' needs a whole acceleration, and there is none within {self.acceleration}: widen it"
                )
        return self

    def fewest_acs(self, n: int) -> int:
        """The least number of central lines in a matrix of `n` lines."""
        return self.acs[0]


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
    if SERIES[pattern].whole:
        acceleration = float(rng.integers(int(np.ceil(low)), int(np.floor(high)), endpoint=True))
    else:
        acceleration = rng.uniform(low, high)
    power = rng.uniform(*config.density_power)
    masks = frame_masks(
        pattern, n_lines, n_frames, acceleration=acceleration, acs=n_acs, rng=rng, density_power=power
    )
    return masks, n_acs
