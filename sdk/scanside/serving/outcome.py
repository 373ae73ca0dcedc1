"""What becomes of a session, and who watches it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from scanside.items import Image, Item
from scanside.pipeline import Pipeline
from scanside.scan import Scan
from scanside.serving.request import Request
from scanside.trace import Trace

__all__ = [
    "Guarded",
    "Outcome",
    "SessionObserver",
]

logger = logging.getLogger(__name__)


class SessionObserver(Protocol):
    """Watches a session, for a log, a page or metrics.

    Its methods are called from the session's threads, in the middle of the work: they must be quick and must change
    nothing of what they see. What they raise is logged, and costs no scan.

    Attributes:
        trace: where the times of the stages are noted.
    """

    trace: Trace

    def opened(self, request: Request, scan: Scan, pipeline: Pipeline) -> None:
        """The pipeline is there, and the scan begins."""

    def gave(self, stage: str, item: Item) -> None:
        """A stage gave an item, which later stages may change in place."""

    def progressed(self, outcome: Outcome) -> None:
        """Readouts came or images went."""

    def sent(self, image: Image) -> None:
        """An image went to the peer."""

    def ended(self, outcome: Outcome) -> None:
        """The session is over, whether it had been opened or not."""


@dataclass
class Outcome:
    """What became of a session.

    Attributes:
        scan: None where the session ended before its header could be read.
        query: whether the host only asked whether somebody is there.
        error: what went wrong, or None.
        reported: whether the error was handed to the peer.
        n_readouts: readouts that came.
        n_images: images that were sent.
        seconds: from the opening to the end.
        trace: times of the stages.
    """

    scan: Scan | None = None
    query: bool = False
    error: Exception | None = None
    reported: bool = False
    n_readouts: int = 0
    n_images: int = 0
    seconds: float = 0.0
    trace: Trace = field(default_factory=Trace)


class Guarded:
    """An observer whose mistakes cost no scan: they are logged."""

    def __init__(self, observer: SessionObserver) -> None:
        self._observer = observer
        self.trace = observer.trace

    @classmethod
    def of(cls, observer: SessionObserver | None) -> SessionObserver | None:
        """An observer that is guarded, once; None of none."""
        return observer if observer is None or isinstance(observer, cls) else cls(observer)

    def opened(self, request: Request, scan: Scan, pipeline: Pipeline) -> None:
        """As `SessionObserver.opened`."""
        self._tell(lambda: self._observer.opened(request, scan, pipeline))

    def gave(self, stage: str, item: Item) -> None:
        """As `SessionObserver.gave`."""
        self._tell(lambda: self._observer.gave(stage, item))

    def progressed(self, outcome: Outcome) -> None:
        """As `SessionObserver.progressed`."""
        self._tell(lambda: self._observer.progressed(outcome))

    def sent(self, image: Image) -> None:
        """As `SessionObserver.sent`."""
        self._tell(lambda: self._observer.sent(image))

    def ended(self, outcome: Outcome) -> None:
        """As `SessionObserver.ended`."""
        self._tell(lambda: self._observer.ended(outcome))

    @staticmethod
    def _tell(what: Callable[[], None]) -> None:
        try:
            what()
        except Exception:
            logger.exception("whoever watches the session could not take what happened")
