"""The pool: which connection goes to which worker, and what happens when a worker does not do as it should.

One event loop in the server's process looks after everything and computes nothing: it accepts connections, passes
each on to a free worker (the socket itself goes over, so no byte of a scan comes by here), and watches.

Servers that fork their workers in advance, as gunicorn does, let all workers accept from one listening socket. Then
the queue is the operating system's: nobody in it can be counted or told that there is no place, a connection that a
node has begun to read cannot come in, and the processes' state (torch, CUDA) would have to survive a fork. So the
processes are looked after here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, time

from scanside.errors import ConfigError, MessageError, PeerSilent, StreamError
from scanside.mrd.peers import Peer
from scanside.scratch import ScratchFolder
from scanside.serving import PipelinePool
from scanside_gadgetron.monitor.logs import session_log
from scanside_gadgetron.pool.channel import (
    Beat,
    Begin,
    Idle,
    Message,
    Over,
    Reported,
    Retire,
    Run,
    Taken,
    Unprepared,
    close_all,
)
from scanside_gadgetron.pool.descriptors import most_descriptors, share_descriptors
from scanside_gadgetron.pool.door import Door
from scanside_gadgetron.pool.events import (
    Event,
    SessionEnded,
    SessionQueued,
    SessionStarted,
    WorkerEnded,
    WorkerReady,
    WorkerStarted,
)
from scanside_gadgetron.pool.farewell import cut_off, told
from scanside_gadgetron.pool.listen import Address, Allowed, listen, listen_for_nodes, remove_socket
from scanside_gadgetron.pool.process import COMMAND, Reason, WorkerProcess
from scanside_gadgetron.pool.tls import tls_context
from scanside_gadgetron.pool.visitor import Visitor
from scanside_gadgetron.pool.waiting import tell_place
from scanside_gadgetron.settings import ServerConfig

__all__ = ["Pool"]

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.2
_RETIRE_SECONDS = 20.0
"""How long a worker may take to end once it was asked to."""

_FREE_SECONDS = 120.0
"""How long a worker may take to put its session away."""

_LONGEST_PAUSE_SECONDS = 60.0
_MEMORY_GRACE = 1.25
_FIXED = ("host", "port", "handover", "monitor", "log")
"""Settings that a reload leaves as they are."""


class Pool:
    """Workers and the connections that wait for them. Everything but `subscribe`, `queue_depth` and `not_ready` is
    for the event loop's thread.

    Args:
        config: settings.
        command: starts a worker; two descriptors follow.

    Attributes:
        session_folder: says where the pictures of a session go; None for nowhere.
        shares: how many connections there may be beside the scans.

    Raises:
        ConfigError: the address cannot be listened on, or a certificate cannot be used.
        PipelineError: a pipeline that is to be ready does not exist.
    """

    def __init__(self, config: ServerConfig, command: Sequence[str] = COMMAND) -> None:
        config.check()
        _check_pipelines(config, command)
        self.session_folder: Callable[[str], Path] | None = None
        self._config = config
        self._command = command
        self._listeners = listen(config.host, config.port)
        self._addresses: list[Address] = [one.getsockname()[:2] for one in self._listeners]
        self._handover: tuple[socket.socket, Path] | None = None
        if config.handover != "off":
            try:
                self._handover = listen_for_nodes(None if config.handover == "auto" else config.handover)
            except ConfigError:
                self._close_listeners()
                raise
        self.shares = share_descriptors(most_descriptors(), config.workers, config.queue)
        self._door = Door(
            self._listeners,
            self._handover and self._handover[0],
            frozenset({os.getuid(), 0}),
            self._enter,
            self._emit,
            config.limits.opening_seconds,
            self.shares,
        )
        self._subscribers: list[Callable[[Event], None]] = []
        self._queue: deque[Visitor] = deque()
        self._workers: list[WorkerProcess] = []
        self._alive: set[WorkerProcess] = set()
        self._failures: dict[int, int] = {}
        self._stopping = False
        self._hurried = False
        self._own_noise: ScratchFolder | None = None
        self._watching: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()

    # For any thread

    @property
    def addresses(self) -> list[Address]:
        """Where it listens; more than one for a name with several addresses, all with the same port."""
        return list(self._addresses)

    @property
    def handover(self) -> Path | None:
        """Where nodes hand over; None for nowhere."""
        return None if self._handover is None else self._handover[1]

    @property
    def queue_depth(self) -> int:
        """How many connections wait for a worker."""
        return len(self._queue)

    def not_ready(self) -> str:
        """Why no session can be taken, as one sentence; empty if one can."""
        if self._stopping:
            return "The server is being stopped."
        ready = [worker for worker in list(self._workers) if worker.is_ready and not worker.gone]
        if not ready:
            return f"None of {self._config.workers} workers has its pipelines and engines ready yet."
        held = [self._held(worker) for worker in ready]
        if all(held):
            return f"None of {self._config.workers} workers can take a scan: {'; '.join(held)}."
        return ""

    def _held(self, worker: WorkerProcess) -> str:
        """Why a worker that is ready will be free for nobody soon, if so."""
        config = self._config
        if monotonic() - worker.beaten > config.heartbeat_seconds / 2:
            return f"worker {worker.index} gives no sign of life"
        if worker.late > config.heartbeat_seconds / 2:
            return f"worker {worker.index} cannot report"
        if worker.visitor is not None and worker.silent > config.limits.opening_seconds:
            return f"the host of worker {worker.index} has sent nothing for {worker.silent:.0f} s"
        return ""

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Have a function called with every event, in their order; it must return at once and never raise."""
        self._subscribers = [*self._subscribers, callback]

    def hurry(self) -> None:
        """Have a stop that is under way cut off at once what still runs."""
        self._hurried = True

    # For the event loop's thread

    async def start(self) -> None:
        """Start the workers, wait until all are ready, and take connections.

        Raises:
            ConfigError: a worker cannot get ready; says why.
        """
        self._loop = asyncio.get_running_loop()
        self._apply(self._config)
        self._watching = asyncio.ensure_future(self._watch())
        self._workers = await self._new_generation(self._config)
        self._door.open()

    async def reload(self, config: ServerConfig) -> None:
        """Take other settings, pipelines and bundles, without losing a scan.

        New workers are made ready beside the old ones. Each old one ends after its session.

        Raises:
            ConfigError: the new settings cannot work, or a new worker cannot get ready: the old ones stay.
        """
        async with self._reloading:
            for name in _FIXED:
                if getattr(config, name) != getattr(self._config, name):
                    logger.warning("a change of '%s' takes a restart; it stays as it was", name)
            config = config.model_copy(update={name: getattr(self._config, name) for name in _FIXED})
            config.check()
            _check_pipelines(config, self._command)
            fresh = await self._new_generation(config)
            old, self._workers = self._workers, fresh
            self._config = config
            self._apply(config)
            for worker in old:
                self._retire(worker, "reloaded")
            logger.info("%d new workers are ready, the old ones end after their sessions", len(fresh))
            self._dispatch()

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Take no more sessions, let those that run finish, and cut off what is not done in time."""
        self._stopping = True
        self._door.close()
        self._close_listeners()
        while self._queue:
            self._door.turn_away(self._queue.popleft(), "stopping")
        grace = self._config.grace_seconds if grace_seconds is None else grace_seconds
        for worker in list(self._alive):
            if worker.is_ready:
                self._retire(worker, "stopped")
            else:
                worker.kill("stopped", "it was not ready yet")
        deadline = monotonic() + grace
        while self._alive and monotonic() < deadline and not self._hurried:
            await asyncio.sleep(0.02)
        for worker in self._alive:
            if worker.visitor is not None:
                logger.warning("the server stops: session %s is cut off", worker.visitor.session)
            worker.kill(
                "stopped", "the server was stopped before the scan was done: send it again when it runs"
            )
        while self._alive:
            await asyncio.sleep(0.02)
        await self._door.wait(min(grace, 2.0))
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._own_noise is not None:
            self._own_noise.remove()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._handover is not None:
            self._handover[0].close()
            remove_socket(self._handover[1])

    def _apply(self, config: ServerConfig) -> None:
        """What the door needs to know."""
        self._door.allowed = Allowed(config.allow)
        self._door.tls = None if config.tls is None else tls_context(config.tls)

    def _emit(self, event: Event) -> None:
        for callback in self._subscribers:
            try:
                callback(event)
            except Exception:  # whoever watches must not keep the pool from its work
                logger.exception("'%s' could not be passed on", event.kind)

    # Workers

    async def _new_generation(self, config: ServerConfig) -> list[WorkerProcess]:
        """As many workers as asked for, all ready; or none, and the reason raised."""
        fresh: list[WorkerProcess] = []
        try:
            for index in range(config.workers):
                fresh.append(self._start(index, config))  # noqa: PERF401 — those before the first failure are ended
            await asyncio.gather(*(worker.ready for worker in fresh))
        except (OSError, ConfigError) as error:
            for worker in fresh:
                worker.kill("stopped", "another worker could not get ready")
            raise ConfigError(str(error)) from error
        return fresh

    def _start(self, index: int, config: ServerConfig) -> WorkerProcess:
        noise_store = config.noise_store or self._shared_noise()
        begin = Begin(
            worker=index,
            device=config.devices[index % len(config.devices)],
            threads=config.worker_threads,
            pipeline=config.pipeline,
            prepare=config.prepare,
            pipelines=None if config.pipelines is None else str(config.pipelines.resolve()),
            noise_store=str(noise_store.resolve()),
            tls=config.tls,
            limits=config.limits,
            memory_bytes=config.memory_bytes,
            record=config.record,
            series_log=None if config.series_log is None else str(config.series_log),
            beat_seconds=min(1.0, config.heartbeat_seconds / 4, config.limits.stage_seconds / 4),
            log_level=logging.getLogger("scanside_gadgetron").getEffectiveLevel(),
            log_json=config.log == "json",
        )
        worker = WorkerProcess.start(index, begin, self._command)
        self._alive.add(worker)
        self._loop.add_reader(worker.channel, self._hear, worker)
        self._emit(WorkerStarted(time=time(), worker=index, pid=worker.pid, device=begin.device))
        return worker

    def _shared_noise(self) -> Path:
        """A noise measurement made by one worker is found by all, as long as the server lasts."""
        if self._own_noise is None:
            self._own_noise = ScratchFolder("scanside-noise-")
        return self._own_noise.path

    def _hear(self, worker: WorkerProcess) -> None:
        """Take in what a worker has to say."""
        while not worker.gone:
            try:
                received = worker.channel.receive(wait=False)
            except PeerSilent:
                return
            except MessageError as error:
                logger.warning("worker %d said something strange: %s", worker.index, error)
                continue
            if received is None:
                self._lost(worker)
                continue
            close_all(received[1])  # workers hand nothing over
            try:
                self._understand(worker, received[0])
            except Exception:  # the next message may be that the worker is free
                logger.exception("'%s' of worker %d was not understood", received[0].kind, worker.index)

    def _understand(self, worker: WorkerProcess, message: Message) -> None:
        if isinstance(message, Beat):
            worker.beaten, worker.memory = monotonic(), message.memory
            worker.stage = None if message.stage is None else (message.stage, message.stage_seconds)
            worker.late, worker.silent = message.late_seconds, message.silent_seconds
        elif isinstance(message, Reported):
            self._on_event(worker, message.event)
        elif isinstance(message, Idle):
            self._on_idle(worker, message)
        elif isinstance(message, Unprepared) and not worker.ready.done():
            worker.detail = message.error
            worker.ready.set_exception(ConfigError(message.error))

    def _on_event(self, worker: WorkerProcess, event: Event) -> None:
        self._emit(event)
        if isinstance(event, WorkerReady):
            logger.info("worker %d is ready after %.1f s", worker.index, event.seconds)
            self._failures.pop(worker.index, None)
            worker.idle_since = worker.beaten = monotonic()
            if not worker.ready.done():
                worker.ready.set_result(None)
            self._dispatch()
        elif isinstance(event, SessionEnded) and worker.visitor is not None:
            worker.visitor.ended, worker.over_at = event.outcome, monotonic()

    def _on_idle(self, worker: WorkerProcess, message: Idle) -> None:
        visitor, worker.visitor = worker.visitor, None
        worker.memory, worker.idle_since, worker.stage = message.memory, monotonic(), None
        worker.silent, worker.over_at = 0.0, None
        if visitor is not None:
            visitor.release()
            if visitor.node is not None:
                self._door.answer_node(visitor.node, Over(outcome=visitor.ended or "done"))
        if worker.ending is not None:
            self._retire(worker, worker.ending)
        elif worker.memory > self._config.memory_bytes:
            worker.detail = (
                f"{worker.memory / 2**30:.2f} GiB, allowed are {self._config.memory_bytes / 2**30:.2f}"
            )
            logger.warning("worker %d has grown beyond its limit: %s", worker.index, worker.detail)
            self._retire(worker, "leaked")
        self._dispatch()

    def _retire(self, worker: WorkerProcess, reason: Reason) -> None:
        """Have a worker end, after its session if it has one."""
        if worker.gone:
            return
        worker.ending = reason
        if worker.visitor is None and worker.asked is None:
            worker.asked = monotonic()
            with suppress(StreamError):  # it has just died: that is found elsewhere
                worker.tell(Retire())

    def _lost(self, worker: WorkerProcess) -> None:
        """A worker's channel is closed: it ends or is dead."""
        if worker.gone:
            return
        worker.gone = True
        self._loop.remove_reader(worker.channel)
        self._door.later(self._bury(worker))

    async def _bury(self, worker: WorkerProcess) -> None:
        how = await worker.wait()
        reason: Reason = worker.ending or "died"
        was_ready = worker.is_ready
        detail = worker.detail or how
        if not worker.ready.done():
            worker.ready.set_exception(
                ConfigError(f"worker {worker.index} did not get ready: {detail}; the log above may say why")
            )
        level = logging.INFO if reason in ("stopped", "reloaded") else logging.ERROR
        logger.log(
            level, "worker %d (process %d) is no more: %s; %s", worker.index, worker.pid, reason, detail
        )
        sending, last, peer = worker.note.sending, worker.note.last, worker.note.peer
        worker.close()
        self._alive.discard(worker)
        self._emit(
            WorkerEnded(time=time(), worker=worker.index, pid=worker.pid, reason=reason, detail=detail)
        )
        if worker in self._workers and not self._stopping:
            self._replace(worker, was_ready)
        visitor, worker.visitor = worker.visitor, None
        if visitor is not None:
            await self._part(visitor, _what_happened(reason, detail), sending, last, peer)

    def _replace(self, worker: WorkerProcess, was_ready: bool) -> None:
        """Start another in its place; one that never gets ready is tried less and less often."""
        pause = 0.0
        if not was_ready:
            n = self._failures[worker.index] = self._failures.get(worker.index, 0) + 1
            pause = min(_LONGEST_PAUSE_SECONDS, 2.0 ** (n - 1))
            logger.error(
                "worker %d could not get ready, %d times in a row; next try in %g s", worker.index, n, pause
            )

        def again() -> None:
            if self._stopping or worker not in self._workers:
                return
            try:
                self._workers[self._workers.index(worker)] = self._start(worker.index, self._config)
            except OSError as error:
                logger.warning("worker %d cannot be started: %s", worker.index, error)
                self._replace(worker, was_ready=False)

        self._loop.call_later(pause, again)

    async def _part(self, visitor: Visitor, text: str, sending: bool, last: bytes, peer: Peer | None) -> None:
        """Take leave of a host whose worker is gone."""
        reported = False
        if visitor.opening is not None:
            os.close(visitor.opening)
        if visitor.ended:
            visitor.socket.close()
        elif sending or (self._config.tls is not None and not visitor.handed_over):
            # In the middle of a message, or without the connection's keys, nothing can be said any more.
            cut_off(visitor.socket, shared=visitor.handed_over)
        else:
            # A server that is being stopped cannot hear anybody out: what it says may get lost.
            drain_seconds = 1.0 if self._stopping else self._config.limits.drain_seconds
            peer = "gadgetron" if visitor.handed_over else peer
            quiet_seconds = self._config.limits.idle_seconds
            reported = await told(
                visitor.socket, f"Scanside: {text}", last, peer, drain_seconds, quiet_seconds
            )
        if not visitor.ended:
            with session_log(visitor.session):
                logger.error("%s: %s", visitor.peer, text)
            self._emit(
                SessionEnded(
                    time=time(),
                    session=visitor.session,
                    outcome="lost",
                    error=text,
                    reported=reported,
                    seconds=monotonic() - visitor.since,
                )
            )
        if visitor.node is not None:
            self._door.answer_node(visitor.node, Over(outcome=visitor.ended or "lost"))

    async def _watch(self) -> None:
        """End workers that do not do as they should."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for worker in list(self._alive):
                if worker.gone:
                    continue
                if worker.process.poll() is not None:
                    self._lost(worker)  # something that it started keeps its channel open
                elif fault := self._fault(worker):
                    reason, detail = fault
                    worker.kill(reason, detail)

    def _fault(self, worker: WorkerProcess) -> tuple[Reason, str] | None:
        """What is wrong with a worker, if anything is."""
        config, now = self._config, monotonic()
        limits = config.limits
        if not worker.is_ready:
            if now - worker.started > config.prepare_seconds:
                return "hung", f"it was not ready after {config.prepare_seconds:g} s (prepare_seconds)"
            return None
        if now - worker.beaten > config.heartbeat_seconds:
            return "hung", f"it gave no sign of life for {config.heartbeat_seconds:g} s (heartbeat_seconds)"
        if worker.late > config.heartbeat_seconds:
            return "hung", f"it could report nothing for {config.heartbeat_seconds:g} s (heartbeat_seconds)"
        if worker.over_at is not None and now - worker.over_at > _FREE_SECONDS:
            return "hung", f"its session was over, and it was not free after {_FREE_SECONDS:g} s"
        most = int(_MEMORY_GRACE * config.memory_bytes)
        if worker.memory > most:
            return (
                "leaked",
                f"it took {worker.memory / 2**30:.2f} GiB, allowed are {most / 2**30:.2f} (limits.memory_gib)",
            )
        if worker.visitor is None:
            late = worker.asked is not None and now - worker.asked > _RETIRE_SECONDS
            return (worker.ending or "hung", "it did not end when it was asked to") if late else None
        if now - worker.session_began > limits.session_seconds:
            return (
                "hung",
                f"the session took longer than {limits.session_seconds:g} s (limits.session_seconds)",
            )
        if worker.stage is not None and worker.stage[1] > limits.stage_seconds:
            return "hung", (
                f"stage '{worker.stage[0]}' worked on one item for more than {limits.stage_seconds:g} s "
                "(limits.stage_seconds)"
            )
        return None

    # Sessions

    def _enter(self, visitor: Visitor) -> None:
        """Somebody with a scan is at the door."""
        if self._stopping:
            self._door.turn_away(visitor, "stopping")
            return
        self._queue.append(visitor)
        self._dispatch()
        if visitor not in self._queue:
            return
        if len(self._queue) > self._config.queue:
            self._queue.remove(visitor)
            self._door.turn_away(visitor, "queue-full")
            return
        n_before = len(self._queue) - 1
        with session_log(visitor.session):
            logger.info("%s waits for a worker, %d before it", visitor.peer, n_before)
        tell_place(visitor, n_before, encrypted=self._config.tls is not None)
        self._emit(
            SessionQueued(time=time(), session=visitor.session, peer=visitor.peer, depth=len(self._queue))
        )

    def _dispatch(self) -> None:
        """Give those that wait to free workers, first come first served."""
        while self._queue and not self._stopping:
            idle = [worker for worker in self._workers if worker.is_idle]
            if not idle:
                return
            # The one that has been idle for longest: so every one stays warm.
            self._assign(min(idle, key=lambda worker: worker.idle_since), self._queue.popleft())

    def _assign(self, worker: WorkerProcess, visitor: Visitor) -> None:
        folder = None if self.session_folder is None else str(self.session_folder(visitor.session))
        run = Run(session=visitor.session, peer=visitor.peer, handed_over=visitor.handed_over, folder=folder)
        worker.note.clear()
        try:
            worker.tell(run, *visitor.descriptors)
        except StreamError as error:
            # It has just died, which its channel's end will tell too: the visitor is still the first in the queue.
            logger.info("worker %d takes nothing: %s", worker.index, error)
            self._queue.appendleft(visitor)
            self._lost(worker)
            return
        worker.visitor, worker.session_began, worker.stage = visitor, monotonic(), None
        worker.silent, worker.over_at = 0.0, None
        waited = monotonic() - visitor.since
        with session_log(visitor.session):
            logger.info("%s goes to worker %d after %.2f s", visitor.peer, worker.index, waited)
        if visitor.node is not None:
            with suppress(StreamError):
                visitor.node.send(Taken(session=visitor.session), wait=False)
        self._emit(
            SessionStarted(
                time=time(),
                session=visitor.session,
                worker=worker.index,
                peer=visitor.peer,
                waited_s=waited,
                handed_over=visitor.handed_over,
            )
        )


def _check_pipelines(config: ServerConfig, command: Sequence[str]) -> None:
    """Find names that do not exist before workers are started, which takes seconds."""
    if command is COMMAND:
        PipelinePool(default=config.pipeline, folder=config.pipelines).check(*config.prepare)


def _what_happened(reason: Reason, detail: str) -> str:
    if reason == "stopped":
        return detail
    return (
        f"the worker that reconstructed this scan was lost: {detail}. The scan is lost with it: send it again. "
        "The server goes on; its log holds more"
    )
