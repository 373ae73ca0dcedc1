"""Whether coil maps and calibration lines agree, and where they do not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError
from scanside.items import KSpace
from scanside.recon.column_cache import changes
from scanside.recon.explained import explained
from scanside.stages._calibration import calibration_region_of, sampled_readout

__all__ = ["MapAgreement", "MapCheck"]

_WRONG = 0.05
"""Maps that leave more than this part of the calibration lines' energy are not those of this scan. ESPIRiT's and
Inati's maps of 4 to 32 coils left up to 0.01 at 10 to 24 lines; turned, moved by an eighth or conjugated ones left
0.08 to 0.97."""

_MUCH = 0.08
"""More energy than this part of what a voxel with tissue has, and not explained, is told. Maps that belong to the
scan left up to 0.024 at 12 to 24 lines of 96 and more, 0.037 at 10 and 0.05 in images of 40; one set, where two were
needed, 0.01 to 0.14."""

_FEWEST = 8  # calibration lines of an axis: of fewer, the check was not measured


@dataclass(frozen=True)
class MapAgreement:
    """How well maps explain calibration lines.

    Attributes:
        explained: part of the lines' energy, noise taken off.
        left: largest energy of a voxel that is not explained, relative to that of one with tissue.
        place: where that is, in words.
    """

    explained: float
    left: float
    place: str

    @property
    def is_wrong(self) -> bool:
        """Whether the maps are not those of this scan."""
        return self.explained < 1 - _WRONG

    @property
    def flaw(self) -> str | None:
        """What an operator is told; None where maps and lines agree."""
        if self.is_wrong:
            return (
                f"the coil maps explain {100 * self.explained:.1f} % of the calibration lines' energy, and should "
                f"explain nearly all: they are not those of this scan; most is left {self.place}. Look for maps of "
                "another position or order of the coils, or let coil-maps make them of this scan's calibration lines"
            )
        if self.left > _MUCH:
            return (
                f"the coil maps leave {100 * self.left:.0f} % of a bright voxel's energy unexplained {self.place}, "
                "and the image may be wrong there: look for an object that is larger than the field of view "
                "(coil-maps.sets), for motion between calibration and image, or acquire more calibration lines"
            )
        return None

    @property
    def meta(self) -> list[str]:
        """For the attribute ``ScansideMaps``: the explained part, the largest one left, and where."""
        return [
            f"{self.explained:.4f} of the calibration lines' energy explained",
            f"{self.left:.3f} of a bright voxel's left at most",
            self.place,
        ]


class MapCheck:
    """Compares maps with calibration lines, once where both stay the same."""

    def __init__(self) -> None:
        self._kept: tuple[torch.Tensor, int, KSpace, MapAgreement] | None = None

    def of(self, item: KSpace) -> MapAgreement | None:
        """How well a k-space's maps explain its calibration lines; None where it has none that would tell."""
        maps = item.coil_maps
        assert maps is not None
        source = item.reference or item
        kept = self._kept
        if kept is not None and kept[0] is maps and kept[1] == changes(maps) and kept[2] is source:
            return kept[3]
        try:
            source, region = calibration_region_of(item, "the check of coil maps")
        except CalibrationError:
            return None
        block = source.data[..., region[0], region[1], sampled_readout(source, at_center=True)]
        n_lines = block.shape[-3:-1]
        if block.shape[-4] != maps.shape[-4] or any(
            n < min(_FEWEST, m) for n, m in zip(n_lines, maps.shape[-3:-1], strict=True)
        ):
            return None
        found = explained(block, maps, item.second_maps)
        left, voxel = found.worst
        made = MapAgreement(found.share, left, _place(item, voxel))
        self._kept = (maps, changes(maps), source, made)
        return made


def _place(item: KSpace, voxel: tuple[int, int, int]) -> str:
    """A voxel (z, y, x) of the image, from its middle, in mm and as a part of the field of view."""
    places = []
    for n, at, extent, direction in zip(
        item.data.shape[-3:],
        voxel,
        item.extent_mm[::-1],
        ("the partition encoding", "the phase encoding", "the readout"),
        strict=True,
    ):
        if n > 1:
            share = (at - n // 2) / n
            places.append(f"{share * extent:+.0f} mm ({share:+.2f} of the field of view) along {direction}")
    return f"at {' and '.join(places)} from the middle of the image"
