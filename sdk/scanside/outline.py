"""A scan in outline: what can be told of it without its samples, on its way through the stages of a pipeline.

A stage says by `Stage.foresee` what it will make of a scan. It notes what it would refuse, or do worse than users may
think, and gives the outline as it leaves the stage::

    def foresee(self, outline: Outline) -> Outline:
        if outline.n_coils == 1:
            return outline.refused("it takes coil arrays, and this scan has a single coil")
        return outline

The rules are those by which the stage decides when readouts come: functions that both call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from scanside.agreement import Finding
from scanside.mrd.header import Encoding, MrdHeader

__all__ = ["Outline", "lacking_maps"]

Lines: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What is known of a scan without its samples.

    Attributes:
        header: the scan's header.
        encoding: the encoding space of its images.
        size: of a k-space, ``(k1, k0)``.
        n_coils: of its data.
        n_readouts: of each film, or of the image where there is only one.
        values: how many values of each counter occur, by its name.
        lines: ``(k-space, k2, k1)``, the sets of lines that k-spaces have, each once; None for readouts off the grid.
        calibration: ``(k2, k1)``, lines that calibrate all k-spaces; None where each has its own lines only.
        calibrated_elsewhere: calibration lines lie in another encoding space.
        whole_readouts: no sample of the readout axis was left out.
        n_dimensions: of the trajectory that every readout carries; 0 without.
        reach: largest magnitude of the trajectory's first two coordinates; None without a trajectory.
        findings: where header and data contradict each other.
        corrected_by: names of the pipeline's stages: some take care of certain findings (`Finding.corrected_by`).
        contrasts: names of the other contrasts that come with each k-space.
        coil_maps: stages before have made coil maps.
        window: frames that stages before have joined; None for k-spaces of single frames.
        refusals: why the scan cannot be reconstructed.
        doubts: why images will be worse than they might be.
    """

    header: MrdHeader
    encoding: Encoding
    size: tuple[int, int]
    n_coils: int
    n_readouts: int = 0
    values: Mapping[str, int] = field(default_factory=dict)
    lines: Lines | None = None
    calibration: Lines | None = None
    calibrated_elsewhere: bool = False
    whole_readouts: bool = True
    n_dimensions: int = 0
    reach: float | None = None
    findings: tuple[Finding, ...] = ()
    corrected_by: frozenset[str] = frozenset()
    contrasts: frozenset[str] = frozenset()
    coil_maps: bool = False
    window: int | None = None
    refusals: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def refused(self, why: str) -> Outline:
        """The same, with why a stage would end with an error."""
        return replace(self, refusals=(*self.refusals, why))

    def with_maps_for(self, what: str, remedy: str = "coil-maps") -> Outline:
        """The same, refused where no stage before has made coil maps.

        Args:
            what: needs them.
            remedy: stage that makes them.
        """
        return self if self.coil_maps else self.refused(lacking_maps(what, remedy))

    def doubted(self, why: str) -> Outline:
        """The same, with why images will be worse than they might be."""
        return replace(self, doubts=(*self.doubts, why))


def lacking_maps(what: str, remedy: str = "coil-maps") -> str:
    """What to say where no stage before one that needs coil maps made them; arguments as `Outline.with_maps_for`."""
    return f"{what} needs coil maps, but no stage before it made them: add '{remedy}'"
