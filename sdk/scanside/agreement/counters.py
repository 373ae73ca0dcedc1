"""Counters of the readouts against the encoding limits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.finding import Finding
from scanside.mrd.dtypes import ACQUISITION_HEADER, COUNTERS
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["AnnouncedCounters"]

_GRID = ("kspace_encode_step_1", "kspace_encode_step_2")
assert ACQUISITION_HEADER.fields is not None
_FIRST = ACQUISITION_HEADER.fields["idx"][1] + 2 * len(_GRID)
_WATCHED = COUNTERS[len(_GRID) :]
_TOGETHER = np.dtype(
    {
        "names": ["counters"],
        "formats": [("<u2", (len(_WATCHED),))],
        "offsets": [_FIRST],
        "itemsize": ACQUISITION_HEADER.itemsize,
    }
)
"""All counters of a header that are watched as one row of numbers,"""
_BYTES = np.dtype(
    {
        "names": ["counters"],
        "formats": [np.dtype((np.void, 2 * len(_WATCHED)))],
        "offsets": [_FIRST],
        "itemsize": ACQUISITION_HEADER.itemsize,
    }
)
"""and as one piece of memory."""
_KNOWN = (
    4096  # so many rows are remembered: of most readouts all counters but those of the grid have come before
)

_FILLING = ("average", "segment")


class AnnouncedCounters:
    """Finds values of counters that the encoding limits do not announce.

    Lines outside the limits along k1 and k2 are not looked at: whoever places them refuses them.

    Args:
        encoding: the encoding space of the readouts.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.changed = False
        self._encoding = encoding
        limits = [encoding.limit(name) for name in _WATCHED]
        self._lowest = np.array([limit.minimum for limit in limits])
        self._highest = np.array([limit.maximum for limit in limits])
        self._least = np.full(len(_WATCHED), np.iinfo(np.uint16).max, np.uint16)
        self._most = np.zeros(len(_WATCHED), np.uint16)
        self._known: set[bytes] = set()

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block."""
        first = lines.headers[:1].view(_BYTES)["counters"].tobytes()
        is_one = len(lines) == 1 or lines.headers.view(_BYTES)["counters"].tobytes() == first * len(lines)
        if is_one and first in self._known:
            return
        counters = lines.headers.view(_TOGETHER)["counters"]
        self._least = np.minimum(self._least, counters.min(axis=0))
        self._most = np.maximum(self._most, counters.max(axis=0))
        self.changed |= bool(self._outside().any())
        if is_one:
            if len(self._known) == _KNOWN:
                self._known.clear()
            self._known.add(first)

    def _outside(self) -> npt.NDArray[np.bool_]:
        outside: npt.NDArray[np.bool_] = (self._most > self._highest) | (self._least < self._lowest)
        return outside

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name."""
        for i in np.flatnonzero(self._outside()).tolist():
            name, least, most = _WATCHED[i], int(self._least[i]), int(self._most[i])
            limit = self._encoding.limits.get(name)
            said = "which the header's limits do not announce"
            if limit is not None:
                said = f"outside the header's limits {limit.minimum} to {limit.maximum}"
            found = f"{name} runs from {least} to {most}, {said}"
            if name in _FILLING:
                text = (
                    f"{found}: where each {name} ends with a LAST flag, each becomes an image of its own; write the "
                    f"limits of {name} into the header, or set accumulate.trigger to 'measurement'"
                )
                yield name, Finding("warning", text)
            elif limit is not None:
                text = f"{found}: nobody can tell whether all of them came; correct the encoding limits in the header"
                yield name, Finding("warning", text)
            else:
                text = f"{found}: whole {name}s that never came go unnoticed"
                yield name, Finding("note", text)
