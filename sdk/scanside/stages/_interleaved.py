"""Calibration over frames that were sampled in turns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from scanside.items import KSpace
from scanside.losses import lattice_gaps
from scanside.stages._calibration import has_middle
from scanside.stages._frames import reference_of

__all__ = ["InterleavedCalibration"]

_Key = tuple[int, tuple[tuple[str, int], ...]]


@dataclass
class _Series:
    """Frames that differ in time only, and what was found of them."""

    held: list[KSpace] = field(default_factory=list)
    reference: KSpace | None = None
    in_vain: bool = False


class InterleavedCalibration:
    """Gives frames without calibration lines the average of several, where these hold all lines together.

    Of undersampled frames with other lines in each (TSENSE, TGRAPPA) none can be calibrated alone. The first ones
    are held until their lines together have no gap; their average is the reference of the whole series.

    Kellman, Epstein, McVeigh, Magn Reson Med 2001;45:846. Breuer, Kellman, Griswold, Jakob, Magn Reson Med
    2005;53:981.
    """

    def __init__(self) -> None:
        self._series: dict[_Key, _Series] = {}

    def take(self, frame: KSpace) -> list[KSpace]:
        """A frame in; those out that can be reconstructed now, in order."""
        if not _needs_others(frame):
            return [frame]
        others = {name: n for name, n in frame.counters.items() if name not in ("repetition", "phase")}
        series = self._series.setdefault((frame.encoding.index, tuple(sorted(others.items()))), _Series())
        if series.reference is not None:
            return [frame.replace(reference=series.reference)]
        if series.in_vain or (series.held and series.held[0].data.shape != frame.data.shape):
            return [*self._release(series), frame]
        series.held.append(frame)
        together = torch.stack([one.mask for one in series.held]).any(0).cpu().numpy()
        whole = bool(together.any()) and not lattice_gaps(together, (1, 1)).any()
        if whole or len(series.held) >= _patience(frame):
            series.reference = reference_of(series.held)
            return self._release(series)
        return []

    def rest(self) -> Iterator[KSpace]:
        """The scan has ended: frames that still wait, with what calibration they make."""
        for series in self._series.values():
            if series.held:
                series.reference = reference_of(series.held)
                yield from self._release(series)

    def _release(self, series: _Series) -> list[KSpace]:
        held, series.held = series.held, []
        series.in_vain = series.reference is None
        return [frame.replace(reference=series.reference) for frame in held]


def _needs_others(frame: KSpace) -> bool:
    """Whether a frame has no calibration lines, and other frames may come."""
    encoding = frame.encoding
    if frame.reference is not None or frame.other or not bool(frame.mask.any()):
        return False
    if encoding.calibration_mode != "interleaved" and all(
        encoding.limit(name).n == 1 for name in ("repetition", "phase")
    ):
        return False
    return not has_middle(frame)


def _patience(frame: KSpace) -> int:
    """How many frames may take turns: twice as many as are needed, for lines that are not shifted regularly."""
    sampled = frame.mask.any(0), frame.mask.any(1)
    n_lines = math.prod(int(along.nonzero().max() - along.nonzero().min()) + 1 for along in sampled)
    header = math.prod(frame.encoding.acceleration)
    return 2 * max(header, math.ceil(n_lines / int(frame.mask.sum())))
