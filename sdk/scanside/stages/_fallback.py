"""Which classical reconstruction stands in for a network: of those that are named, the first that is in time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from scanside.context import Context
from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.recon.acquired import Acquired
from scanside.scan import Scan
from scanside.stage import Stage
from scanside.stages._classical import Classical
from scanside.stages._heartbeat import Clock
from scanside.stages.sense import Sense

__all__ = ["Allowed", "Fallback", "pace_ms", "wanted_frames"]

Allowed: TypeAlias = Annotated[float, Field(gt=0)] | Literal["pace"] | None
"""Milliseconds for a window; ``pace`` for those in which the scan acquires its wanted frames; None for any time."""


class Fallback:
    """Classical reconstructions, the best one first.

    What reconstructs films takes windows of frames, all others take anything, frame by frame. Where several take a
    window, the first of them makes the first one of a scan. If that takes longer than it may, its images are dropped
    and the next one has its turn, so that a film is made by one of them from its first frame on; this is settled for
    the scan, and its images tell it in the meta attribute ``ScansideFallbackTime``. The last one may take any time.

    Args:
        choices: which, in this order.
        allowed: time for a window.

    Attributes:
        sense: CG-SENSE: that of the choices, or one more, as some networks begin with its images whatever the
            fallback is.
    """

    def __init__(self, choices: Sequence[Classical], allowed: Allowed) -> None:
        self._choices = [(choice, choice.stage()) for choice in choices]
        self._allowed = allowed
        among = next((stage for _, stage in self._choices if isinstance(stage, Sense)), None)
        self.sense = among or Sense()
        self.stages: list[Stage[Any, Image]] = [stage for _, stage in self._choices]
        if among is None:
            self.stages.append(self.sense)

    def prepare(self, context: Context) -> None:
        """Have all of them ready."""
        for stage in self.stages:
            stage.prepare(context)

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is settled."""
        self._scan = scan
        self._late: list[tuple[str, str]] = []
        self._settled: Classical | None = None
        for stage in self.stages:
            stage.open(scan)

    def close(self) -> None:
        """Forget the scan."""
        for stage in self.stages:
            stage.close()

    def images(
        self, item: KSpace, made: Sequence[Image], data: Acquired | None = None
    ) -> Iterator[tuple[Classical, Image]]:
        """The images of a k-space, of a window the wanted ones, and who made them.

        Args:
            item: the k-space.
            made: those that CG-SENSE has made already.
            data: what was acquired of it, where CG-SENSE needs to look no further, nor to compare maps with lines.
        """
        possible = self._possible(item)
        for (choice, stage), following in zip(possible, [*possible[1:], None], strict=True):
            begun = time.perf_counter()
            if stage is self.sense and made:
                images = list(made)
            elif stage is self.sense and data is not None:
                images = list(self.sense.images(item, data))
            else:
                images = list(stage.process(item if choice.of_films else wanted_frames(item)))
            took_ms = 1e3 * (time.perf_counter() - begun)
            unsettled = following is not None and choice is not self._settled
            if unsettled and self._is_late(item, choice, took_ms):
                continue
            self._settled = choice
            for image in images:
                yield choice, self._told(image)
            return

    def _possible(self, item: KSpace) -> list[tuple[Classical, Stage[Any, Image]]]:
        is_film = len(item.other) == 1
        found = [one for one in self._choices if is_film or not one[0].of_films]
        if not found:
            names = ", ".join(f"'{choice.name}'" for choice, _ in self._choices)
            raise ConfigError(
                f"the fallback {names} reconstructs windows of frames, and this is a single frame: put 'window' "
                "before 'engine', or add {sense: {}} to engine.fallback"
            )
        late = {name for name, _ in self._late}
        return [one for one in found if one[0].name not in late] or found[-1:]

    def _is_late(self, item: KSpace, choice: Classical, took_ms: float) -> bool:
        """Whether a reconstruction that might have been another took too long, which settles it for the scan."""
        allowed_ms = pace_ms(item) if self._allowed == "pace" else self._allowed
        if allowed_ms is None or took_ms <= allowed_ms:
            return False
        times = f"took {took_ms:.0f} ms for a window, allowed are {allowed_ms:.0f} ms (engine.fallback_ms)"
        self._late.append((choice.name, times))
        self._scan.count("engine.fallback_late")
        self._scan.warn(
            f"'{choice.name}' is too slow a fallback for this scan: it {times}; the next one has its place"
        )
        return True

    def _told(self, image: Image) -> Image:
        if not self._late:
            return image
        meta = image.meta.copy()
        meta["ScansideFallbackTime"] = [f"{name} {times}" for name, times in self._late]
        return image.replace(meta=meta)


def wanted_frames(item: KSpace) -> KSpace:
    """Of a window, the frames whose images are wanted; anything else as it is."""
    if item.wanted is None:
        return item
    frames = [*item.wanted]
    return item.replace(
        data=item.data[frames], mask=item.mask[frames], headers=item.headers[frames], wanted=None
    )


def pace_ms(item: KSpace) -> float | None:
    """In how many milliseconds the scan acquires the wanted frames of a window; None where no times are known."""
    lines = item.headers[item.headers["version"] > 0]
    if not len(lines):
        return None
    span = float(np.ptp(Clock().ms(lines["acquisition_time_stamp"])))
    n_frames = len(item.headers) if item.other else 1
    n_wanted = n_frames if item.wanted is None else len(item.wanted)
    return span * n_wanted / n_frames or None
