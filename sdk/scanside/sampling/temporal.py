"""Which lines each frame of a series acquires: undersampling that changes along time.

The same masks serve the simulator and training. Positions are those in the encoded matrix, its centre at ``n // 2``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from scanside.errors import ConfigError
from scanside.sampling.densities import gaussian_density, line_density
from scanside.sampling.draws import Mask, choose, draw_lines

__all__ = ["TemporalPattern", "central_lines", "frame_masks"]

TemporalPattern: TypeAlias = Literal["variable-density", "kt", "golden", "kt-uniform", "kt-gaussian"]

_GOLDEN = (np.sqrt(5.0) - 1) / 2


def frame_masks(
    pattern: TemporalPattern,
    n_lines: int,
    n_frames: int,
    *,
    acceleration: float,
    acs: int,
    rng: np.random.Generator,
    density_power: float = 2.0,
) -> Mask:
    """Lines of every frame of a series.

    ``variable-density`` draws ``round(n_lines / acceleration)`` lines anew in each frame, the central ones included,
    with a density that falls as a power of the distance from the centre (Lustig, Donoho and Pauly, Magn Reson Med
    58, 2007). ``kt`` takes every `acceleration`-th line and shifts by one line from frame to frame (Madore, Glover
    and Pelc, Magn Reson Med 42, 1999), so that `acceleration` frames in a row acquire all of them; the central ones
    come on top. ``golden`` steps through k-space by the golden ratio of its width, from one frame into the next, so
    that the lines of any number of frames in a row lie nearly even (Li et al., Magn Reson Med 80, 2018, for
    Cartesian lines); each frame has as many as one of ``variable-density``. Of CMRxRecon (Wang et al., Radiol Artif
    Intell 7(2), 2025) are ``kt-uniform``, which is ``kt`` by another name, and ``kt-gaussian``: ``round(n_lines /
    acceleration)`` lines anew in each frame by `scanside.sampling.densities.gaussian_density`; the central ones,
    which the acceleration does not count, come on top.

    Fewer frames with the same generator are the beginning of more.

    Args:
        pattern: which of them.
        n_lines: lines of the encoded matrix.
        n_frames: length of the series.
        acceleration: factor of undersampling, at least 1; whole for ``kt`` and ``kt-uniform``.
        acs: lines about the centre that every frame has.
        rng: draws the lines; for ``kt`` the first frame's shift, for ``golden`` the first line.
        density_power: ``variable-density``: the density is (1 - r)^power, r the distance from the centre, 1 at
            the edge; 2 is quadratic.

    Returns:
        ``(n_frames, n_lines)``, True where a line is acquired.

    Raises:
        ConfigError: an acceleration below 1, one that is no whole number for ``kt`` or ``kt-uniform``, or one that
            leaves fewer lines than the central ones.
    """
    if acceleration < 1:
        raise ConfigError(f"an acceleration is at least 1, got {acceleration}")
    masks = np.tile(central_lines(n_lines, acs), (n_frames, 1))
    if pattern in ("kt", "kt-uniform"):
        _interleave(masks, acceleration, rng)
        return masks
    if pattern == "kt-gaussian":
        weight = gaussian_density((n_lines,))
        for mask in masks:
            mask |= choose(weight, round(n_lines / acceleration), rng)
        return masks
    missing = round(n_lines / acceleration) - acs
    if missing < 0:
        raise ConfigError(
            f"acceleration {acceleration} leaves {missing + acs} of {n_lines} lines, but {acs} central ones are "
            "wanted: lower the acceleration or `acs`"
        )
    if pattern == "golden":
        _golden_steps(masks, missing, rng)
        return masks
    radius = np.abs(np.arange(n_lines) - n_lines // 2) / max(n_lines / 2, 1)
    for mask in masks:
        draw_lines(mask, line_density(radius, density_power), missing, rng)
    return masks


def central_lines(n_lines: int, count: int) -> Mask:
    """The `count` lines about the centre of `n_lines`: ``(n_lines,)``."""
    mask = np.zeros(n_lines, bool)
    low = max(n_lines // 2 - count // 2, 0)
    mask[low : low + count] = True
    return mask


def _interleave(masks: Mask, acceleration: float, rng: np.random.Generator) -> None:
    step = int(acceleration)
    if step != acceleration:
        raise ConfigError(
            f"interleaved lines (kt, kt-uniform) need a whole acceleration factor, got {acceleration}"
        )
    n_frames, n_lines = masks.shape
    shift = int(rng.integers(step)) + np.arange(n_frames)
    masks |= (np.arange(n_lines) - n_lines // 2 - shift[:, None]) % step == 0


def _golden_steps(masks: Mask, missing: int, rng: np.random.Generator) -> None:
    n_lines = masks.shape[1]
    position = float(rng.random())
    for mask in masks:
        wanted = int(mask.sum()) + missing
        while mask.sum() < wanted:
            mask[int(position * n_lines)] = True
            position = (position + _GOLDEN) % 1.0
