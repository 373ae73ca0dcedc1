"""Frames of a film, joined into windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside.items import Calibration, KSpace
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.stages._finite import check_finite
from scanside.stages._frames import joined_ranges, reference_of

__all__ = ["JoinFrames"]

_TOLD = 8  # so many flaws of films are told one by one
_WRAP = 1 << 16  # counters have 16 bits: an endless series begins again at 0

_Key = tuple[int, tuple[tuple[str, int], ...]]


class JoinFrames(Stage[Calibration | KSpace, KSpace]):
    """Joins k-spaces of single frames into windows of several, which later stages reconstruct together.

    Frames are those that differ in one counter only; each slice, contrast, … has a film of its own. A window leaves
    as soon as its last frame has come. It is a `KSpace` with a leading axis of frames, `size` of them, and
    `KSpace.wanted` says which of them become images: each frame of the film in exactly one window. In the middle of a
    film these are `stride` frames with `look_ahead` later ones behind them; the first window gives all before
    them too, the last one all behind. In a beat that closes (`cyclic`) no frame is the first or the last: what
    lacks neighbours waits for the end of the beat. The meta attribute ``ScansideWindow`` tells the frames.

    Whatever can be made of a damaged film is made, and the operator told: frames that are missing or come again (they
    stay in the order in which they came), a matrix that changes (a new film begins), a scan that ends early, a film
    that is shorter than the window (its frames are mirrored to fill it, or repeated in a beat that closes).

    `KSpace.reference` of a window is the fully sampled middle of the average over the first window's frames, where it
    holds more lines than the frames' own calibration lines; a calibration of single frames is not handed on.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            along: the counter that tells the frames apart.
            size: frames of a window.
            stride: frames from one window to the next.
            look_ahead: frames of a window behind the last one whose image it gives: so many frames later an image
                leaves.
            cyclic: the film is one beat, and its first frame follows its last one.
            calibrate: ``first``: the reference of a film's first window serves all of it, so that coil maps are
                made once; ``each``: every window has its own.
        """

        along: Literal["phase", "repetition"] = "repetition"
        size: int = Field(7, ge=1)
        stride: int = Field(1, ge=1)
        look_ahead: int = Field(2, ge=0)
        cyclic: bool = False
        calibrate: Literal["first", "each"] = "first"

        @model_validator(mode="after")
        def _fits(self) -> JoinFrames.Config:
            if self.stride + self.look_ahead > self.size:
                raise ValueError(
                    f"a window of {self.size} frames cannot give {self.stride} images with {self.look_ahead} frames "
                    "behind them: raise size, or lower stride or look_ahead"
                )
            return self

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Films of at least a window's length."""
        along, size = self.config.along, self.config.size
        n = outline.values.get(along, 1)
        joined = replace(outline, window=size)
        if n >= size:
            return joined
        found = (
            f"the scan has {n} values of the counter {along}"
            if n > 1
            else f"the scan has no film along {along}"
        )
        others = {"repetition", "phase"} - {along}
        hint = "".join(
            f"; for its {outline.values[other]} values of {other} set window.along"
            for other in others
            if outline.values.get(other, 1) >= size
        )
        return joined.doubted(
            f"{found}, and windows hold {size} frames, which are filled with mirrored ones{hint}"
        )

    def open(self, scan: Scan) -> None:
        """A new scan: no frame is held."""
        self._scan = scan
        scan.joins_frames = True
        self._films: dict[_Key, _Film] = {}
        self._n_told = 0

    def process(self, item: Calibration | KSpace) -> Iterator[KSpace]:
        """Take a frame; give the windows that it completes."""
        if isinstance(item, Calibration):
            return
        self._check(item)
        key = self._key(item)
        film = self._films.get(key)
        if film is not None and (changed := _difference(film.frames[-1], item)):
            self._tell(
                f"{self._name(item)}: {changed}; the film so far ends, and a new one begins with this frame"
            )
            yield from self._end(self._films.pop(key), closed=False)
            film = None
        if film is None:
            yield from self._moved_on(key)
            film = self._films[key] = _Film(due=self._before if self.config.cyclic else 0)
        elif told := _gap(film.last(self.config.along), item.counters[self.config.along], self.config.along):
            self._tell(told)
        film.frames.append(item)
        film.counters.add(item.counters[self.config.along])
        yield from self._full(film)
        limit = item.encoding.limits.get(self.config.along)
        if limit is not None and len(film.counters) == limit.n:
            yield from self._end(self._films.pop(key), closed=True)

    def finish(self, end: ScanEnd) -> Iterator[KSpace]:
        """Give the last windows of films of which nobody knew that they were over."""
        for film in self._films.values():
            if not end.complete:
                last = film.frames[-1]
                self._scan.warn(
                    f"the film ends early, with {self._name(last)}: {end.reason or 'the scan ended early'}"
                )
            yield from self._end(film, closed=end.complete)
        self._films = {}

    def close(self) -> None:
        """Forget the frames."""
        self._films = {}

    @property
    def _before(self) -> int:
        """Frames of a window before the first one whose image it gives, in the middle of a film."""
        return self.config.size - self.config.look_ahead - self.config.stride

    def _check(self, item: KSpace) -> None:
        along = self.config.along
        if item.other or along not in item.counters:
            raise ConfigError(
                f"this k-space holds {item.other or 'no'} frames together already: leave {along} out of "
                "accumulate.together, so that 'window' gets single frames"
            )

    def _key(self, item: KSpace) -> _Key:
        others = {name: value for name, value in item.counters.items() if name != self.config.along}
        return item.encoding.index, tuple(sorted(others.items()))

    def _name(self, item: KSpace) -> str:
        names = (name for name in item.counters if name in ("slice", self.config.along))
        return ", ".join(f"{name} {item.counters[name]}" for name in names)

    def _moved_on(self, key: _Key) -> Iterator[KSpace]:
        """End the films of earlier repetitions: beats that lack a frame would be held for ever."""
        if self.config.along == "repetition":
            return
        new = dict(key[1])
        for other in list(self._films):
            old = dict(other[1])
            earlier = old.pop("repetition", 0) < new.get("repetition", 0)
            if earlier and old == {name: new[name] for name in new if name != "repetition"}:
                yield from self._end(self._films.pop(other), closed=True)

    def _tell(self, text: str) -> None:
        self._n_told += 1
        if self._n_told <= _TOLD:
            self._scan.warn(text)
        elif self._n_told == _TOLD + 1:
            self._scan.warn("more is wrong with the films of this scan than is told here")

    def _full(self, film: _Film) -> Iterator[KSpace]:
        """The windows whose last frame has come."""
        size, stride, ahead = self.config.size, self.config.stride, self.config.look_ahead
        while True:
            stop = film.due + (size - ahead if film.due == 0 and not self.config.cyclic else stride)
            if film.n < stop + ahead:
                return
            first = stop + ahead - size
            wanted = range(film.due - first, stop - first)
            film.due = stop
            yield self._window(film, range(first, first + size), wanted)
            if not self.config.cyclic:  # the last window may need as many as a window has
                film.drop(film.n - size)

    def _end(self, film: _Film, *, closed: bool) -> Iterator[KSpace]:
        """The windows of the frames that have given no image yet."""
        size, n = self.config.size, film.n
        if n < size:
            self._tell(
                f"the film of {n} frames that ends with {self._name(film.frames[-1])} is shorter than the window of "
                f"{size}: its frames serve more than once to fill it (window.size)"
            )
        if self.config.cyclic and closed:
            while film.due < self._before + n:
                wanted = range(
                    self._before, self._before + min(self.config.stride, self._before + n - film.due)
                )
                numbers = [(film.due - self._before + i) % n for i in range(size)]
                film.due += len(wanted)
                yield self._window(film, numbers, wanted)
            return
        if n < size:
            yield self._window(film, _mirrored(n, size), range(n))
            return
        if self.config.cyclic and self._before:
            yield self._window(film, range(size), range(self._before))
        if film.due < n:
            yield self._window(film, range(n - size, n), range(film.due - n + size, size))

    def _window(self, film: _Film, numbers: Sequence[int], wanted: Sequence[int]) -> KSpace:
        along = self.config.along
        frames = [film.frames[number - film.dropped] for number in numbers]
        first = frames[0]
        if film.reference is None or self.config.calibrate == "each":
            film.reference = _reference(frames)
        meta = first.meta.copy()
        meta["ScansideWindow"] = [along, *(str(frame.counters[along]) for frame in frames)]
        flaws = dict.fromkeys(frame.incomplete for frame in frames if frame.incomplete is not None)
        return first.replace(
            data=torch.stack([frame.data for frame in frames]),
            mask=torch.stack([frame.mask for frame in frames]),
            headers=np.stack([frame.headers for frame in frames]),
            other=(along,),
            counters={name: value for name, value in first.counters.items() if name != along},
            ranges=joined_ranges(frames),
            reference=film.reference,
            incomplete="; ".join(flaws) or None,
            meta=meta,
            wanted=tuple(wanted),
        )


@dataclass
class _Film:
    """The frames of one film that may still be needed.

    Attributes:
        due: number of the next frame whose image is to be made.
        frames: in the order in which they came.
        dropped: how many came before these.
        counters: values of the frames' counter.
        reference: calibration lines that the windows share.
    """

    due: int
    frames: list[KSpace] = field(default_factory=list)
    dropped: int = 0
    counters: set[int] = field(default_factory=set)
    reference: KSpace | None = None

    @property
    def n(self) -> int:
        """How many frames came."""
        return self.dropped + len(self.frames)

    def last(self, along: str) -> int:
        """Counter of the last frame."""
        return self.frames[-1].counters[along]

    def drop(self, before: int) -> None:
        """Forget the frames with smaller numbers."""
        del self.frames[: max(before - self.dropped, 0)]
        self.dropped = max(before, self.dropped)


def _difference(a: KSpace, b: KSpace) -> str | None:
    """Why two frames cannot stand in one window, or None."""
    if a.data.shape != b.data.shape:
        return f"the k-space changes from {tuple(a.data.shape)} to {tuple(b.data.shape)} (coil, k2, k1, k0)"
    if a.extent_mm != b.extent_mm:
        return f"the field of view changes from {a.extent_mm} to {b.extent_mm} mm"
    if "ScansideCoilCompression" in b.meta and a.reference is not b.reference:
        raise ConfigError(
            "every frame was compressed to virtual coils of its own, which must not stand in one window: put "
            "'coil-compression' behind 'window'"
        )
    return None


def _gap(before: int, now: int, along: str) -> str | None:
    """What is wrong with the order of two frames that came one after the other, or None."""
    if (now - before) % _WRAP == 1:
        return None
    if now > before:
        lost = f"{along} {before + 1}" + (f" to {now - 1}" if now > before + 2 else "")
        return f"frames are missing: {lost} did not come; windows join the frames beside the gap"
    return f"{along} {now} came after {before}: frames stay in the order in which they came"


def _mirrored(n: int, size: int) -> list[int]:
    """Numbers of `size` frames, to and fro over `n`."""
    period = max(2 * (n - 1), 1)
    return [min(i % period, period - i % period) if n > 1 else 0 for i in range(size)]


def _reference(frames: Sequence[KSpace]) -> KSpace | None:
    """The fully sampled middle of the frames' average, or their own calibration lines where these are more."""
    for frame in frames:
        check_finite(frame.data, frame)
    own, together = frames[0].reference, reference_of(frames)
    if together is None or (own is not None and own.mask.numel() >= together.mask.numel()):
        return own
    return together
