"""The server's side of one scan: from a session's configuration to its last image, or to an error that is heard.

Every transport with an MRD session runs through `run_session`: the node that Gadgetron executes, the listener that
Gadgetron and MRD hosts connect to, and tests over a pair of sockets.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING

from scanside.context import Context
from scanside.convert import Outlet, items_of
from scanside.errors import (
    ConfigError,
    PeerSilent,
    ScansideError,
    StreamError,
)
from scanside.execution import QUEUE_DEPTH, execute
from scanside.items import Image, Item, Readouts
from scanside.mrd.messages import Data, ImageArray, ImageMessage, Text
from scanside.mrd.peers import Peer
from scanside.mrd.reader import Limits, MessageReader
from scanside.mrd.session import LONGEST_REPORT, ServerSession
from scanside.mrd.streams import ByteStream
from scanside.pipeline import Pipeline
from scanside.scan import Scan
from scanside.texts import printable, shortened

if TYPE_CHECKING:
    pass

from scanside.serving.outcome import Guarded, Outcome, SessionObserver
from scanside.serving.parameters import HostParameters
from scanside.serving.pipelines import PipelinePool
from scanside.serving.request import Request, parameters_of

__all__ = [
    "DRAIN_SECONDS",
    "node_reader",
    "run_session",
    "serve_stream",
    "without_images",
]

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 3600.0
"""How long a peer may go on sending after a failure. A scan cannot be stopped from here, and what is reported before
its end can be lost."""
_LONG_SECONDS = 5.0
"""After which a host that waits for a pipeline is told so."""
_MOST_TOLD = 10
_QUIET_OPENING_SECONDS = 30.0
"""How long a peer whose opening failed may send next to nothing before it is told: scanners pause later than that."""


def node_reader(stream: ByteStream, limits: Limits | None = None) -> MessageReader:
    """A reader whose blocks stay valid while they wait for the computing thread."""
    return MessageReader(stream, n_blocks=QUEUE_DEPTH + 2, limits=limits)


def serve_stream(
    stream: ByteStream,
    pipelines: PipelinePool,
    *,
    drain_seconds: float = DRAIN_SECONDS,
    opening_deadline: float | None = None,
    idle_seconds: float | None = None,
    opened: Callable[[Peer], None] | None = None,
    observer: SessionObserver | None = None,
    limits: Limits | None = None,
    peer: Peer | None = None,
) -> Outcome:
    """Wait for a session's opening on a new connection, then `run_session`.

    A host that closes before it has sent a header only asked whether somebody is there.

    Args:
        stream: the connection; it is still to be closed.
        pipelines: where the session's pipeline comes from.
        drain_seconds: see `run_session`.
        opening_deadline: value of `time.monotonic` until which configuration and header have to be there; None for no
            limit but the stream's own.
        idle_seconds: how long the peer may then take for each message; None likewise.
        opened: called once configuration and header are there, with who is at the other end.
        observer: watches the session.
        limits: what lengths in the stream may say.
        peer: who is at the other end; None where its configuration is to tell.
    """
    observer = Guarded.of(observer)
    session = ServerSession(stream, reader=node_reader(stream, limits), peer=peer)
    try:
        opening = session.open(opening_deadline)
    except Exception as error:  # noqa: BLE001 — whatever it is, the peer must hear of it
        return _ended(_fail(session, Outcome(), error, drain_seconds, _QUIET_OPENING_SECONDS), observer)
    if opening is None:
        logger.info("a host asked whether somebody is there")
        with suppress(StreamError):
            session.finish()
        return _ended(Outcome(query=True), observer)
    if opened is not None:
        opened(session.peer)
    session.idle_seconds = idle_seconds
    return run_session(session, pipelines, drain_seconds=drain_seconds, observer=observer)


def run_session(
    session: ServerSession,
    pipelines: PipelinePool,
    *,
    drain_seconds: float = DRAIN_SECONDS,
    observer: SessionObserver | None = None,
) -> Outcome:
    """Reconstruct the scan of a session that has been opened, and see to it that a failure reaches the peer.

    It returns when the session has ended, in order or not, and never raises because of its peer or its data;
    the connection is still to be closed.

    Args:
        session: opened or resumed; its reader must be a `node_reader`.
        pipelines: where its pipeline comes from.
        drain_seconds: after a failure, how long the peer may take to send the rest, and then to take the report.
        observer: watches the session.
    """
    observer = Guarded.of(observer)
    outcome = Outcome() if observer is None else Outcome(trace=observer.trace)
    started = perf_counter()
    try:
        _reconstruct(session, pipelines, outcome, drain_seconds, observer)
    except Exception as error:  # noqa: BLE001 — whatever it is, the operator must hear of it
        return _fail(session, outcome, error, drain_seconds)
    finally:
        outcome.seconds = perf_counter() - started
        logger.info(
            "%d readouts came, %d images went, %.2f s",
            outcome.n_readouts,
            outcome.n_images,
            outcome.seconds,
        )
        _ended(outcome, observer)
    return outcome


def _ended(outcome: Outcome, observer: SessionObserver | None) -> Outcome:
    if observer is not None:
        observer.ended(outcome)
    return outcome


def _fail(
    session: ServerSession,
    outcome: Outcome,
    error: Exception,
    drain_seconds: float,
    quiet_seconds: float = math.inf,
) -> Outcome:
    unexpected = not isinstance(error, ScansideError)
    logger.error("the session failed: %s", error, exc_info=error if unexpected else None)
    outcome.error = error
    # Who was waited for in vain is not waited for again, nor longer than a scan may pause.
    quiet = 0.0 if isinstance(error, PeerSilent) else min(quiet_seconds, session.idle_seconds or math.inf)
    outcome.reported = session.fail(_report(error), drain_seconds=drain_seconds, quiet_seconds=quiet)
    return outcome


def _reconstruct(
    session: ServerSession,
    pipelines: PipelinePool,
    outcome: Outcome,
    drain_seconds: float,
    observer: SessionObserver | None,
) -> None:
    assert session.opening is not None
    request = Request.of(session.opening)
    scan = outcome.scan = Scan.from_xml(session.opening.header_xml)
    with _lent(session, pipelines, request, scan) as pipeline:
        if request.output == "recon_data" and Image in pipeline.output:
            raise ConfigError(
                f"<output> is recon_data, but pipeline '{pipeline.name}' makes images: take a pipeline that "
                "ends with k-space, or leave <output> out"
            )
        outlet = Outlet(request.output)
        if observer is not None:
            observer.opened(request, scan, pipeline)

        def send(messages: Iterable[Data]) -> None:
            for message in messages:
                try:
                    session.send(message)
                except StreamError:
                    # Whoever takes nothing any more is not waited for either, and learns of it by the reset alone.
                    session.abort()
                    raise
                outcome.n_images += _n_images(message)
            if observer is not None:
                observer.progressed(outcome)

        # MRD hosts know images and little else: to them, what only passed by does not go back.
        only_images = request.peer == "mrd" and Image in pipeline.output

        def write(item: Item) -> None:
            if only_images and not isinstance(item, Image):
                return
            send(outlet.messages(item))
            if observer is not None and isinstance(item, Image):
                observer.sent(item)

        with pipeline.open(scan, outcome.trace, None if observer is None else observer.gave) as run:
            try:
                execute(
                    run,
                    _items(session, scan, outlet, pipelines.context, outcome, observer),
                    write,
                    threads=True,
                    drain_seconds=drain_seconds,
                    cut_off=session.abort,
                )
            except StreamError:
                # The scan ended early. What the stages still gave says so itself.
                with suppress(ScansideError):
                    send(outlet.finish())
                raise
            send(outlet.finish())
        if Image in pipeline.output and not outcome.n_images:
            scan.warn(without_images(outcome.n_readouts))
    if request.peer == "mrd" and scan.warnings:
        session.send(*(Text(f"WARNING {warning}") for warning in scan.warnings))
    session.finish()


@contextmanager
def _lent(
    session: ServerSession, pipelines: PipelinePool, request: Request, scan: Scan
) -> Iterator[Pipeline]:
    """The pipeline of a session: that of its configuration, as changed by what a host sent before the data."""
    with _lend(session, pipelines, request.pipeline, request.settings) as pipeline:
        scan.parameters.update(parameters_of(session.texts_before_data()))
        asked = HostParameters.of(scan.parameters)
        other = asked.pipeline not in (None, request.pipeline, pipeline.name)
        settings = {} if other else _asked_settings(asked, pipeline, scan)
        if request.peer == "gadgetron" or not (other or settings):
            yield pipeline
            return
    if other:
        with _lend(session, pipelines, asked.pipeline) as pipeline:
            settings = _asked_settings(asked, pipeline, scan)
            if not settings:
                yield pipeline
                return
    with _lend(session, pipelines, asked.pipeline or request.pipeline, settings) as pipeline:
        yield pipeline


@contextmanager
def _lend(
    session: ServerSession,
    pipelines: PipelinePool,
    name: str | None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Pipeline]:
    """A pipeline that a peer waits for. An MRD host is told where that takes long, and missed when it leaves."""

    def tell() -> None:
        with suppress(StreamError):  # `check` finds that the host has gone
            session.send(Text("Scanside: the pipeline is being prepared, and this scan waits for it"))

    timer = threading.Timer(_LONG_SECONDS, tell)
    timer.daemon = True
    if session.peer == "mrd":
        timer.start()
    try:
        with pipelines.lend(name, settings, check=session.check_peer) as pipeline:
            timer.cancel()
            yield pipeline
    finally:
        timer.cancel()


def _asked_settings(asked: HostParameters, pipeline: Pipeline, scan: Scan) -> dict[str, str]:
    settings, unknown = asked.settings(pipeline)
    if unknown:
        scan.warn(
            f"parameters that pipeline '{pipeline.name}' does not have were left aside: {_some(unknown)}"
        )
    return settings


def _some(names: list[str]) -> str:
    """Names that a host chose."""
    shown_names = ", ".join(printable(shortened(name, 80)) for name in names[:_MOST_TOLD])
    return shown_names + (f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else "")


def without_images(n_readouts: int) -> str:
    """What to tell an operator who waits for images."""
    return (
        f"no image was made of {n_readouts} readouts: a noise scan makes none; for any other scan look at its flags "
        "with 'scanside inspect'"
    )


def _items(
    session: ServerSession,
    scan: Scan,
    outlet: Outlet,
    context: Context,
    outcome: Outcome,
    observer: SessionObserver | None,
) -> Iterator[Item]:
    for message in session:
        outlet.came(message)
        for item in items_of(message, scan, context):
            if isinstance(item, Readouts):
                outcome.n_readouts += len(item)
                if observer is not None:
                    observer.progressed(outcome)
            yield item


def _n_images(message: object) -> int:
    if isinstance(message, ImageArray):
        return int(message.headers.size)
    return int(isinstance(message, ImageMessage))


def _report(error: Exception) -> str:
    """What the operator reads."""
    text = printable(shortened(str(error), LONGEST_REPORT)) or "no message"
    # Our own errors say what to do; of others the kind is worth knowing, and where to look.
    if isinstance(error, ScansideError):
        return f"Scanside: {text}"
    return f"Scanside: {type(error).__name__}: {text}; the log of the node or server holds the traceback"
