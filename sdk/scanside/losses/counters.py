"""Scan counters of a stream, and what their jumps tell."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = ["ScanCounters", "Span"]

Span = tuple[int, int]

_ALL_THE_TIME = 1 / 8  # jumps of more of the readouts than this are no losses
_KEPT_GAPS = 1024


class ScanCounters:
    """Follows the scan counters of a stream and remembers where they jump.

    Counters that do not grow (some producers leave them at zero, or sort their readouts) and those that jump all
    the time (where a step before took readouts out regularly) tell nothing.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._largest = 0
        self._n = 0
        self._n_gaps = 0
        self._growing = True
        self._gaps: deque[Span] = deque(maxlen=_KEPT_GAPS)

    def follow(self, counters: npt.NDArray[np.unsignedinteger]) -> None:
        """Take in the counters of a block, in the order in which they came."""
        first, last, n = int(counters[0]), int(counters[-1]), len(counters)
        before = first - 1 if self._last is None else self._last
        self._last = last
        self._largest = max(self._largest, last)
        self._n += n
        if last - before == n:
            return  # every readout is there, unless they came in disorder, which is not what is looked for
        steps = np.diff(counters.astype(np.int64), prepend=before)
        self._growing = self._growing and bool((steps > 0).all())
        jumps = np.flatnonzero(steps > 1)
        self._n_gaps += len(jumps)
        for i in jumps[-_KEPT_GAPS:]:
            self._gaps.append((int(counters[i]) - int(steps[i]), int(counters[i])))

    def gaps(self, first: int, last: int, *, last_came: bool) -> list[Span]:
        """Counters before and after each jump that may have cost lines of a k-space.

        Args:
            first: counter of its first line that came.
            last: counter of its last line that came.
            last_came: nothing is missing behind that.
        """
        if self.useless is not None:
            return []
        return [
            gap
            for gap in self._gaps
            if gap[1] >= first and (gap[0] < last or (gap[0] == last and not last_came))
        ]

    @property
    def useless(self) -> str | None:
        """Why the counters tell nothing about losses, as the end of a sentence; None where they do."""
        if not self._growing:
            return "are all 0" if not self._largest else "do not grow from readout to readout"
        if self._n_gaps > _ALL_THE_TIME * self._n:
            return f"jump {self._n_gaps} times in {self._n} readouts"
        return None
