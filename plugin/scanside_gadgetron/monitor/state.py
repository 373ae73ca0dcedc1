"""All that the live page knows: the sessions and the workers, put together from events."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import time
from typing import Any, Literal

from scanside.errors import FileFormatError
from scanside_gadgetron.monitor.pictures import Picture, describe_picture, open_array
from scanside_gadgetron.monitor.session import Session, SessionEvent
from scanside_gadgetron.pool.events import (
    Event,
    ImageMade,
    Observation,
    SessionEnded,
    SessionOpened,
    SessionQueued,
    SessionRefused,
    SessionStarted,
    WorkerEnded,
    WorkerMemory,
    WorkerReady,
    WorkerStarted,
)

__all__ = ["LiveState", "Worker"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """A worker process.

    Attributes:
        id: its number.
        pid: of the process.
        device: where its engines run.
        state: ``loading`` its pipelines, ``ready`` for a session, or ``busy`` with one.
        session: the id of that one.
        load_s: how long it took to be ready.
        pipelines: see `WorkerReady`.
        gpu_bytes: see `WorkerMemory`.
    """

    id: int
    pid: int
    device: str
    state: Literal["loading", "ready", "busy"] = "loading"
    session: str | None = None
    load_s: float | None = None
    pipelines: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    gpu_bytes: int | None = None


class LiveState:
    """Sessions and workers as they are now; one thread tells it of events, any thread may ask.

    Sessions that are over remain until ``keep_sessions`` later ones are over too; then their folders are removed.

    Args:
        folder: holds a folder for each session.
        keep_sessions: how many sessions that are over remain.
        keep_images: how many images of each.
    """

    def __init__(self, folder: Path, keep_sessions: int = 20, keep_images: int = 512) -> None:
        self.folder = folder
        self._keep_sessions = keep_sessions
        self._keep_images = keep_images
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._workers: dict[int, Worker] = {}
        self._refused: dict[str, int] = {}
        self._revision = 0
        self._began = time()

    def session_folder(self, session: str) -> Path:
        """Where a session's pictures lie.

        Raises:
            FileFormatError: that is no session's id.
        """
        if Path(session).name != session or session in ("", ".", ".."):
            raise FileFormatError(f"'{session}' cannot be the id of a session: it is no name of a folder")
        return self.folder / session

    @property
    def revision(self) -> int:
        """Grows whenever something changed."""
        return self._revision

    def take(self, event: Event) -> None:
        """Learn of an event."""
        # Files are read and removed without the lock: a slow disk must not hold up those who ask.
        picture = self._picture(event) if isinstance(event, ImageMade) else None
        with self._lock:
            self._revision += 1
            if isinstance(event, WorkerStarted | WorkerReady | WorkerMemory | WorkerEnded):
                self._take_worker(event)
                return
            if isinstance(event, SessionRefused):
                self._sessions.pop(event.session, None)
                self._refused[event.reason] = self._refused.get(event.reason, 0) + 1
                return
            unwanted = self._take_session(event, picture)
        for path in unwanted:
            _remove(path)

    def _take_worker(self, event: WorkerStarted | WorkerReady | WorkerMemory | WorkerEnded) -> None:
        if isinstance(event, WorkerStarted):
            self._workers[event.worker] = Worker(event.worker, event.pid, event.device)
            return
        worker = self._workers.get(event.worker)
        if worker is None:
            return
        match event:
            case WorkerReady():
                worker.state = "ready"
                worker.load_s, worker.pipelines = event.seconds, event.pipelines
            case WorkerMemory():
                worker.gpu_bytes = event.gpu_bytes
            case WorkerEnded():
                # One of the same number may have taken its place already.
                if worker.pid == event.pid:
                    del self._workers[event.worker]

    def _take_session(self, event: SessionEvent, picture: Picture | None) -> list[Path]:
        """Tell a session of its event; what is to be removed from the disk."""
        session = self._sessions.get(event.session)
        if session is None:
            if not isinstance(event, SessionQueued | SessionStarted | SessionOpened):
                return []
            session = self._sessions[event.session] = Session(event.session, event.time, self._keep_images)
        session.revision = self._revision
        earlier = session.observations.get(event.what) if isinstance(event, Observation) else None
        gone = session.take(event, picture)
        unwanted = [self.folder / session.id / shown.made.file for shown in gone if shown.picture]
        if isinstance(earlier, Observation) and earlier.file != session.observations[earlier.what].file:
            unwanted.append(self.folder / session.id / Path(earlier.file).name)
        self._place(session, event)
        if isinstance(event, SessionEnded):
            if event.outcome == "query":
                del self._sessions[session.id]
                unwanted.append(self.folder / session.id)
            over = [one for one in self._sessions.values() if one.is_over]
            for old in sorted(over, key=lambda one: one.revision)[: -self._keep_sessions]:
                del self._sessions[old.id]
                unwanted.append(self.folder / old.id)
        return unwanted

    def _place(self, session: Session, event: SessionEvent) -> None:
        """Keep in step who works on what."""
        worker = self._workers.get(session.worker) if session.worker is not None else None
        if worker is None:
            return
        match event:
            case SessionStarted():
                worker.state, worker.session = "busy", session.id
            case SessionOpened():
                session.engines = worker.pipelines.get(event.pipeline, [])
            case SessionEnded() if worker.session == session.id:
                worker.state, worker.session = "ready", None

    def _picture(self, event: ImageMade) -> Picture | None:
        if not event.file:
            return None
        try:
            array = open_array(self.session_folder(event.session), event.file)
            return describe_picture(array, event.facts)
        except FileFormatError as error:
            logger.warning("image %d of session %s is not shown: %s", event.index, event.session, error)
            return None

    def overview(self, after: int = -1) -> dict[str, Any]:
        """What is new: the workers, the ids of all sessions, and those that changed.

        ``began`` tells one life of a server, which counts sessions and revisions from 0, from another.

        Args:
            after: the revision that is known already; -1 for everything.
        """
        with self._lock:
            changed = [one.summary() for one in self._sessions.values() if one.revision > after]
            return {
                "began": self._began,
                "revision": self._revision,
                "workers": [asdict(worker) for _, worker in sorted(self._workers.items())],
                "refused": dict(self._refused),
                "ids": list(self._sessions),
                "sessions": changed,
            }

    def detail(self, session: str, after_image: int = -1) -> dict[str, Any] | None:
        """All of one session, see `Session.detail`; None if there is none of that id."""
        with self._lock:
            found = self._sessions.get(session)
            return None if found is None else found.detail(after_image)

    def image_file(self, session: str, index: int) -> str | None:
        """The file of an image; None where there is none."""
        with self._lock:
            found = self._sessions.get(session)
            shown = None if found is None else found.images.get(index)
            return None if shown is None or shown.picture is None else shown.made.file

    def first_image_file(self, session: str) -> str | None:
        """The file of the earliest image that is kept; None where there is none."""
        with self._lock:
            found = self._sessions.get(session)
            indices = [] if found is None else [i for i, shown in found.images.items() if shown.picture]
        return self.image_file(session, min(indices)) if indices else None

    def observation_file(self, session: str, what: str) -> str | None:
        """The file of an observation; None where there is none."""
        with self._lock:
            found = self._sessions.get(session)
            observed = None if found is None else found.observations.get(what)
            return None if observed is None else observed.file

    def workers(self) -> list[Worker]:
        """Copies of the workers."""
        with self._lock:
            return [Worker(**asdict(worker)) for worker in self._workers.values()]

    def count(self, state: str) -> int:
        """How many sessions are in a state."""
        with self._lock:
            return sum(one.state == state for one in self._sessions.values())


def _remove(path: Path) -> None:
    """Remove a file or folder; one that cannot be removed must not end the page."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s is left on the disk: %s", path, error)
