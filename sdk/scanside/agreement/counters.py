"""Counters of the readouts against the encoding limits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scanside.agreement.finding import Finding
from scanside.mrd.dtypes import ACQUISITION_HEADER, COUNTERS
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["AnnouncedCounters"]

assert ACQUISITION_HEADER.fields is not None
_TOGETHER = np.dtype(
    {
        "names": ["counters"],
        "formats": [("<u2", (len(COUNTERS),))],
        "offsets": [ACQUISITION_HEADER.fields["idx"][1]],
        "itemsize": ACQUISITION_HEADER.itemsize,
    }
)
"""All counters of a header as one row of numbers."""

_GRID = ("kspace_encode_step_1", "kspace_encode_step_2")
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
        limits = [encoding.limit(name) for name in COUNTERS]
        on_grid = [name in _GRID for name in COUNTERS]
        self._lowest = np.array(
            [0 if grid else limit.minimum for limit, grid in zip(limits, on_grid, strict=True)]
        )
        self._highest = np.array(
            [
                np.iinfo(np.uint16).max if grid else limit.maximum
                for limit, grid in zip(limits, on_grid, strict=True)
            ]
        )
        self._least = np.full(len(COUNTERS), np.iinfo(np.uint16).max, np.uint16)
        self._most = np.zeros(len(COUNTERS), np.uint16)

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block."""
        counters = lines.headers.view(_TOGETHER)["counters"]
        least, most = counters.min(axis=0), counters.max(axis=0)
        if (most > self._most).any() or (least < self._least).any():
            self._most = np.maximum(self._most, most)
            self._least = np.minimum(self._least, least)
            outside = (self._most > self._highest) | (self._least < self._lowest)
            self.changed |= bool(outside.any())

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name."""
        for i in np.flatnonzero((self._most > self._highest) | (self._least < self._lowest)).tolist():
            name, least, most = COUNTERS[i], int(self._least[i]), int(self._most[i])
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
