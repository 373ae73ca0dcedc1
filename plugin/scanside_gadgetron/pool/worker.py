"""A worker: a process that has its pipelines ready and serves one session after the other.

The server starts it as ``python -m scanside_gadgetron.pool.worker CHANNEL NOTE`` with two open descriptors, and it
ends with the server.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, perf_counter_ns, sleep, time

from scanside.context import Context
from scanside.errors import ScansideError, StreamError
from scanside.memory import limit_process, resident_bytes
from scanside.mrd.peers import Peer
from scanside.mrd.reader import Limits
from scanside.mrd.streams import BytesLike, ByteStream, SocketStream
from scanside.noise_store import NoiseStore
from scanside.pipeline import Pipeline
from scanside.recording import Recorder, SessionRecording
from scanside.serving import PipelinePool, serve_stream
from scanside.serving.series_log import SeriesLog
from scanside.trace import Trace
from scanside_gadgetron.monitor.logs import session_log, setup_logging
from scanside_gadgetron.pool.channel import Beat, Begin, Channel, Idle, Retire, Run, Unprepared
from scanside_gadgetron.pool.events import SessionEnded, Warned, WorkerMemory, WorkerReady
from scanside_gadgetron.pool.note import Note, NotedStream
from scanside_gadgetron.pool.observer import EventObserver, Outbox, Pictures, outcome_name
from scanside_gadgetron.pool.tls import TlsStream, tls_context
from scanside_gadgetron.pool.words import known_words

__all__ = ["main"]

logger = logging.getLogger(__name__)

_RECORDING_SECONDS = 10.0

MakePipelines = Callable[[Begin], PipelinePool]
"""Where a worker's pipelines come from."""


def main(make_pipelines: MakePipelines | None = None) -> None:
    """Serve sessions until the server asks to end, or is gone."""
    faulthandler.enable()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    note = Note(int(sys.argv[2]))
    received = channel.receive()
    if received is None or not isinstance(received[0], Begin):
        return
    begin = received[0]
    setup_logging(as_json=begin.log_json, worker=begin.worker, level=begin.log_level)
    limit_process(begin.memory_bytes)
    outbox = Outbox(channel, _server_gone)
    pulse = _Pulse(channel, outbox, begin.beat_seconds)
    started = perf_counter()
    try:
        pipelines = (make_pipelines or _pipelines)(begin)
        prepared = pipelines.warm_up(*begin.prepare)
        context = None if begin.tls is None else tls_context(begin.tls)
        recorder = None if begin.record is None else Recorder(begin.record, known_words(begin.pipelines))
        series_log = None if begin.series_log is None else SeriesLog(Path(begin.series_log))
    except Exception as error:  # whatever it is, the operator must hear of it
        if not isinstance(error, ScansideError):
            logger.exception("worker %d cannot get ready", begin.worker)
        channel.send(Unprepared(error=str(error) or type(error).__name__))
        return
    outbox.tell(
        WorkerReady(
            time=time(),
            worker=begin.worker,
            seconds=perf_counter() - started,
            pipelines={name: _engines_of(pipeline) for name, pipeline in prepared.items()},
        )
    )
    _tell_gpu_memory(outbox, begin.worker)
    worker = _Worker(begin, pipelines, context, recorder, series_log, note, outbox, pulse, Pictures())
    while (received := channel.receive()) is not None:
        message, descriptors = received
        if isinstance(message, Run):
            worker.serve(message, descriptors)
        elif isinstance(message, Retire):
            worker.finish()
            break


def _pipelines(begin: Begin) -> PipelinePool:
    store = NoiseStore(None if begin.noise_store is None else Path(begin.noise_store))
    folder = None if begin.pipelines is None else Path(begin.pipelines)
    return PipelinePool(Context(begin.device, store), default=begin.pipeline, folder=folder)


def _engines_of(pipeline: Pipeline) -> list[dict[str, str]]:
    """Which engines a prepared pipeline has loaded."""
    found = []
    for stage in pipeline.stages:
        for engine in getattr(stage, "engines", ()):
            told = engine.provenance
            found.append(
                {
                    "bundle": f"{told['bundle']} {told['bundle_version']}",
                    "backend": told["backend"],
                    "precision": told["precision"],
                    "weights": told["weights_sha256"],
                }
            )
    return found


def _server_gone() -> None:
    """End at once: nobody watches this worker any more, or replaces it."""
    os._exit(1)


class _Pulse:
    """Tells the server again and again that this process lives, how large it is, and which stage works."""

    def __init__(self, channel: Channel, outbox: Outbox, seconds: float) -> None:
        self.trace: Trace | None = None
        self.stream: NotedStream | None = None
        self._channel = channel
        self._outbox = outbox
        self._seconds = seconds
        threading.Thread(target=self._beat, name="scanside-pulse", daemon=True).start()

    def _beat(self) -> None:
        while True:
            trace, stream = self.trace, self.stream
            working = None if trace is None else trace.working
            beat = Beat(
                memory=resident_bytes(),
                late_seconds=self._outbox.late_seconds,
                silent_seconds=0.0 if stream is None else stream.silent_seconds,
            )
            if working is not None:
                stage, since = working
                beat = beat.model_copy(
                    update={"stage": stage, "stage_seconds": (perf_counter_ns() - since) / 1e9}
                )
            try:
                self._channel.send(beat)
            except StreamError:
                _server_gone()
            sleep(self._seconds)


def _tell_gpu_memory(outbox: Outbox, worker: int) -> None:
    """Where this process uses a GPU, say how much of it it holds."""
    torch = sys.modules.get("torch")  # a worker without torch need not load it for this
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        held = sum(torch.cuda.memory_reserved(device) for device in range(torch.cuda.device_count()))
    except RuntimeError as error:  # a GPU that failed in a session: the next one will tell
        logger.warning("the memory of the GPU is not known: %s", error)
        return
    outbox.tell(WorkerMemory(time=time(), worker=worker, gpu_bytes=held))


@dataclass
class _Worker:
    """What sessions need."""

    begin: Begin
    pipelines: PipelinePool
    context: ssl.SSLContext | None
    recorder: Recorder | None
    series_log: SeriesLog | None
    note: Note
    outbox: Outbox
    pulse: _Pulse
    pictures: Pictures
    recording: SessionRecording | None = None

    def finish(self) -> None:
        """Have what was recorded last on the disk."""
        if self.recording is not None:
            self.recording.wait(_RECORDING_SECONDS)

    def serve(self, run: Run, descriptors: list[int]) -> None:
        """Run a session to its end, and say that it is over."""
        bare = SocketStream(
            socket.socket(fileno=descriptors[0]),
            self.begin.limits.opening_seconds,
            self.begin.limits.send_seconds,
        )
        self.note.clear()
        try:
            with session_log(run.session):
                self._run(run, bare, _read_file(descriptors[1:]))
        except Exception as error:  # one session must not end the worker
            logger.exception("session %s failed", run.session)
            self.outbox.tell(
                SessionEnded(time=time(), session=run.session, outcome="failed", error=str(error))
            )
        finally:
            bare.close()
            self.pulse.trace = self.pulse.stream = None
            _tell_gpu_memory(self.outbox, self.begin.worker)
            self.outbox.put(Idle(session=run.session, memory=resident_bytes()))

    def _run(self, run: Run, bare: SocketStream, opening: bytes) -> None:
        limits = self.begin.limits
        deadline = monotonic() + limits.opening_seconds
        stream: ByteStream = bare
        if self.context is not None and not run.handed_over:
            try:
                stream = TlsStream(bare, self.context, deadline)
            except StreamError as error:
                logger.warning("%s: %s", run.peer, error)
                self.outbox.tell(
                    SessionEnded(time=time(), session=run.session, outcome="lost", error=str(error))
                )
                return
        stream = self.pulse.stream = NotedStream(stream, self.note, int(limits.scan_gib * 2**30))
        if opening:
            stream = _Begun(opening, stream)
        folder = None if run.folder is None else Path(run.folder)
        if self.recorder is not None:
            stream, self.recording = self.recorder.begin(run.session, stream)
        observer = EventObserver(
            run.session,
            self.outbox,
            self.pictures,
            folder,
            self.pipelines.context.noise_store,
            None if self.series_log is None else self.series_log.begin(run.session),
        )
        self.pulse.trace = observer.trace

        def opened(peer: Peer) -> None:
            self.note.peer = peer
            # A scanner may pause: from here on, it is messages that are waited for, and no byte.
            bare.timeout = None

        outcome = serve_stream(
            stream,
            # A chain's configuration is written by whoever installs it: it may name any file.
            self.pipelines.for_chain() if run.handed_over else self.pipelines,
            drain_seconds=limits.drain_seconds,
            opening_deadline=deadline,
            idle_seconds=limits.idle_seconds,
            opened=opened,
            observer=observer,
            limits=Limits(max_message_bytes=int(limits.message_mib * 2**20)),
            peer="gadgetron" if run.handed_over else None,
        )
        if self.recording is not None:
            self.recording.finish(
                outcome_name(outcome),
                pipeline=observer.pipeline,
                error="" if outcome.error is None else str(outcome.error),
                n_readouts=outcome.n_readouts,
                n_images=outcome.n_images,
                fallbacks=observer.fallbacks,
            )
            if self.recording.problem:
                self._warn(run, f"the recording is not whole: {self.recording.problem}")
            if self.recorder is not None and self.recorder.trouble:
                self._warn(run, self.recorder.trouble)

    def _warn(self, run: Run, text: str) -> None:
        self.outbox.tell(Warned(time=time(), session=run.session, text=text))


def _read_file(descriptors: list[int]) -> bytes:
    """CONFIG and HEADER as somebody else has read them; nothing where they are still to come."""
    if not descriptors:
        return b""
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        return file.read()


class _Begun:
    """A stream whose beginning has been read by somebody else."""

    def __init__(self, beginning: bytes, stream: ByteStream) -> None:
        self._beginning = memoryview(beginning)
        self._stream = stream

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`."""
        if not self._beginning:
            return self._stream.receive_into(buffer, deadline)
        n = min(len(buffer), len(self._beginning))
        buffer[:n], self._beginning = self._beginning[:n], self._beginning[n:]
        return n

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`."""
        self._stream.send(*buffers, deadline=deadline)

    def end_writing(self) -> None:
        """See `ByteStream.end_writing`."""
        self._stream.end_writing()

    def shutdown(self) -> None:
        """See `ByteStream.shutdown`."""
        self._stream.shutdown()

    def reset(self) -> None:
        """See `ByteStream.reset`."""
        self._stream.reset()

    def broken(self) -> bool:
        """See `ByteStream.broken`."""
        return self._stream.broken()

    def close(self) -> None:
        """See `ByteStream.close`."""
        self._stream.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
