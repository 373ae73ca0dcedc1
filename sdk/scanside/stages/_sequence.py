"""What a scan says of its sequence, for networks that are told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanside.engines.manifest import TakenParameter
from scanside.engines.parameters import SequenceParameter
from scanside.items import KSpace
from scanside.mrd.header import MrdHeader
from scanside.stages._refused import Refused

__all__ = ["SequenceNumbers", "contrast_counters"]

_ELEMENTS: dict[SequenceParameter, str] = {
    "field_strength": "acquisitionSystemInformation.systemFieldStrength_T",
    "te": "sequenceParameters.TE",
    "tr": "sequenceParameters.TR",
    "ti": "sequenceParameters.TI",
    "flip_angle": "sequenceParameters.flipAngle_deg",
}


@dataclass(frozen=True)
class SequenceNumbers:
    """The numbers of a header that a network takes.

    Attributes:
        values: by name, in the units of `scanside.engines.parameters`: one for the scan, or one for each contrast.
        lacking: of those that the header cannot give, why not.
    """

    values: Mapping[SequenceParameter, tuple[float, ...]]
    lacking: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: MrdHeader, taken: Sequence[TakenParameter]) -> SequenceNumbers:
        """Read a header.

        Args:
            header: of a scan.
            taken: what a network takes.
        """
        values: dict[SequenceParameter, tuple[float, ...]] = {}
        lacking = []
        for one in taken:
            if one.name == "acceleration":
                continue
            found = _read(header, one.name)
            if flaw := _flaw(one.name, found):
                lacking.append(f"{_ELEMENTS[one.name]} {flaw}")
            else:
                values[one.name] = found
        return cls(values, tuple(lacking))

    def at(self, contrasts: Sequence[int]) -> dict[SequenceParameter, float]:
        """What holds for an image.

        Args:
            contrasts: counters of its readouts.

        Raises:
            Refused: the header has several values of a number, and none, or more than one, for this image.
        """
        found = {name: self._of(name, contrasts) for name in self.values}
        for name, values in found.items():
            if len(values) != 1:
                which = ", ".join(map(str, contrasts)) or "none"
                raise Refused(
                    "unfit",
                    f"the header's {_ELEMENTS[name]} has {len(self.values[name])} values, one for each contrast, and "
                    f"{len(values)} of them for this image, whose contrast is {which}",
                )
        return {name: values[0] for name, values in found.items()}

    def differences(self, taken: Sequence[TakenParameter], contrasts: Sequence[int]) -> list[str]:
        """In what images of these contrasts differ from those that a network was trained for."""
        return [
            f"{_ELEMENTS[one.name]} {value:g}, trained for {one.trained}"
            for one in taken
            if one.name != "acceleration"
            for value in self._of(one.name, contrasts)
            if value not in one.trained
        ]

    def _of(self, name: SequenceParameter, contrasts: Sequence[int]) -> list[float]:
        values = self.values.get(name, ())
        if len(values) < 2:
            return [*values]
        return sorted({values[contrast] for contrast in contrasts if contrast < len(values)})


def contrast_counters(item: KSpace, image: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The counters ``contrast`` of a k-space's readouts, each once.

    Args:
        item: the k-space.
        image: index along its other axes; all of it where there is none.
    """
    acquired = item.mask[image].cpu().numpy()
    return tuple(np.unique(item.headers[image]["idx"]["contrast"][acquired]).tolist())


def _read(header: MrdHeader, name: SequenceParameter) -> tuple[float, ...]:
    """One value where all are the same."""
    if name == "field_strength":
        return () if header.field_strength_t is None else (header.field_strength_t,)
    values = header.sequence_ms.get(_ELEMENTS[name].partition(".")[2], ())
    return values[:1] if len(set(values)) == 1 else values


def _flaw(name: SequenceParameter, values: tuple[float, ...]) -> str | None:
    """Why a network cannot be told these; several echo times are those of the contrasts."""
    if not values:
        return "is missing"
    if min(values) <= 0:
        return f"is {min(values):g}, expected a positive number"
    if name != "te" and len(values) > 1:
        return f"has {len(values)} values, and nothing says which of them an image has"
    return None
