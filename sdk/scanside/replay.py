"""Send a recorded scan through a pipeline: in this process, through a Gadgetron node, or through an MRD server.

All three ways give the same images. The node and the server run in processes of their own, started exactly as
Gadgetron and an operator start them, and this side plays the other part.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from scanside.context import Context
from scanside.convert import Form, Outlet, items_of, message_of
from scanside.errors import ConfigError, PeerGone, PeerReported, ScansideError, ShapeError, StreamError
from scanside.execution import execute
from scanside.items import Image, Item, Readouts
from scanside.losses import with_left_out
from scanside.mrd.dtypes import IMAGE_COUNTERS
from scanside.mrd.files import Recording, open_recording
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.hdf5 import Hdf5Writer, unfinished
from scanside.mrd.messages import ConfigFile, ConfigText, Data, ImageArray, ImageMessage
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import SocketStream
from scanside.noise_store import NoiseStore
from scanside.pipeline import Observe, Pipeline
from scanside.scan import Scan
from scanside.serving import without_images
from scanside.simulate.playback import Speed, play
from scanside.threads import one_blas_thread
from scanside.trace import Trace

__all__ = ["Progress", "ReplayResult", "Via", "configuration", "replay"]

logger = logging.getLogger(__name__)

Via: TypeAlias = Literal["direct", "gadgetron", "mrd"]
"""The way that a scan takes."""

Progress: TypeAlias = Callable[[int, "int | None"], None]
"""Called with the readouts sent so far and, where known, with how many there are."""

START_SECONDS = 60.0
"""How long a node may take to start."""

SERVER_SECONDS = 3600.0
"""How long a server may take to be ready: it builds engines first."""

ANSWER_SECONDS = 600.0
"""How long a node or server may take to end once it has the whole scan."""


@dataclass
class ReplayResult:
    """What came of a replay.

    Attributes:
        images: the images in the order in which they came.
        output: the file that holds them, where one was asked for.
        n_readouts: readouts that were sent.
        seconds: from the first readout to the last image, without starting node or server.
        warnings: what an operator should know.
        trace: times of the stages; None where they ran in another process.
    """

    images: list[Image] = field(default_factory=list)
    output: Path | None = None
    n_readouts: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    trace: Trace | None = None


def replay(
    recording: str | Path,
    pipeline: str | Path | Pipeline = "grappa",
    output: str | Path | None = None,
    *,
    via: Via = "direct",
    speed: Speed = "max",
    settings: Mapping[str, Any] | None = None,
    undersample: str | Path | npt.ArrayLike | None = None,
    group: str | None = None,
    device: str = "auto",
    threads: bool = True,
    noise_store: str | Path | None = None,
    form: Form | None = None,
    block: int = 256,
    observe: Observe | None = None,
    on_progress: Progress | None = None,
    on_step: Callable[[str], None] | None = None,
    prepared: Context | None = None,
) -> ReplayResult:
    """Reconstruct a recorded scan.

    Args:
        recording: ISMRMRD HDF5 file or ISMRMRD stream; ``-`` is standard input.
        pipeline: name or file; a `Pipeline` object for ``direct`` only.
        output: ISMRMRD HDF5 file for the images; it gets its name once it is whole.
        via: ``direct`` runs the pipeline in this process, ``gadgetron`` in a node started as Gadgetron does,
            ``mrd`` in a server that is started for it.
        speed: ``max``, ``realtime``, or a factor to the scanner's pace.
        settings: changed settings, as ``"stage.setting": value``.
        undersample: keep only some phase-encoding lines of the scan: 0 and 1 (or false and true) for every value
            of the counter kspace_encode_step_1, as an array or a ``.npy`` file. Readouts that are no lines of an
            image, and separate calibration lines, stay. Lines that are kept take over the flags that end a slice,
            repetition or measurement from lines that are not. The header's user parameter ScansideUndersampling
            tells the mask, so that no image counts as incomplete for it.
        group: group of an HDF5 file to read; by default ``dataset`` or the only one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: read, compute and write in threads of their own (``direct``; the others always do).
        noise_store: folder that keeps noise covariances from scan to scan.
        form: in what kind of message images travel; None for that of the recording.
        block: most readouts in a block.
        observe: looks at what the stages give (``direct`` only); see `scanside.pipeline.Observe`.
        on_progress: called as readouts are sent.
        on_step: called with what takes long before the first of them, such as engines that have to be built.
        prepared: what a `Pipeline` object was prepared with already, for many scans in a row (``direct`` only); its
            device and noise store hold then.

    Raises:
        ScansideError: anything that is wrong with recording, pipeline or scan. For node and server it is
            `PeerReported` with the text that an operator would see, or `PeerGone` with what they wrote to their log
            when they ended without a word.
        ValueError: `via` or `speed` is not known, or an object of this process was given for another one.
        FileNotFoundError: there is no such recording.
    """
    if via not in ("direct", "gadgetron", "mrd"):
        raise ValueError(f"via is 'direct', 'gadgetron' or 'mrd', got {via!r}")
    if via != "direct" and (isinstance(pipeline, Pipeline) or observe is not None or prepared is not None):
        raise ValueError(
            f"via {via!r} the pipeline runs in another process: give its name or file, and no observer"
        )
    if prepared is not None and not isinstance(pipeline, Pipeline):
        raise ValueError("what was prepared is a Pipeline object: give that object")
    result = ReplayResult(output=None if output is None else Path(output))
    _refuse_overwriting(recording, result.output)
    mask = _mask(undersample)
    kept = None if mask is None else _kept(recording, group, mask)
    with ExitStack() as stack:
        stack.enter_context(_rest_is_told(result))
        source = stack.enter_context(open_recording(recording, group))
        # The header tells which lines were left out, so that no later stage takes them for lost.
        header_xml = source.header_xml if mask is None else with_left_out(source.header_xml, mask)
        sending = _Sending(source, header_xml, kept, speed, block, result, on_progress)
        take = _Taking(result, stack, header_xml)
        folder = None if noise_store is None else Path(noise_store)
        if via == "direct":
            direct = pipeline if isinstance(pipeline, Pipeline) else Pipeline.load(pipeline, settings)
            context = prepared or Context(device, NoiseStore(folder), tell=on_step or logger.info)
            if prepared is None:
                # Engines are built for this very scan, and before it begins.
                direct.prepare(replace(context, builds_engines=False))
            _direct(direct, sending, take, context, threads, form, observe)
        else:
            assert not isinstance(pipeline, Pipeline)
            log = stack.enter_context(tempfile.TemporaryFile())
            environment = _environment(device, folder)
            if via == "gadgetron":
                opening: ConfigFile | ConfigText = ConfigText(
                    configuration(_absolute(pipeline), settings, form)
                )
                stream = stack.enter_context(_node(environment, log))
            else:
                # A server takes the paths of files from its operator only, so the pipeline is made its default.
                named = not settings and form is None
                opening = ConfigFile("default") if named else ConfigText(configuration(None, settings, form))
                stream = stack.enter_context(_server(_absolute(pipeline), environment, log))
            _converse(stream, opening, sending, take, log)
    if not result.images:
        _tell_once(result.warnings, without_images(result.n_readouts))
    return result


def _refuse_overwriting(recording: str | Path, output: Path | None) -> None:
    if output is not None and str(recording) != "-" and output.exists() and output.samefile(recording):
        raise ConfigError(f"the images would replace the recording {recording}: name another output")


@contextmanager
def _rest_is_told(result: ReplayResult) -> Iterator[None]:
    """After a failure, say where the images are that came before it; a file without any is removed."""
    try:
        yield
    except BaseException:
        part = None if result.output is None else unfinished(result.output)
        if part is not None and part.exists():
            if result.images:
                logger.warning("%d images that came before the failure are in %s", len(result.images), part)
            else:
                part.unlink()
        raise


def _tell_once(warnings: list[str], text: str) -> None:
    if text not in warnings:
        warnings.append(text)


def configuration(
    pipeline: str | None = None, settings: Mapping[str, Any] | None = None, form: Form | None = None
) -> bytes:
    """A node's configuration, as Gadgetron prints its ``<configuration>`` element.

    Args:
        pipeline: name or file.
        settings: changed settings, as ``"stage.setting": value``; what is no text is written as JSON.
        form: in what kind of message images are to go out.
    """
    lines = []
    if pipeline is not None:
        lines.append(f"\t<pipeline>{escape(pipeline)}</pipeline>\n")
    for name, value in (settings or {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"\t<property name={quoteattr(name)} value={quoteattr(text)} />\n")
    if form is not None:
        lines.append(f"\t<output>{form}</output>\n")
    body = f"<configuration>\n{''.join(lines)}</configuration>" if lines else "<configuration />"
    return f'<?xml version="1.0"?>\n{body}\n'.encode()


# What is sent


class _Sending:
    """The scan on its way: undersampled, paced and counted."""

    def __init__(
        self,
        recording: Recording,
        header_xml: bytes,
        kept: npt.NDArray[np.uint64] | None,
        speed: Speed,
        block: int,
        result: ReplayResult,
        on_progress: Progress | None,
    ) -> None:
        self.header_xml = header_xml
        self.cancel = threading.Event()
        self._recording = recording
        self._kept = kept
        self._speed = speed
        self._block = block
        self._result = result
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Data]:
        items: Iterable[Any] = self._recording.items(self._block)
        if self._kept is not None:
            items = _undersampled(items, self._kept)
        if self._speed != "max":
            items = play(items, self._speed, cancel=self.cancel)
        n_seen = self._recording.n_readouts if self._kept is None else int((self._kept != _DROPPED).sum())
        for item in items:
            if self.cancel.is_set():
                return
            yield item
            if isinstance(item, Readouts):
                self._result.n_readouts += len(item)
                if self._on_progress is not None:
                    self._on_progress(self._result.n_readouts, n_seen)


_ENDS = (
    AcquisitionFlag.LAST_IN_ENCODE_STEP2,
    AcquisitionFlag.LAST_IN_AVERAGE,
    AcquisitionFlag.LAST_IN_SLICE,
    AcquisitionFlag.LAST_IN_CONTRAST,
    AcquisitionFlag.LAST_IN_PHASE,
    AcquisitionFlag.LAST_IN_REPETITION,
    AcquisitionFlag.LAST_IN_SET,
    AcquisitionFlag.LAST_IN_MEASUREMENT,
)
_DROPPED = np.uint64(2**64 - 1)


def _mask(undersample: str | Path | npt.ArrayLike | None) -> npt.NDArray[np.bool_] | None:
    """Which lines to keep, by their kspace_encode_step_1."""
    if undersample is None:
        return None
    mask = np.asarray(np.load(undersample) if isinstance(undersample, (str, Path)) else undersample)
    if mask.ndim != 1 or not np.isin(mask, (0, 1)).all():
        raise ShapeError(
            f"an undersampling mask is a list of 0 and 1, one for each value of kspace_encode_step_1; this one has "
            f"shape {mask.shape} and type {mask.dtype}"
        )
    return mask.astype(bool)


def _kept(recording: str | Path, group: str | None, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """New flags for every readout of a recording, `_DROPPED` for those to leave out."""
    if str(recording) == "-":
        raise ScansideError(
            "a scan from standard input cannot be undersampled: it would have to be read twice"
        )
    with open_recording(recording, group) as first_pass:
        blocks = [item.headers.copy() for item in first_pass.items() if isinstance(item, Readouts)]
    headers = np.concatenate(blocks) if blocks else Readouts.empty_headers(0)
    flags = headers["flags"].copy()
    lines = ~flagged(flags, NOT_IMAGING) & ~_only_calibration(flags)
    counters = headers["idx"]["kspace_encode_step_1"].astype(np.intp)
    largest = int(counters[lines].max(initial=-1))
    if largest >= len(mask):
        raise ShapeError(
            f"the undersampling mask has {len(mask)} entries, but kspace_encode_step_1 goes up to {largest}: "
            "it needs an entry for every value from 0"
        )
    dropped = np.zeros(len(headers), bool)
    dropped[lines] = ~mask[counters[lines]]
    _hand_over_ends(headers, flags, lines, dropped)
    flags[dropped] = _DROPPED
    return flags


def _only_calibration(flags: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    return flagged(flags, AcquisitionFlag.PARALLEL_CALIBRATION) & ~flagged(
        flags, AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
    )


def _hand_over_ends(
    headers: npt.NDArray[np.void],
    flags: npt.NDArray[np.uint64],
    lines: npt.NDArray[np.bool_],
    dropped: npt.NDArray[np.bool_],
) -> None:
    """Flags that end something go from a dropped line to the last kept line of the same image."""
    idx = headers["idx"]
    keys = np.stack([headers["encoding_space_ref"], *(idx[name] for name in IMAGE_COUNTERS)], axis=1)
    last_kept: dict[tuple[int, ...], int] = {}
    every_end = np.uint64(sum(int(flag) for flag in _ENDS))
    for i in np.flatnonzero(lines).tolist():
        key = tuple(keys[i].tolist())
        if not dropped[i]:
            last_kept[key] = i
        elif key in last_kept:
            flags[last_kept[key]] |= flags[i] & every_end


def _undersampled(items: Iterable[Data], kept: npt.NDArray[np.uint64]) -> Iterator[Data]:
    n = 0
    for item in items:
        if not isinstance(item, Readouts):
            yield item
            continue
        flags = kept[n : n + len(item)]
        n += len(item)
        chosen = item.select(flags != _DROPPED)
        if len(chosen):
            chosen.headers["flags"] = flags[flags != _DROPPED]
            yield chosen


# What comes back


class _Taking:
    """Takes the images that come, into the result and into a file; other items are of no interest here."""

    def __init__(self, result: ReplayResult, stack: ExitStack, header_xml: bytes) -> None:
        self.result = result
        self._writer: Hdf5Writer | None = None
        if result.output is not None:
            self._writer = stack.enter_context(Hdf5Writer(result.output, header_xml))

    def image(self, image: Image) -> None:
        """Take an image."""
        self.result.images.append(image)
        if self._writer is not None:
            message = message_of(image)
            assert isinstance(message, ImageMessage)
            self._writer.write(message)


def _direct(
    pipeline: Pipeline,
    sending: _Sending,
    take: _Taking,
    context: Context,
    threads: bool,
    form: Form | None,
    observe: Observe | None,
) -> None:
    scan = Scan.from_xml(sending.header_xml)
    result = take.result
    result.warnings = scan.warnings
    result.trace = Trace()
    outlet = Outlet(form)

    def source() -> Iterator[Item]:
        for message in sending:
            outlet.came(message)
            yield from items_of(message, scan, context)

    def write(item: Item) -> None:
        for message in outlet.messages(item):
            _take_images(message, scan, take)

    pipeline.expect(scan.header)
    started = perf_counter()
    with one_blas_thread(), pipeline.open(scan, result.trace, observe) as run:
        execute(run, source(), write, threads=threads)
        for message in outlet.finish():
            _take_images(message, scan, take)
    result.seconds = perf_counter() - started


def _take_images(message: Data, scan: Scan, take: _Taking) -> None:
    """What a host would see: images, after they have been messages."""
    if isinstance(message, (ImageMessage, ImageArray)):
        for image in items_of(message, scan):
            assert isinstance(image, Image)
            take.image(image)


def _converse(
    stream: SocketStream, opening: ConfigFile | ConfigText, sending: _Sending, take: _Taking, log: Any
) -> None:
    """Play the client: send in a thread, take images here until the other side has closed."""
    session = ClientSession(stream)
    scan = Scan.from_xml(sending.header_xml)
    sent = _Sender(session, opening, sending)
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        session.shutdown()

    started = perf_counter()
    try:
        sent.start(ANSWER_SECONDS, give_up)
        for message in session:
            _take_images(message, scan, take)
    except PeerReported:
        raise
    except StreamError as error:
        if sent.error is not None:
            raise sent.error from None
        late = f"nothing came for {ANSWER_SECONDS:g} s after the whole scan had been sent"
        raise PeerGone(f"{late if overdue.is_set() else error}{_tail(log)}") from error
    finally:
        sending.cancel.set()
        sent.end()
    take.result.seconds = perf_counter() - started
    take.result.warnings = [text.removeprefix("WARNING ") for text in session.texts] or _warnings_of(
        take.result.images
    )
    if sent.error is not None:
        raise sent.error


def _warnings_of(images: Iterable[Image]) -> list[str]:
    """What the images' attributes say: to Gadgetron there is no other way to tell."""
    texts = (text for image in images for text in image.meta.get("ScansideWarning", []))
    return list(dict.fromkeys(texts))


class _Sender:
    """Sends a scan in a thread of its own."""

    def __init__(self, session: ClientSession, opening: ConfigFile | ConfigText, sending: _Sending) -> None:
        self.error: Exception | None = None
        self._session = session
        self._opening = opening
        self._sending = sending
        self._timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._send, name="scanside-replay", daemon=True)

    def start(self, answer_seconds: float, give_up: Callable[[], None]) -> None:
        """Send the opening here, everything else in the thread; then the other side has so long to end."""
        self._timer = threading.Timer(answer_seconds, give_up)
        self._timer.daemon = True
        self._session.open(self._opening, self._sending.header_xml)
        self._thread.start()

    def end(self) -> None:
        """Wait for the thread, which has been cancelled or is done."""
        self._session.shutdown()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _send(self) -> None:
        assert self._timer is not None
        try:
            for item in self._sending:
                if not self._hand_over(self._session.send, item):
                    return
            self._hand_over(self._session.finish)
        except Exception as error:  # noqa: BLE001 — handed to the thread that waits for the images
            self.error = error
            self._session.shutdown()
        self._timer.start()

    def _hand_over(self, send: Callable[..., None], *items: Data) -> bool:
        """Send; False where the other side is gone: the receiving thread finds out why, and says more."""
        try:
            send(*items)
        except StreamError as error:
            logger.debug("sending ended: %s", error)
            return False
        return True


# Node and server


def _absolute(pipeline: str | Path) -> str:
    path = Path(pipeline)
    return str(path.resolve()) if path.suffix in (".yaml", ".yml") else str(pipeline)


def _environment(device: str, noise_store: Path | None) -> dict[str, str]:
    environment = {**os.environ, "SCANSIDE_DEVICE": device}
    # A child that is started from a checkout must find what this process imports.
    environment["PYTHONPATH"] = os.pathsep.join([entry for entry in sys.path if entry])
    if noise_store is not None:
        environment["SCANSIDE_NOISE_STORE"] = str(noise_store.resolve())
    return environment


@contextmanager
def _node(environment: dict[str, str], log: Any) -> Iterator[SocketStream]:
    """Do what Gadgetron does for ``<execute>``: listen, start the node, and wait for it to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(START_SECONDS)
        command = ["-m", "gadgetron", str(listener.getsockname()[1]), "scanside_gadgetron", "reconstruct"]
        # The node is what is asked for, not a pool that happens to run on this machine.
        environment = {
            "SCANSIDE_POOL": "off",
            **environment,
            "PYTHONPATH": os.pathsep.join([*_front(), environment["PYTHONPATH"]]),
            "GADGETRON_STORAGE_ADDRESS": "http://127.0.0.1:9112",
        }
        with _process(command, environment, log, close_stdin=True) as process:
            sock = _accepted(listener, process, log)
            stream = SocketStream(sock, send_timeout=ANSWER_SECONDS)
            try:
                yield stream
            finally:
                stream.close()


def _front() -> list[str]:
    """Where the package lies that keeps gadgetron-python from refusing a header before the node reads it."""
    plugin = find_spec("scanside_gadgetron")
    folders = [] if plugin is None else plugin.submodule_search_locations or []
    return [str(Path(folder) / "front") for folder in folders]


def _accepted(listener: socket.socket, process: subprocess.Popen[bytes], log: Any) -> socket.socket:
    listener.settimeout(0.2)
    deadline = perf_counter() + START_SECONDS
    while perf_counter() < deadline:
        try:
            return listener.accept()[0]
        except TimeoutError:
            if process.poll() is not None:
                raise PeerGone(f"the node ended before it connected{_tail(log)}") from None
    raise PeerGone(f"the node did not connect within {START_SECONDS:g} s{_tail(log)}")


@contextmanager
def _server(pipeline: str, environment: dict[str, str], log: Any) -> Iterator[SocketStream]:
    """Start a server on a free port and connect to it."""
    command = ["-m", "scanside_gadgetron", "serve", "--port", "0", "--pipeline", pipeline]
    command += ["--workers", "1", "--handover", "off"]
    with _process(command, environment, log, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        impatient = threading.Timer(SERVER_SECONDS, process.kill)
        impatient.start()
        said = process.stdout.readline()
        impatient.cancel()
        if not said:
            raise PeerGone(f"the server ended before it listened{_tail(log)}")
        stream = SocketStream(
            socket.create_connection(("127.0.0.1", json.loads(said)["port"])), send_timeout=ANSWER_SECONDS
        )
        try:
            yield stream
        finally:
            stream.close()


@contextmanager
def _process(
    arguments: list[str],
    environment: dict[str, str],
    log: Any,
    *,
    close_stdin: bool = False,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python as a child that never outlives the block."""
    # subprocess cannot close standard input, a shell can; Gadgetron's nodes have none.
    shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh"] if close_stdin else []
    process = subprocess.Popen(
        [*shell, sys.executable, *arguments],
        env=environment,
        stdin=None if close_stdin else subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
    )
    try:
        yield process
    except BaseException:
        # A node that has reported its failure ends by itself; one that hangs is not waited for.
        _end(process, patience_seconds=1.0)
        raise
    _end(process, patience_seconds=10.0 if close_stdin else 0.0)


def _end(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Wait for a node that is done, ask a server to end, and kill what does not."""
    with process:
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _tail(log: Any) -> str:
    """The end of what a child wrote to its log, for an error's text."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-12:]
    return "; its log ends with:\n" + "\n".join(lines) if lines else "; its log is empty"
