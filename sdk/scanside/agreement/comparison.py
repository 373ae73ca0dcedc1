"""Holds the readouts of a scan against its header while they come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scanside.agreement.finding import Finding
from scanside.agreement.space import SpaceComparison
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts

__all__ = ["Comparison"]


class Comparison:
    """Holds the readouts of a scan against its header while they come.

    What it finds does not depend on how the stream is cut into blocks, but for the numbers in the texts: these are
    those of the block that showed it.

    Args:
        header: of the scan.
    """

    def __init__(self, header: MrdHeader) -> None:
        self._header = header
        self._spaces: dict[int, SpaceComparison] = {}
        self._told: set[tuple[int, str]] = set()

    def take(self, block: Readouts) -> Readouts:
        """Look at a block of readouts.

        Returns:
            the block with its headers as the standard means them: the same object, unless a habit of its producer
            was found that is told among the findings.
        """
        if not len(block):
            return block
        references = block.headers["encoding_space_ref"]
        first = int(references[0])
        if len(block) == 1 or (references == references[0]).all():
            space = self._space(first)
            return block if space is None else space.take(block)
        headers = None
        for index in np.unique(references).tolist():
            space = self._space(index)
            which = references == index
            part = block.select(which)
            read = part if space is None else space.take(part)
            if read is not part:
                headers = block.headers.copy() if headers is None else headers
                headers[which] = read.headers
        return block if headers is None else Readouts(headers, block.samples, block.trajectory)

    def begin(self, index: int) -> None:
        """Data of an encoding space came in another form than readouts: hold the header against itself."""
        self._space(index)

    def news(self, *, ended: bool = False) -> list[Finding]:
        """What has been found since the last call.

        Args:
            ended: no more readouts will come.
        """
        fresh = []
        for index, space in self._spaces.items():
            if not space.changed() and not ended:
                continue
            for name, finding in space.findings(ended=ended):
                if (index, name) not in self._told:
                    self._told.add((index, name))
                    fresh.append(self._placed(index, finding))
        return fresh

    def findings(self) -> list[Finding]:
        """Everything that contradicts in a scan that has ended."""
        return [
            self._placed(index, finding)
            for index, space in sorted(self._spaces.items())
            for _, finding in space.findings(ended=True)
        ]

    def _space(self, index: int) -> SpaceComparison | None:
        space = self._spaces.get(index)
        if space is None:
            encoding = next((one for one in self._header.encodings if one.index == index), None)
            # A readout that refers to no encoding space is refused by whoever has to place it.
            if encoding is not None:
                space = self._spaces[index] = SpaceComparison(self._header, encoding)
        return space

    def _placed(self, index: int, finding: Finding) -> Finding:
        if self._header.n_encodings == 1:
            return finding
        return replace(finding, text=f"encoding space {index}: {finding.text}")
