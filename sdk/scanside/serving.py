"""The server's side of one scan: from a session's configuration to its last image, or to an error that is heard.

Every transport with an MRD session runs through `run_session`: the node that Gadgetron executes, the listener that
Gadgetron and MRD hosts connect to, and tests over a pair of sockets.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeAlias

from scanside.context import Context
from scanside.convert import FORMS, Form, Outlet, items_of
from scanside.engines.catalog import available_bundles, split_pin
from scanside.errors import (
    ConfigError,
    MissingExtra,
    PeerSilent,
    PipelineError,
    ScansideError,
    StageConfigError,
    StreamError,
)
from scanside.execution import QUEUE_DEPTH, execute
from scanside.items import Image, Item, Readouts
from scanside.mrd.messages import ConfigFile, Data, ImageArray, ImageMessage, Text
from scanside.mrd.peers import Peer
from scanside.mrd.reader import Limits, MessageReader
from scanside.mrd.session import Opening, ServerSession
from scanside.mrd.streams import ByteStream
from scanside.mrd.xml import XmlError, parse_xml, without_declaration
from scanside.parameters import NAMES_OF_NONE, HostParameters
from scanside.pipeline import Pipeline, pipeline_names, pipeline_path
from scanside.scan import Scan
from scanside.texts import encodable, printable, shortened, shown
from scanside.trace import Trace

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = [
    "Outcome",
    "PipelinePool",
    "Request",
    "SessionObserver",
    "node_reader",
    "run_session",
    "serve_stream",
    "without_images",
]

logger = logging.getLogger(__name__)

DEFAULT_PIPELINE = "grappa"

DRAIN_SECONDS = 3600.0
"""How long a peer may go on sending after a failure. A scan cannot be stopped from here, and what is reported before
its end can be lost."""

_IDLE_PIPELINES = 8

_LONG_SECONDS = 5.0
"""After which a host that waits for a pipeline is told so."""
_MOST_PARAMETERS = 10_000
_DEEPEST_PARAMETER = 16
_MOST_TOLD = 10
_LONGEST_NAME = 200
_LONGEST_REPORT = 4000
_MOST_TEXT = 1 << 20

_QUIET_OPENING_SECONDS = 30.0
"""How long a peer whose opening failed may send next to nothing before it is told: scanners pause later than that."""


# What the peer asks for


@dataclass(frozen=True)
class Request:
    """What the opening of a session asks for.

    Attributes:
        pipeline: name or file; None for the server's own choice.
        settings: changed settings, as ``"stage.setting": value``.
        output: in what kind of message images are to go out; None for that in which images came in.
        peer: who asks; Gadgetron must be sent no text.
    """

    pipeline: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    output: Form | None = None
    peer: Peer = "mrd"

    @classmethod
    def of(cls, opening: Opening) -> Request:
        """Read a session's configuration::

            <configuration>
                <pipeline>grappa</pipeline>
                <property name="grappa.kernel_k1" value="4"/>
                <output>image_array</output>
            </configuration>

        All of its children may be absent, and so may the element. A configuration by name names a pipeline, with
        or without the ending ``.xml`` or ``.yaml``; ``default`` is the server's own choice, and so is what
        OpenRecon sends, ``openrecon``.

        Raises:
            ConfigError: the configuration is malformed, or holds something else.
        """
        if isinstance(opening.config, ConfigFile):
            name = re.sub(r"\.(xml|ya?ml)$", "", opening.config.name.strip())
            return cls(pipeline=None if name in NAMES_OF_NONE else name, peer=opening.peer)
        if opening.config_element is not None:
            return cls._of_element(opening.config_element, opening.peer)
        _check_empty(opening.config.xml)
        return cls(peer=opening.peer)

    @classmethod
    def _of_element(cls, element: Element, peer: Peer) -> Request:
        pipeline: str | None = None
        output: str | None = None
        settings: dict[str, str] = {}
        for child in element:
            name, text = _name(child), (child.text or "").strip()
            if name == "pipeline":
                pipeline = text or None
            elif name == "output":
                output = text
            elif name == "property":
                key, value = _property(child)
                settings[key] = value
            else:
                raise ConfigError(_unknown_child(name))
        if output not in (None, *FORMS):
            raise ConfigError(f"<output> is {shown(output)}; possible are {', '.join(FORMS)}")
        return cls(pipeline, settings, output, peer)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _property(element: Element) -> tuple[str, str]:
    """Name and value, in either of the two ways in which Gadgetron's files write them."""
    parts = {_name(child): (child.text or "").strip() for child in element}
    name, value = element.get("name", parts.get("name")), element.get("value", parts.get("value"))
    if not name or value is None:
        raise ConfigError(
            'a <property> of the configuration needs name and value: <property name="stage.setting" value="…"/>'
        )
    return name, value


def _unknown_child(name: str) -> str:
    if name in ("version", "readers", "writers", "stream"):
        return (
            "the configuration is a whole Gadgetron chain: give a node only its own <configuration>, with "
            "<pipeline>, <property> and <output>"
        )
    known = "<pipeline>, <property> and <output>"
    return f"<{shortened(name, 80)}> in the configuration is not known; possible are {known}"


def _check_empty(xml: bytes) -> None:
    """A configuration without its element must be empty: what cannot be read must not pass for a default."""
    rest = without_declaration(xml.strip(b"\0 \t\r\n"))
    if not rest:
        return
    try:
        found = f"a <{shortened(_name(parse_xml(rest)), 80)}> document"
    except XmlError as error:
        found = f"not well-formed XML ({error})"
    raise ConfigError(
        f"the configuration is {found}, expected <configuration><pipeline>NAME</pipeline></configuration>; it "
        f"begins with {shown(rest, 60)}"
    )


def _parameters(texts: list[str]) -> dict[str, str]:
    """What a host sent as text before the data: a JSON object by its names, any other text as it is.

    Raises:
        ConfigError: an object that is larger or deeper than parameters are.
    """
    if sum(map(len, texts)) > _MOST_TEXT:
        raise ConfigError(f"the host sent more than {_MOST_TEXT} characters of text before the data")
    parameters: dict[str, str] = {}
    for i, text in enumerate(texts):
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        except RecursionError:
            raise _too_deep() from None
        if isinstance(document, dict):
            parameters.update(_flat(document))
        else:
            parameters["text" if i == 0 else f"text{i + 1}"] = text
    if len(parameters) > _MOST_PARAMETERS:
        raise ConfigError(
            f"the host sent {len(parameters)} parameters, at most {_MOST_PARAMETERS} are possible"
        )
    return parameters


def _flat(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """``{"a": {"b": 1}}`` becomes ``("a.b", "1")``; lists count from 0."""
    if depth > _DEEPEST_PARAMETER:
        raise _too_deep()
    if isinstance(value, dict):
        inner: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        yield name, encodable(value) if isinstance(value, str) else json.dumps(value)
        return
    for key, one in inner:
        # JSON may hold halves of characters, which nothing that tells of a session could write.
        key = encodable(str(key))
        yield from _flat(one, f"{name}.{key}" if name else key, depth + 1)


def _too_deep() -> ConfigError:
    return ConfigError(f"parameters of the host are nested more than {_DEEPEST_PARAMETER} deep")


# Prepared pipelines

Load: TypeAlias = Callable[[str, Mapping[str, str]], Pipeline]
"""Makes a pipeline from its name and changed settings."""


class PipelinePool:
    """Keeps pipelines prepared from session to session; each is lent to one session at a time.

    Args:
        context: device and noise store, shared by all.
        default: pipeline of sessions that ask for none.
        folder: where pipelines of one's own are: ``NAME.yaml`` is asked for as ``NAME``.
        any_file: allow the path of any pipeline file. Only where whoever configures sessions may read every
            file: a chain's configuration, not a host on the network.
        load: how a pipeline is made; None reads pipeline files.
    """

    def __init__(
        self,
        context: Context | None = None,
        *,
        default: str | Path = DEFAULT_PIPELINE,
        folder: Path | None = None,
        any_file: bool = False,
        load: Load | None = None,
    ) -> None:
        self.context = context or Context()
        self._default = default
        self._folder = folder
        self._any_file = any_file
        self._load = load
        self._idle: OrderedDict[Pipeline, tuple[object, ...]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def lend(
        self,
        name: str | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Pipeline]:
        """A prepared pipeline, for as long as the ``with`` block runs.

        Args:
            name: which; None for the default.
            settings: changed settings.
            check: for a session, raises where its peer has gone. None before any session, where there is time to
                build engines.

        Raises:
            PipelineError: there is no such pipeline, or it cannot be loaded.
            StageConfigError: a setting is unknown or wrong.
            MissingExtra: a package that the pipeline needs is not installed.
            StageError: a stage cannot be prepared.
        """
        settings = settings or {}
        path = Path(name or "") if self._load else self._path(name)
        # By its whole path, a pipeline is the same whether it is asked for by its name or as the default.
        key = (path.resolve(), path.stat().st_mtime_ns if path.is_file() else 0, *sorted(settings.items()))
        pipeline = self._take(key)
        if pipeline is not None and (
            changed := [why for stage in pipeline.stages for why in stage.outdated()]
        ):
            logger.warning("pipeline '%s' is loaded anew: %s", pipeline.name, "; ".join(changed))
            pipeline = None
        ready, pipeline = pipeline is not None, pipeline or self._make(path, settings)
        if not self._any_file:
            _refuse_reserved(pipeline, settings)
        if not ready:
            pipeline.prepare(self.context if check is None else self.context.while_a_scan_waits(check))
        yield pipeline
        # Not after an exception: nobody knows in what state its stages are then.
        self._keep(pipeline, key)

    def warm_up(self, *names: str) -> dict[str, Pipeline]:
        """Prepare the default pipeline and others, so that no session waits for them. Raises as `lend`.

        Returns:
            The prepared pipelines by their names.
        """
        prepared: dict[str, Pipeline] = {}
        for name in (None, *names):
            with self.lend(name) as pipeline:
                prepared[pipeline.name] = pipeline
        return prepared

    def check(self, *names: str) -> None:
        """See that the default pipeline and others exist; loads nothing.

        Raises:
            PipelineError: there is no such pipeline.
        """
        for name in (None, *names):
            self._path(name)

    def for_chain(self) -> PipelinePool:
        """The same pipelines, for sessions whose configuration may name any file: that of a Gadgetron chain."""
        trusting = copy.copy(self)
        trusting._any_file = True  # noqa: SLF001 — one of its own kind
        return trusting

    def _path(self, name: str | None) -> Path:
        if name is None:
            return pipeline_path(self._default)
        if name in pipeline_names():
            return pipeline_path(name)
        if len(name.encode(errors="replace")) > _LONGEST_NAME:
            raise PipelineError(f"there is no pipeline {shown(name)}: its name is too long for one")
        # A name must not lead out of the folder.
        if (
            self._folder is not None
            and Path(name).name == name
            and (own := self._folder / f"{name}.yaml").is_file()
        ):
            return own
        if self._any_file:
            return pipeline_path(name)
        known = pipeline_names()
        if self._folder is not None:
            known += sorted(path.stem for path in self._folder.glob("*.yaml"))
        raise PipelineError(f"there is no pipeline {shown(name)}: known are {', '.join(known)}")

    def _make(self, path: Path, settings: Mapping[str, str]) -> Pipeline:
        if self._load is not None:
            return self._load(str(path), settings)
        for module, package in (("yaml", "pyyaml"), ("torch", "torch")):
            if find_spec(module) is None:
                raise MissingExtra(package, "torch", f"pipeline '{path.stem}'")
        return Pipeline.load(path, settings)

    def _take(self, key: tuple[object, ...]) -> Pipeline | None:
        with self._lock:
            for pipeline, own in self._idle.items():
                if own == key:
                    del self._idle[pipeline]
                    return pipeline
        return None

    def _keep(self, pipeline: Pipeline, key: tuple[object, ...]) -> None:
        with self._lock:
            self._idle[pipeline] = key
            while len(self._idle) > _IDLE_PIPELINES:
                self._idle.popitem(last=False)


def _refuse_reserved(pipeline: Pipeline, settings: Mapping[str, str]) -> None:
    """Keep hosts on the network from naming files and archives, and bundles that are not installed."""
    for label, stage in zip(pipeline.labels, pipeline.stages, strict=True):
        own = f"{label}."
        asked = {setting[len(own) :].split(".")[0] for setting in settings if setting.startswith(own)}
        for name in sorted(asked & type(stage.config).reserved()):
            raise StageConfigError(
                f"'{label}.{name}' cannot be set from the network: set it in a pipeline of the server's folder"
            )
        for name in sorted(asked & type(stage.config).BUNDLES):
            _refuse_folders(f"{label}.{name}", getattr(stage.config, name))


def _refuse_folders(setting: str, value: str | Iterable[str]) -> None:
    """Keep hosts from having any folder of this machine opened as a bundle."""
    installed = available_bundles()
    for name in (value,) if isinstance(value, str) else value:
        if split_pin(name)[0] not in installed:
            raise StageConfigError(
                f"{shown(name)} cannot be set as '{setting}' from the network, which takes names of installed "
                f"bundles only: {', '.join(installed) or 'there are none'}"
            )


# One session


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
    observer = _Guarded.of(observer)
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
    observer = _Guarded.of(observer)
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


class _Guarded:
    """An observer whose mistakes cost no scan: they are logged."""

    def __init__(self, observer: SessionObserver) -> None:
        self._observer = observer
        self.trace = observer.trace

    @classmethod
    def of(cls, observer: SessionObserver | None) -> SessionObserver | None:
        return observer if observer is None or isinstance(observer, cls) else cls(observer)

    def opened(self, request: Request, scan: Scan, pipeline: Pipeline) -> None:
        self._tell(lambda: self._observer.opened(request, scan, pipeline))

    def gave(self, stage: str, item: Item) -> None:
        self._tell(lambda: self._observer.gave(stage, item))

    def progressed(self, outcome: Outcome) -> None:
        self._tell(lambda: self._observer.progressed(outcome))

    def sent(self, image: Image) -> None:
        self._tell(lambda: self._observer.sent(image))

    def ended(self, outcome: Outcome) -> None:
        self._tell(lambda: self._observer.ended(outcome))

    @staticmethod
    def _tell(what: Callable[[], None]) -> None:
        try:
            what()
        except Exception:
            logger.exception("whoever watches the session could not take what happened")


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
        scan.parameters.update(_parameters(session.texts_before_data()))
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
    text = printable(shortened(str(error), _LONGEST_REPORT)) or "no message"
    # Our own errors say what to do; of others the kind is worth knowing, and where to look.
    if isinstance(error, ScansideError):
        return f"Scanside: {text}"
    return f"Scanside: {type(error).__name__}: {text}; the log of the node or server holds the traceback"
