"""What happens in a pool of workers, as its log, its metrics and its live page learn of it.

Events travel from a worker to the server as JSON, one object each, and go from there to whoever subscribed. They
hold no field of a scan's header that identifies a person.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

__all__ = [
    "Event",
    "ImageMade",
    "Observation",
    "Progress",
    "SessionEnded",
    "SessionOpened",
    "SessionQueued",
    "SessionRefused",
    "SessionStarted",
    "StageRan",
    "Warned",
    "WorkerEnded",
    "WorkerMemory",
    "WorkerReady",
    "WorkerStarted",
    "dump",
    "parse",
]


class _Event(BaseModel):
    """Something that happened at a time.

    Attributes:
        time: seconds since the epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: float


class _OfSession(_Event):
    """Something that happened in a session.

    Attributes:
        session: the session's id, unique for the life of the server and good as a file name.
    """

    session: str


class WorkerStarted(_Event):
    """A worker process began to load its pipelines."""

    kind: Literal["worker-started"] = "worker-started"
    worker: int
    pid: int
    device: str


class WorkerReady(_Event):
    """A worker has its pipelines prepared, its engines accepted and warmed up.

    Attributes:
        seconds: how long that took.
        pipelines: those that are prepared, each with its engines: ``bundle``, ``backend``, ``precision``,
            ``weights``.
    """

    kind: Literal["worker-ready"] = "worker-ready"
    worker: int
    seconds: float
    pipelines: dict[str, list[dict[str, str]]] = Field(default_factory=dict)


class WorkerMemory(_Event):
    """How much of its GPU a worker holds; sent when it is ready and after each session, where there is a GPU.

    Attributes:
        gpu_bytes: what PyTorch holds there for the process' networks and tensors; engines of TensorRT keep their
            weights beside it.
    """

    kind: Literal["worker-memory"] = "worker-memory"
    worker: int
    gpu_bytes: int


class WorkerEnded(_Event):
    """A worker process is no more.

    Attributes:
        reason: ``stopped`` (asked to), ``died``, ``hung`` (the watchdog ended it), ``leaked`` (past its limit of
            memory) or ``reloaded``.
        detail: exit status or limit, for the log.
    """

    kind: Literal["worker-ended"] = "worker-ended"
    worker: int
    pid: int
    reason: Literal["stopped", "died", "hung", "leaked", "reloaded"]
    detail: str = ""


class SessionQueued(_OfSession):
    """A connection waits for a worker.

    Attributes:
        depth: how many wait, this one included.
    """

    kind: Literal["session-queued"] = "session-queued"
    peer: str
    depth: int


class SessionRefused(_OfSession):
    """A connection was turned away.

    Attributes:
        reason: ``queue-full``, ``not-allowed``, ``stopping`` or ``tls``.
    """

    kind: Literal["session-refused"] = "session-refused"
    peer: str
    reason: Literal["queue-full", "not-allowed", "stopping", "tls"]


class SessionStarted(_OfSession):
    """A worker took a connection.

    Attributes:
        waited_s: how long it was in the queue.
        handed_over: whether a node that Gadgetron executed handed it over.
    """

    kind: Literal["session-started"] = "session-started"
    worker: int
    peer: str
    waited_s: float
    handed_over: bool = False


class SessionOpened(_OfSession):
    """Configuration and header of a session's scan were read.

    Attributes:
        pipeline: its name.
        stages: the labels of its stages, in order.
        scan: facts of the header that identify nobody: matrix, field of view, coils, protocol, accelerations.
    """

    kind: Literal["session-opened"] = "session-opened"
    pipeline: str
    stages: list[str]
    scan: dict[str, Any] = Field(default_factory=dict)


class Progress(_OfSession):
    """How far a session is; sent a few times a second at most.

    Attributes:
        expected_readouts: about how many the header announces; None where it does not say, or more have come.
    """

    kind: Literal["progress"] = "progress"
    n_readouts: int
    n_images: int
    expected_readouts: int | None = None


class ImageMade(_OfSession):
    """An image left.

    Attributes:
        index: counts from 0 in the session.
        file: a ``.npy`` in the session's folder, whole before the event is sent: float32 or uint16 magnitude
            ``(z, y, x)``; empty where none was kept.
        facts: of the header ``image_series_index``, ``image_type`` (a name of `IMAGE_TYPES`), the counters ``slice``,
            ``contrast``, ``phase``, ``repetition``, ``set``, ``average``, and ``position``, ``read_dir``,
            ``phase_dir``, ``slice_dir`` (LPS), ``field_of_view`` (x, y, z; mm); of the meta attributes those that
            begin with ``Scanside``, under their names, each a list of texts. What is absent is not shown.
        fallback: why a classical reconstruction stood in for the engine: the meta attribute ``ScansideFallback``
            after its first entry, ``size: …``; or None.
        latency_ms: from the item that completed it to its leaving.
    """

    kind: Literal["image"] = "image"
    index: int
    file: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)
    fallback: str | None = None
    latency_ms: float = 0.0


class Observation(_OfSession):
    """Something between raw data and image that is worth a look.

    Attributes:
        what: ``sampling``: uint8 ``(k2, k1)``, 1 for lines of the image, 2 for calibration lines, 3 for both;
            ``noise``: the coils' covariance, complex ``(coil, coil)``; ``coils``: sensitivities of one slice, complex
            ``(coil, z, y, x)``.
        file: a ``.npy`` in the session's folder, whole before the event is sent. A later one of the same kind takes
            its place on the page.
    """

    kind: Literal["observation"] = "observation"
    what: Literal["sampling", "noise", "coils"]
    file: str


class StageRan(_OfSession):
    """A stage worked; short items of a stage are joined to one of these.

    Attributes:
        begin: seconds since the session was opened.
        duration_ms: time inside the stage's own code.
        items: how many items went through.
    """

    kind: Literal["stage"] = "stage"
    stage: str
    begin: float
    duration_ms: float
    items: int = 1


class Warned(_OfSession):
    """Something that an operator should know."""

    kind: Literal["warning"] = "warning"
    text: str


class SessionEnded(_OfSession):
    """A session is over.

    Attributes:
        outcome: ``done``; ``failed``: an error that was reported; ``lost``: the peer or the worker went away;
            ``query``: a host that only asked whether somebody is there.
        error: what was reported.
        reported: whether the peer took the report.
    """

    kind: Literal["session-ended"] = "session-ended"
    outcome: Literal["done", "failed", "lost", "query"]
    error: str = ""
    reported: bool = False
    n_readouts: int = 0
    n_images: int = 0
    seconds: float = 0.0


Event: TypeAlias = Annotated[
    WorkerStarted
    | WorkerReady
    | WorkerMemory
    | WorkerEnded
    | SessionQueued
    | SessionRefused
    | SessionStarted
    | SessionOpened
    | Progress
    | ImageMade
    | Observation
    | StageRan
    | Warned
    | SessionEnded,
    Field(discriminator="kind"),
]
"""Any of them."""

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def dump(event: Event) -> bytes:
    """An event as one JSON object."""
    return event.model_dump_json().encode()


def parse(text: bytes) -> Event:
    """The event of a JSON object.

    Raises:
        ValueError: it is none.
    """
    return _EVENT.validate_json(text)
