"""All patterns by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

import numpy as np

from scanside.errors import ConfigError
from scanside.sampling.circus import circus_radial, circus_spiral
from scanside.sampling.drawn import centre, gaussian, uniform, variable_density
from scanside.sampling.draws import Mask
from scanside.sampling.lines import equispaced, equispaced_fraction, fastmri_random, magic, magic_fraction
from scanside.sampling.poisson import poisson, poisson_uniform
from scanside.sampling.radial import kt_radial, radial
from scanside.sampling.space import Space
from scanside.sampling.temporal import TemporalPattern, frame_masks
from scanside.texts import shown

__all__ = ["LINES", "PLANES", "SERIES", "Pattern", "line_mask", "plane_mask", "series_mask"]


@dataclass(frozen=True)
class Pattern:
    """How a pattern is drawn.

    Attributes:
        draw: takes a `Space`, the acceleration, a generator, and what `options` names.
        counts_acs: whether the acceleration that is asked for counts the fully sampled centre.
        whole: whether that acceleration must be a whole number.
        options: further settings, all numbers.
    """

    draw: Callable[..., Mask]
    counts_acs: bool = True
    whole: bool = False
    options: tuple[str, ...] = ()


LINES: dict[str, Pattern] = {
    "equispaced": Pattern(equispaced, counts_acs=False, whole=True),
    "equispaced-fraction": Pattern(equispaced_fraction),
    "random": Pattern(uniform),
    "fastmri-random": Pattern(fastmri_random),
    "magic": Pattern(magic, counts_acs=False, whole=True),
    "magic-fraction": Pattern(magic_fraction),
    "variable-density": Pattern(variable_density, options=("density_power",)),
    "gaussian": Pattern(gaussian, counts_acs=False, options=("share",)),
    "centre": Pattern(centre),
}
"""Patterns of lines along one phase encoding."""

PLANES: dict[str, Pattern] = {
    "random": Pattern(uniform),
    "variable-density": Pattern(variable_density, options=("density_power",)),
    "gaussian": Pattern(gaussian, counts_acs=False, options=("share",)),
    "poisson": Pattern(poisson, options=("tolerance",)),
    "poisson-uniform": Pattern(poisson_uniform, options=("tolerance",)),
    "circus-radial": Pattern(circus_radial),
    "circus-spiral": Pattern(circus_spiral, options=("twist",)),
    "radial": Pattern(radial, counts_acs=False),
}
"""Patterns of points along two phase encodings."""

SERIES: dict[str, Pattern] = {
    "kt-uniform": Pattern(frame_masks, counts_acs=False, whole=True),
    "kt-gaussian": Pattern(frame_masks, counts_acs=False),
    "kt": Pattern(frame_masks, counts_acs=False, whole=True),
    "golden": Pattern(frame_masks),
    "variable-density": Pattern(frame_masks, options=("density_power",)),
    "kt-radial": Pattern(kt_radial, counts_acs=False),
}
"""Patterns of a series of frames: of lines, but for ``kt-radial``, which is of points."""


def line_mask(
    pattern: str, space: Space, *, acceleration: float, rng: np.random.Generator, **options: float
) -> Mask:
    """Lines along one phase encoding.

    Args:
        pattern: one of `LINES`.
        space: which lines may be acquired, and which ones make the fully sampled centre.
        acceleration: at least 1; whether it counts the centre, `Pattern.counts_acs` says.
        rng: draws the lines, see `scanside.sampling.draws.generator`.
        options: of the pattern, see `Pattern.options`.

    Returns:
        ``(k1,)``, True where a line is acquired.

    Raises:
        ConfigError: no such pattern or option, or an acceleration that it cannot have.
    """
    _check_axes(pattern, space, 1)
    return _chosen(LINES, pattern, acceleration, options).draw(space, acceleration, rng, **options)


def plane_mask(
    pattern: str, space: Space, *, acceleration: float, rng: np.random.Generator, **options: float
) -> Mask:
    """Points along two phase encodings, ``(k1, k2)``: one of `PLANES`, otherwise as `line_mask`."""
    _check_axes(pattern, space, 2)
    return _chosen(PLANES, pattern, acceleration, options).draw(space, acceleration, rng, **options)


def series_mask(
    pattern: str,
    space: Space,
    n_frames: int,
    *,
    acceleration: float,
    rng: np.random.Generator,
    **options: float,
) -> Mask:
    """Masks of all frames of a series.

    Args:
        pattern: one of `SERIES`.
        space: of one frame, a plane for ``kt-radial`` and lines for the others; lines are drawn in the whole matrix,
            and those beyond the region left out.
        n_frames: length of the series.
        acceleration: see `line_mask`.
        rng: draws the masks.
        options: of the pattern, see `Pattern.options`.

    Returns:
        ``(n_frames, k1)`` or ``(n_frames, k1, k2)``.

    Raises:
        ConfigError: no such pattern or option, or an acceleration that it cannot have.
    """
    _chosen(SERIES, pattern, acceleration, options)
    _check_axes(pattern, space, 2 if pattern == "kt-radial" else 1)
    if pattern == "kt-radial":
        return kt_radial(space, n_frames, acceleration, rng)
    space.wanted(acceleration)
    masks = frame_masks(
        cast(TemporalPattern, pattern),
        space.shape[0],
        n_frames,
        acceleration=acceleration,
        acs=space.n_block,
        rng=rng,
        **options,
    )
    return masks & space.region


def _check_axes(pattern: str, space: Space, n_axes: int) -> None:
    if len(space.shape) != n_axes:
        raise ConfigError(
            f"the sampling pattern {shown(pattern)} is asked for along {n_axes} phase encodings, and the matrix has "
            f"{len(space.shape)}: give it one number of lines for each"
        )


def _chosen(
    patterns: dict[str, Pattern], name: str, acceleration: float, options: dict[str, float]
) -> Pattern:
    if name not in patterns:
        kinds = ((LINES, "of lines"), (PLANES, "of points of a plane"), (SERIES, "of a series"))
        of = next(noun for others, noun in kinds if others is patterns)
        elsewhere = [noun for others, noun in kinds if name in others]
        near = get_close_matches(name, patterns, n=1)
        hint = f"it is one {elsewhere[0]}; " if elsewhere else f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(
            f"there is no sampling pattern {shown(name)} {of}: {hint}known are {', '.join(patterns)}"
        )
    if not acceleration >= 1:
        raise ConfigError(f"an acceleration is at least 1, got {acceleration:g}: raise it")
    pattern = patterns[name]
    if unknown := sorted(set(options) - set(pattern.options)):
        known = f"known is {', '.join(pattern.options)}" if pattern.options else "it has none"
        raise ConfigError(f"the sampling pattern '{name}' has no option {shown(unknown[0])}: {known}")
    return pattern
