"""Two reconstructions of one scan as two series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from pydantic import Field, model_validator

from scanside.context import Context
from scanside.items import Image, KSpace
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.series import SeriesNumbers
from scanside.shadow.branch import Branch, StageEntry
from scanside.stage import Expected, Stage, StageConfig

__all__ = ["SideBySide"]

logger = logging.getLogger(__name__)


class SideBySide(Stage[KSpace, Image]):
    """Reconstructs every k-space twice and sends both, the first one first, as series that nobody can confuse.

    Each series has its number and its name, which stands in what hosts add to a series' description
    (``SequenceDescriptionAdditional``, ``GADGETRON_SeqDescription``) and in the comment of every image. The first
    series is what its stages would make alone. Where the second fails, the operator is told and the scan goes on;
    an image of the second series that would be a classical fallback is left out, as the first series has it.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            first: stages of the first series, from k-space to ``finish``, as in a pipeline.
            second: stages of the second series, likewise.
            names: of the series, for people.
            series: image series indices of encoding space 0; images of other encoding spaces, matrices or voxel sizes
                have series of their own behind them.
        """

        RESERVED = frozenset({"first", "second"})

        first: tuple[StageEntry, ...] = Field(min_length=1)
        second: tuple[StageEntry, ...] = Field(min_length=1)
        names: tuple[str, str] = ("classical", "learned")
        series: tuple[int, int] = (1, 2)

        @model_validator(mode="after")
        def _are_two(self) -> SideBySide.Config:
            if self.names[0] == self.names[1] or self.series[0] == self.series[1]:
                raise ValueError(
                    f"two series need two names and two numbers, got {self.names} and {self.series}"
                )
            if not all(self.names) or not all(0 <= number <= 65535 for number in self.series):
                raise ValueError("a series needs a name, and a number from 0 to 65535")
            return self

    config: Config

    def __init__(self, config: StageConfig | None = None, **settings: object) -> None:
        super().__init__(config, **settings)
        self._first = Branch("first", self.config.first)
        self._second = Branch("second", self.config.second)
        self._second_scan: Scan | None = None

    def prepare(self, context: Context) -> None:
        """Get both branches ready."""
        self._first.prepare(context)
        self._second.prepare(context)

    def expect(self, expected: Expected) -> Expected:
        """Get both branches ready for a scan."""
        self._first.expect(expected)
        self._second.expect(expected)
        return expected

    def foresee(self, outline: Outline) -> Outline:
        """What speaks against the first series, and what leaves the second without images or makes them doubtful."""
        first, second = self._first.foresee(outline), self._second.foresee(outline)
        told = len(outline.doubts)
        return replace(first, doubts=(*first.doubts, *second.refusals, *second.doubts[told:]))

    def outdated(self) -> list[str]:
        """What has changed in either branch."""
        return [*self._first.outdated(), *self._second.outdated()]

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan
        self._numbers = SeriesNumbers()
        self._first.open(scan)
        # Of its own, so that the images of the first branch say only what concerns them.
        second = Scan(scan.header, scan.pipeline, parameters=scan.parameters)
        self._second_scan = second
        self._attempt(lambda: self._second.open(second))

    def process(self, item: KSpace) -> Iterator[Image]:
        """Both images of one k-space."""
        for image in self._first.images(item):
            yield self._named(image, 0)
        yield from self._second_images(lambda: list(self._second.images(item)))

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """What both hold back, and what the operator should know of the second."""
        for image in self._first.finish(end):
            yield self._named(image, 0)
        yield from self._second_images(lambda: list(self._second.finish(end)))
        if self._second_scan is not None:
            self._scan.metrics.update(self._second_scan.metrics)
            for text in self._second_scan.warnings:
                self._scan.warn(f"series '{self.config.names[1]}': {text}")

    def close(self) -> None:
        """Forget the scan."""
        self._second_scan = None
        try:
            self._first.close()
        finally:
            self._second.close()

    def _second_images(self, make: Callable[[], list[Image]]) -> Iterator[Image]:
        made: list[Image] = []
        if self._second_scan is not None:
            self._attempt(lambda: made.extend(make()))
        for image in made:
            if "ScansideFallback" in image.meta:
                self._scan.count("side-by-side.left-out")
            else:
                yield self._named(image, 1)

    def _attempt(self, call: Callable[[], object]) -> None:
        """Do something for the second series; a failure ends that series, not the scan."""
        try:
            call()
        except Exception as error:  # whatever it is, the first series goes on
            logger.warning("series '%s' failed", self.config.names[1], exc_info=True)
            self._scan.count("side-by-side.failed")
            self._scan.warn(f"series '{self.config.names[1]}' ends here, the other goes on: {error}")
            self._second_scan = None

    def _named(self, image: Image, which: int) -> Image:
        name, header, meta = self.config.names[which], image.header.copy(), image.meta.copy()
        step = abs(self.config.series[1] - self.config.series[0]) + 1  # the two never meet
        header["image_series_index"] = self._numbers.of(image, self.config.series[which], step, which)
        meta["SequenceDescriptionAdditional"] = name
        meta["GADGETRON_SeqDescription"] = name
        meta.append("ImageComment", name)
        return image.replace(header=header, meta=meta)
