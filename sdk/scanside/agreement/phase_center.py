"""Which counter of phase or partition encoding is the centre of k-space."""

from __future__ import annotations

from typing import NamedTuple

from scanside.mrd.dtypes import Headers
from scanside.mrd.header import Encoding, MrdHeader

__all__ = ["USER_COUNTERS", "PhaseCenter", "phase_center", "told_by_user_counter"]

USER_COUNTERS = {"kspace_encode_step_1": 5, "kspace_encode_step_2": 6}
"""Numbers of the user counters into which Siemens converters write the centre of k-space."""


class PhaseCenter(NamedTuple):
    """The counter of the k-space centre.

    Attributes:
        counter: its value.
        user_counter: the user counter that it was taken from; None where the header's limits say it.
    """

    counter: int
    user_counter: int | None = None


def phase_center(header: MrdHeader, encoding: Encoding, k: int, lines: Headers) -> PhaseCenter:
    """The counter of the k-space centre along k1 or k2 that lines are placed about.

    Args:
        header: of the scan.
        encoding: the encoding space.
        k: 1 for phase, 2 for partition encoding.
        lines: ``(n,)`` headers of readouts, at least one, whose user counters may know the centre.
    """
    counter = f"kspace_encode_step_{k}"
    if counter not in encoding.limits and (header.vendor or "").upper() == "SIEMENS":
        told = told_by_user_counter(k, lines)
        if told:
            return PhaseCenter(told, USER_COUNTERS[counter])
    return PhaseCenter(encoding.limit(counter).center)


def told_by_user_counter(k: int, lines: Headers) -> int:
    """The centre along k1 or k2 that stands in the user counters; 0 where none does."""
    return int(lines["idx"]["user"][0, USER_COUNTERS[f"kspace_encode_step_{k}"]])
