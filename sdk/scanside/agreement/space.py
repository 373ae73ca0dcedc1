"""The comparisons of one encoding space."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scanside.agreement.center import SignalCenter
from scanside.agreement.check import Check
from scanside.agreement.counters import AnnouncedCounters
from scanside.agreement.directions import ReadoutDirections
from scanside.agreement.finding import Finding
from scanside.agreement.header import header_findings
from scanside.agreement.one_image import LinesOfOneImage
from scanside.agreement.trajectories import Trajectories
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.header import Encoding, MrdHeader
from scanside.mrd.readouts import Readouts

__all__ = ["SpaceComparison"]

_PHASECORR = AcquisitionFlag.PHASECORR_DATA
_OTHERS = NOT_IMAGING & ~_PHASECORR


class SpaceComparison:
    """Everything that is compared for the readouts of one encoding space.

    Args:
        header: of the scan.
        encoding: the encoding space.
    """

    def __init__(self, header: MrdHeader, encoding: Encoding) -> None:
        self._directions = ReadoutDirections(encoding)
        self._checks: tuple[Check, ...] = (
            self._directions,
            AnnouncedCounters(encoding),
            LinesOfOneImage(encoding),
            Trajectories(encoding),
            SignalCenter(header, encoding),
        )
        self._of_header = list(header_findings(encoding))
        self._new = bool(self._of_header)

    def take(self, block: Readouts) -> Readouts:
        """Look at a block of this encoding space; gives it with its headers as the standard means them."""
        flags = _all_flags(block)
        if flags & int(_OTHERS):
            return self._without_others(block)
        block = self._directions.read(block, flags)
        lines = block
        if flags & int(_PHASECORR):
            lines = block.select(~flagged(block.headers["flags"], _PHASECORR))
            if not len(lines):
                return block
            flags = _all_flags(lines)
        for check in self._checks:
            check.take(lines, flags)
        return block

    def _without_others(self, block: Readouts) -> Readouts:
        """Noise, navigators and the like say nothing of the image's lines."""
        which = ~flagged(block.headers["flags"], _OTHERS)
        lines = block.select(which)
        if not len(lines):
            return block
        read = self.take(lines)
        if read is lines:
            return block
        headers = block.headers.copy()
        headers[which] = read.headers
        return Readouts(headers, block.samples, block.trajectory)

    def changed(self) -> bool:
        """Whether `findings` may give something new; once."""
        changed, self._new = self._new, False
        for check in self._checks:
            changed |= check.changed
            check.changed = False
        return changed

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name that it keeps."""
        yield from self._of_header
        for check in self._checks:
            yield from check.findings(ended=ended)


def _all_flags(block: Readouts) -> int:
    flags = block.headers["flags"]
    return int(flags[0]) if len(flags) == 1 else int(np.bitwise_or.reduce(flags))
