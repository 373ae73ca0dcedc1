"""What is known of one session, put together from its events."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from scanside.engines.verdicts import CHECKS, FALLBACKS
from scanside_gadgetron.monitor.pictures import Picture
from scanside_gadgetron.pool.events import (
    ImageMade,
    Observation,
    Progress,
    SessionEnded,
    SessionOpened,
    SessionQueued,
    SessionStarted,
    StageRan,
    Warned,
)

__all__ = [
    "CHECKS",
    "FALLBACKS",
    "Session",
    "SessionEvent",
    "SessionState",
    "ShownImage",
    "StageTotal",
    "check_of",
    "classify",
]

SessionState: TypeAlias = Literal["queued", "running", "done", "failed", "lost"]

SessionEvent: TypeAlias = (
    SessionQueued
    | SessionStarted
    | SessionOpened
    | Progress
    | ImageMade
    | Observation
    | StageRan
    | Warned
    | SessionEnded
)

_KEPT_SPANS = 600
_KEPT_WARNINGS = 100

_COUNTERS = ("image_series_index", "slice", "contrast", "phase", "repetition", "set", "average")


def classify(reason: str) -> str:
    """The word that a reason for a fallback begins with; ``other`` for one that is not known."""
    word = reason.partition(":")[0].strip()
    return word if word in FALLBACKS else "other"


def check_of(facts: Mapping[str, Any]) -> tuple[str, float | None] | None:
    """What an image's self-check says, and by how many dB it predicts unseen lines better than the fallback.

    None where it was not checked, or in words that are not known.
    """
    word, *told = [*_texts(facts.get("ScansideCheck", [])), ""]
    if word not in CHECKS:
        return None
    try:
        return word, float(told[0].removesuffix(" dB"))
    except ValueError:
        return word, None


def ghost_of(facts: Mapping[str, Any]) -> float | None:
    """Level of the Nyquist ghost in an image, as a share of the signal; None where it was not measured."""
    try:
        return float(next(iter(_texts(facts.get("ScansideGhost", [])))))
    except (StopIteration, ValueError):
        return None


@dataclass(slots=True)
class StageTotal:
    """What a stage did so far."""

    items: int = 0
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that left, and its picture where there is one."""

    made: ImageMade
    picture: Picture | None

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        facts = self.made.facts
        return {
            "index": self.made.index,
            "time": self.made.time,
            "latency_ms": self.made.latency_ms,
            "fallback": self.made.fallback,
            "image_type": str(facts.get("image_type", "magnitude")),
            "counters": {name: int(facts[name]) for name in _COUNTERS if isinstance(facts.get(name), int)},
            "attributes": {
                name: _texts(value) for name, value in facts.items() if name.startswith("Scanside")
            },
            "picture": None if self.picture is None else asdict(self.picture),
        }


@dataclass(slots=True)
class Session:
    """One session.

    Attributes:
        id: its id.
        state: where it stands.
        since: seconds since the epoch when the first was heard of it.
        revision: grows with every change, over all sessions.
        images: those kept, by index.
        spans: latest work of stages: number of the stage, begin in s, duration in ms, items.
    """

    id: str
    since: float
    keep_images: int
    state: SessionState = "queued"
    revision: int = 0
    peer: str = ""
    worker: int | None = None
    waited_s: float = 0.0
    handed_over: bool = False
    started: float | None = None
    opened: float | None = None
    seconds: float | None = None
    pipeline: str = ""
    stages: list[str] = field(default_factory=list)
    scan: dict[str, Any] = field(default_factory=dict)
    engines: list[dict[str, str]] = field(default_factory=list)
    n_readouts: int = 0
    expected_readouts: int | None = None
    n_images: int = 0
    latency_ms: float | None = None
    images: dict[int, ShownImage] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)
    spans: deque[tuple[int, float, float, int]] = field(default_factory=lambda: deque(maxlen=_KEPT_SPANS))
    totals: dict[str, StageTotal] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    n_warnings: int = 0
    fallbacks: dict[str, list[Any]] = field(default_factory=dict)
    error: str = ""
    reported: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "failed", "lost")

    def take(self, event: SessionEvent, picture: Picture | None = None) -> list[ShownImage]:
        """Learn of an event.

        Args:
            event: of this session.
            picture: of the image that an `ImageMade` tells of.

        Returns:
            Images that are not kept any longer.
        """
        match event:
            case SessionQueued():
                self.peer = event.peer
            case SessionStarted():
                self.state, self.started = "running", event.time
                self.worker, self.peer = event.worker, event.peer
                self.waited_s, self.handed_over = event.waited_s, event.handed_over
            case SessionOpened():
                self.state, self.opened = "running", event.time
                self.pipeline, self.stages, self.scan = event.pipeline, list(event.stages), dict(event.scan)
            case Progress():
                self.n_readouts, self.n_images = event.n_readouts, max(self.n_images, event.n_images)
                self.expected_readouts = event.expected_readouts
            case ImageMade():
                return self._image(event, picture)
            case Observation():
                self.observations[event.what] = event
            case StageRan():
                self._stage(event)
            case Warned():
                self._warn(event.text)
            case SessionEnded():
                # A host that only asked is never shown, so that its outcome does not matter here.
                self.state = "done" if event.outcome == "query" else event.outcome
                self.error, self.reported, self.seconds = event.error, event.reported, event.seconds
                self.n_readouts = max(self.n_readouts, event.n_readouts)
                self.n_images = max(self.n_images, event.n_images)
        return []

    def _image(self, event: ImageMade, picture: Picture | None) -> list[ShownImage]:
        self.images[event.index] = ShownImage(event, picture)
        self.n_images = max(self.n_images, event.index + 1)
        self.latency_ms = event.latency_ms
        if event.fallback is not None:
            told = self.fallbacks.setdefault(classify(event.fallback), [0, event.fallback])
            told[0] += 1
        gone = sorted(self.images)[: -self.keep_images]
        return [self.images.pop(index) for index in gone]

    def _stage(self, event: StageRan) -> None:
        if event.stage not in self.stages:
            self.stages.append(event.stage)
        total = self.totals.setdefault(event.stage, StageTotal())
        total.items += event.items
        total.milliseconds += event.duration_ms
        self.spans.append((self.stages.index(event.stage), event.begin, event.duration_ms, event.items))

    def _warn(self, text: str) -> None:
        self.n_warnings += 1
        if text not in self.warnings and len(self.warnings) < _KEPT_WARNINGS:
            self.warnings.append(text)

    def summary(self) -> dict[str, Any]:
        """What the list of sessions shows."""
        return {
            "id": self.id,
            "state": self.state,
            "since": self.since,
            "started": self.started,
            "seconds": self.seconds,
            "pipeline": self.pipeline,
            "protocol": str(self.scan.get("protocol", "")),
            "worker": self.worker,
            "n_readouts": self.n_readouts,
            "expected_readouts": self.expected_readouts,
            "n_images": self.n_images,
            "n_warnings": self.n_warnings,
            "n_fallbacks": sum(count for count, _ in self.fallbacks.values()),
            "latency_ms": self.latency_ms,
            "error": self.error,
            "revision": self.revision,
        }

    def detail(self, after_image: int = -1) -> dict[str, Any]:
        """All that the page shows of it.

        Args:
            after_image: leave out images up to this index, which the page knows already.
        """
        return {
            **self.summary(),
            "peer": self.peer,
            "opened": self.opened,
            "waited_s": self.waited_s,
            "handed_over": self.handed_over,
            "reported": self.reported,
            "stages": self.stages,
            "scan": self.scan,
            "engines": self.engines,
            "warnings": self.warnings,
            "fallbacks": [
                {"reason": reason, "count": count, "text": text}
                for reason, (count, text) in self.fallbacks.items()
            ],
            "observations": {what: observed.file for what, observed in self.observations.items()},
            "spans": list(self.spans),
            "totals": {name: asdict(total) for name, total in self.totals.items()},
            "first_image": min(self.images, default=0),
            "images": [
                shown.as_json() for index, shown in sorted(self.images.items()) if index > after_image
            ],
        }


def _texts(value: Any) -> list[str]:
    return (
        [str(one) for one in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else [str(value)]
    )
