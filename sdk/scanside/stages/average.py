"""Averages of images whose phases differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from scanside.items import Image
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig

__all__ = ["AverageImages"]

_APART = ("slice", "contrast", "phase", "repetition", "set")

Place: TypeAlias = tuple[int, ...]


class AverageImages(Stage[Image, Image]):
    """Makes one magnitude image of all averages that share the other counters: their mean.

    In diffusion-weighted scans every shot has a phase of its own from motion, so that averages of k-space would lose
    signal. The setting ``averages: separate`` of ``accumulate`` keeps them apart, and this stage joins their images.
    The price is the noise floor of magnitudes. Weightings stay apart as sets, or as whatever counter a converter gave
    them.

    An image goes on when as many averages have come as the header's limit announces, else at the end of the scan, as
    not every weighting has as many. The meta attribute ``ScansideAverages`` says how many there were. Of a scan that
    ended early, images with fewer than announced say that they are not complete. Maps that belong to an image pass.
    """

    Config = StageConfig

    def foresee(self, outline: Outline) -> Outline:
        """Averages by the header."""
        if outline.encoding.limit("average").n > 1:
            return outline
        return outline.doubted(
            "the header announces one average: there is nothing to join, and phases are lost"
        )

    def open(self, scan: Scan) -> None:
        """A new scan: nothing has come."""
        self._scan = scan
        self._sums: dict[Place, _Sum] = {}

    def process(self, item: Image) -> Iterator[Image]:
        """Add an image to those of its place; give the mean once all are there."""
        if item.what != "image":
            yield item
            return
        index = 0 if item.encoding is None else item.encoding.index
        place = (index, *(int(item.header[name]) for name in _APART))
        known = self._sums.setdefault(place, _Sum(item, torch.zeros_like(item.data.abs())))
        known.add(item)
        if known.n >= self._announced(item):
            del self._sums[place]
            yield known.mean()

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """Give the means of what has come."""
        for known in self._sums.values():
            n, announced = known.n, self._announced(known.first)
            if not end.complete:
                known.flaws[f"{n} of {announced} averages came"] = None
            yield known.mean()
        self._sums = {}

    def close(self) -> None:
        """Forget the scan."""
        self._sums = {}

    def _announced(self, image: Image) -> int:
        encoding = image.encoding or self._scan.encoding()
        return encoding.limit("average").n


@dataclass(slots=True)
class _Sum:
    """Images of one place, added.

    Attributes:
        first: of them, which gives header and meta.
        total: ``(channel, z, y, x)``, the sum of magnitudes.
        n: how many there are.
        flaws: why some are not complete.
    """

    first: Image
    total: torch.Tensor
    n: int = 0
    flaws: dict[str, None] = field(default_factory=dict)

    def add(self, image: Image) -> None:
        self.total += image.data.abs()
        self.n += 1
        if image.incomplete:
            self.flaws[image.incomplete] = None

    def mean(self) -> Image:
        header, meta = self.first.header.copy(), self.first.meta.copy()
        header["average"] = 0
        meta["ScansideAverages"] = [str(self.n)]
        return self.first.replace(
            data=self.total / self.n, header=header, meta=meta, incomplete="; ".join(self.flaws) or None
        )
