"""Shipped pipelines that the whole demonstration shows, each on a simulated scan of its own.

A further pipeline is one more entry in `EXHIBITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scanside.simulate import ScanConfig, preset

__all__ = ["EXHIBITS", "Exhibit", "Way", "first_repetition"]


class Way(NamedTuple):
    """A pipeline, and settings of it that are changed."""

    pipeline: str
    settings: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Exhibit:
    """A shipped pipeline beside other ways to the image.

    Attributes:
        name: of the pipeline, its folder and its picture.
        title: of its section on the page.
        scan: makes the configuration: one contrast, slices or slabs.
        beside: what it is compared with, by what that is called; each gives an image of every slice.
        settings: of the pipeline itself.
        told: what images say as a share of the signal, by meta attribute: titles of columns with percents.
        note: what to look at.
    """

    name: str
    title: str
    scan: Callable[[], ScanConfig]
    beside: Mapping[str, Way] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def ways(self) -> dict[str, Way]:
        """All ways to the image, the pipeline itself last."""
        return {**self.beside, self.name: Way(self.name, self.settings)}


def first_repetition(name: str) -> ScanConfig:
    """A preset without the repetitions that follow the first."""
    config = preset(name)
    return config.model_copy(update={"dynamics": config.dynamics.model_copy(update={"repetitions": 1})})


_GRIDDING = Way("radial-realtime", {"gather.readouts": None, "gather.step": None})

EXHIBITS: tuple[Exhibit, ...] = (
    Exhibit(
        "radial",
        "Radial: CG-SENSE of golden-angle spokes",
        lambda: first_repetition("radial"),
        beside={"gridding": _GRIDDING},
        note="34 spokes for 192 × 192 pixels: gridding leaves streaks, which CG-SENSE takes away.",
    ),
    Exhibit(
        "spiral",
        "Spiral: CG-SENSE of interleaved arms",
        lambda: preset("spiral"),
        beside={"gridding": _GRIDDING},
        note="8 of 24 arms: the centre is complete, and at the edge of k-space arms lie three times too far apart.",
    ),
    Exhibit(
        "epi",
        "EPI: ramp samples, odd–even phase, GRAPPA",
        lambda: first_repetition("epi"),
        beside={"epi, uncorrected": Way("epi", {"epi.phase": "none", "epi.b0": "none"})},
        told={"ScansideGhost": "ghost, % of the signal"},
        note=(
            "Single shots of R = 2 whose echoes disagree by a phase, a delay and off-resonance that drifts. Without "
            "correction the object comes again, shifted along phase encoding; three navigators take that away. The "
            "ghost is measured as ScansideGhost tells it in each image: where the shifted object lies in air."
        ),
    ),
)
"""In the order in which they are shown."""
