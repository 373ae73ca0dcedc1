"""Films: images that show the same slice at different times."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from scanside.mrd.dtypes import TICK_MS
from scanside.report.views import View, Window, image_views, select, window_of

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["Film", "film_window", "films_of", "gif_of", "liveliest_row"]

_SHORTEST = 3  # frames
_BEAT_MS = 1000.0
_AT_MOST = 100  # frames of a GIF
_PLAYED_MS = (20.0, 500.0)


@dataclass(frozen=True, eq=False)
class Film:
    """Pictures of one slice in the order of time.

    Attributes:
        views: of the frames, of one kind and size.
        along: the counter that tells them apart.
        frame_ms: time from one to the next; None where it is not known.
    """

    views: Sequence[View]
    along: Literal["phase", "repetition"]
    frame_ms: float | None

    @property
    def pixels(self) -> npt.NDArray[np.float64]:
        """``(time, row, column)``."""
        return np.stack([view.pixels for view in self.views])

    @property
    def played_ms(self) -> float:
        """How long a frame is shown: as long as it took, or such that all of them make a beat of a second."""
        shortest, longest = _PLAYED_MS
        return min(max(self.frame_ms or _BEAT_MS / len(self.views), shortest), longest)


def films_of(images: Sequence[Image]) -> list[Film]:
    """Films among images: at least three of one slice of one series that differ in phase or in repetition only."""
    found: dict[tuple[object, ...], list[Image]] = defaultdict(list)
    for image in images:
        if image.data.shape[1] == 1:
            header = image.header
            counters = (int(header[name]) for name in ("slice", "contrast", "set", "average"))
            found[(int(header["image_series_index"]), *counters, tuple(image.data.shape))].append(image)
    films = []
    for group in found.values():
        phases, repetitions = (
            {int(image.header[name]) for image in group} for name in ("phase", "repetition")
        )
        along: Literal["phase", "repetition"] = "phase" if len(phases) > 1 else "repetition"
        frames = {int(image.header[along]): image for image in group}
        if min(len(phases), len(repetitions)) > 1 or len(frames) < _SHORTEST:
            continue
        ordered = [frames[number] for number in sorted(frames)]
        views = [image_views(image)[0] for image in ordered]
        films.append(Film(views, along, _frame_ms(ordered) if along == "repetition" else None))
    return films


def film_window(film: Film) -> Window:
    """Grey values in which what moves is seen well; of magnitudes, brighter things that keep still are all white."""
    whole = window_of(film.views)
    if film.views[0].kind != "magnitude":
        return whole
    pixels = film.pixels
    change = pixels.std(axis=0)
    moving = pixels[:, change > 0.5 * change.max()]
    high = 1.25 * float(np.percentile(moving, 99)) if moving.size else 0.0
    if not 0 < high < whole.high:
        return whole
    return Window(0.0, high, float((pixels > high).mean()))


def gif_of(film: Film, window: Window) -> bytes:
    """The film as an endless GIF in shades of grey, its pixels made square; long ones show evenly spread frames."""
    chosen = select(len(film.views), _AT_MOST)
    span = window.high - window.low or 1.0
    height_mm, width_mm = film.views[0].size_mm
    rows = film.views[0].pixels.shape[0]
    size = (max(round(rows * width_mm / height_mm), 1), rows)
    frames = [
        PillowImage.fromarray(
            np.clip(255 * (film.views[i].pixels - window.low) / span, 0, 255).round().astype(np.uint8)
        ).resize(size, PillowImage.Resampling.BICUBIC)
        for i in chosen
    ]
    buffer = io.BytesIO()
    duration = round(film.played_ms * len(film.views) / len(chosen))
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=duration,
        loop=0,
        optimize=False,
    )
    return buffer.getvalue()


def liveliest_row(film: Film) -> int:
    """The row of the pictures in which most changes with time."""
    change = film.pixels.std(axis=0).sum(axis=1)
    # A mean over a few rows, so that a single noisy one is not taken.
    return int(np.argmax(np.convolve(change, np.ones(5), mode="same")))


def _frame_ms(images: Sequence[Image]) -> float | None:
    stamps = np.array([int(image.header["acquisition_time_stamp"]) for image in images])
    step = float(np.median(np.diff(stamps))) * TICK_MS
    return step if step > 0 else None
