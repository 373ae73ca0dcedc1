"""Small simulated scans whose header or readouts are changed before both are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scanside.agreement import Comparison, Finding
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.simulate import ScanConfig, simulate

SMALL: dict[str, Any] = {
    "phantom": {"kind": "shepp-logan", "supersampling": (1, 1, 1)},
    "coils": {"n_coils": 5},
    "geometry": {"matrix": (32, 32, 1)},
    "noise": {"readouts": 4},
}


class Scan:
    """The header and all readouts of a simulated scan, to be changed.

    Attributes:
        xml: the header.
        blocks: readouts; blocks share their shape.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        scan = simulate(ScanConfig.model_validate(SMALL | settings))
        self.xml = scan.header_xml.decode()
        self.blocks = [item.copy() for item in scan.items() if isinstance(item, Readouts)]

    def change_header(self, old: str, new: str) -> None:
        """Write something else into the header."""
        assert old in self.xml
        self.xml = self.xml.replace(old, new)

    @property
    def lines(self) -> Readouts:
        """The imaging readouts, as one block that can be changed."""
        *_, last = self.blocks
        return last

    def compare(self, *, block: int | None = None) -> tuple[list[Finding], list[Finding]]:
        """What is told while the scan comes, and all findings at its end; noise readouts come first."""
        comparison = Comparison(MrdHeader.parse(self.xml))
        told: list[Finding] = []
        for readouts in self.blocks:
            for start in range(0, len(readouts), block or len(readouts)):
                comparison.take(readouts.select(slice(start, start + (block or len(readouts)))))
                told += comparison.news()
        told += comparison.news(ended=True)
        return told, comparison.findings()

    def texts(self) -> list[str]:
        """All findings at the scan's end, as they are printed."""
        return [str(finding) for finding in self.compare()[1]]


@pytest.fixture
def make_scan() -> Callable[..., Scan]:
    """A small simulated scan with other settings."""
    return lambda **settings: Scan(settings)
