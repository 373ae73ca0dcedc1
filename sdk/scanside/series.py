"""Numbers of image series: images of different matrix, voxel size or encoding space never share one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["SeriesNumbers", "grid_of"]

_N_NUMBERS = 1 << 16  # MRD headers hold 16 bits
_MICROMETRES = 3  # decimals of a length in mm: headers round


def grid_of(image: Image) -> tuple[Hashable, ...]:
    """Matrix and field of view of an image, as a key that rounding does not change."""
    field_of_view = (round(float(length), _MICROMETRES) for length in image.header["field_of_view"])
    return (*image.data.shape[1:], *field_of_view)


class SeriesNumbers:
    """Gives every kind of image a series number of its own, in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def number(self, kind: Hashable, wanted: int) -> int:
        """The number of a kind: always the same, and that of no other.

        Args:
            kind: what tells images of one series from those of others.
            wanted: its number; where another kind has it, the next free one is taken.
        """
        if kind not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[kind] = next(
                number for step in range(_N_NUMBERS) if (number := (wanted + step) % _N_NUMBERS) not in taken
            )
        return self._numbers[kind]
