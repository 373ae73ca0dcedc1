"""What a comparison of readouts with their header looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from scanside.agreement.finding import Finding
from scanside.mrd.readouts import Readouts

__all__ = ["Check"]


class Check(Protocol):
    """One comparison for one encoding space. It sees every readout, so it must be quick, and it keeps no samples.

    Attributes:
        changed: something was seen that `findings` should be asked about; whoever asks sets it back.
    """

    changed: bool

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block.

        Args:
            lines: imaging and calibration readouts, at least one.
            flags: all flags that occur among them.
        """
        ...

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, with the numbers of now, each with a name that it keeps as numbers grow.

        Args:
            ended: no more readouts will come.
        """
        ...
