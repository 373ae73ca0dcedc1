"""Sampling patterns of the literature: which lines or points of k-space an accelerated scan acquires.

::

    space = Space.of(Limits(elliptical=True).region((256, 180)), acs=(24, 24))
    mask = plane_mask("poisson", space, acceleration=8, rng=generator(0))
    acceleration_of(mask, space).with_acs

A seed gives the same mask on any machine and with any NumPy. Masks have the centre of k-space at ``n // 2``. The
simulator, the trainers and ``scanside mask`` draw from here.
"""

from __future__ import annotations

from scanside.sampling.acceleration import Acceleration, acceleration_of, point_spread, sidelobe
from scanside.sampling.draws import Mask, generator
from scanside.sampling.patterns import LINES, PLANES, SERIES, Pattern, line_mask, plane_mask, series_mask
from scanside.sampling.space import Limits, Space
from scanside.sampling.temporal import TemporalPattern, central_lines, frame_masks

__all__ = [
    "LINES",
    "PLANES",
    "SERIES",
    "Acceleration",
    "Limits",
    "Mask",
    "Pattern",
    "Space",
    "TemporalPattern",
    "acceleration_of",
    "central_lines",
    "frame_masks",
    "generator",
    "line_mask",
    "plane_mask",
    "point_spread",
    "series_mask",
    "sidelobe",
]
