"""Driving a scan through a pipeline: in one thread, or with a reader, a compute and a writer thread.

Both ways give the same items in the same order. With threads, receiving the next lines, computing and sending
images overlap; bounded queues between them push back on the source, so that a slow stage never fills memory. Results
may wait for longer than input: a peer that takes none of them for a while can go on sending meanwhile, and one that
first sends everything and then takes the results is no deadlock.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import monotonic

from scanside.errors import StreamError
from scanside.items import Image, Item, Readouts
from scanside.pipeline import PipelineRun
from scanside.scan import ScanEnd

__all__ = ["QUEUE_DEPTH", "WAITING_BYTES", "execute"]

logger = logging.getLogger(__name__)

QUEUE_DEPTH = 2
"""Blocks that wait between reader and compute thread. A `MessageReader` must keep two more blocks valid."""

WAITING_BYTES = 64 << 20
"""Size of the results that wait to be written at most; one result may be larger."""

_ITEM_BYTES = 4 << 10  # what an item takes besides its samples

_CUT_OFF_SECONDS = 5.0  # how long a thread may take to notice that its connection was cut off


class _End:
    """The last thing in a queue: the source is exhausted, or failed."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def execute(
    run: PipelineRun,
    source: Iterable[Item],
    write: Callable[[Item], None],
    *,
    threads: bool = False,
    drain_seconds: float = 60.0,
    cut_off: Callable[[], None] | None = None,
) -> None:
    """Send a whole scan through a pipeline.

    When the source ends early (a `StreamError`), the stages are told so, what they still give is written,
    and the error is raised: nothing passes for a whole scan that is none. When a stage or `write` fails, a
    threaded source is read to its end and dropped first, so that the peer can be told the error. Results that were
    there before a stage failed are written.

    Args:
        run: an opened run.
        source: the scan's items, in order.
        write: takes each result.
        threads: read and write in threads of their own.
        drain_seconds: after a failure, how long the rest of the source and of the results may take.
        cut_off: ends a source or a write that is stuck, from another thread (for example by shutting the
            socket down).

    Raises:
        StageError: a stage failed.
        StreamError: the source ended early, or `write` lost its peer.
    """
    if not threads:
        early = _compute(run, iter(source), write)
    else:
        reader, writer = _Reader(source), _Writer(write)
        try:
            early = _compute(run, reader.items(), writer.put)
            writer.finish()
        except BaseException as error:
            # An interrupt from the keyboard must not have to wait for the rest of the scan.
            deadline = monotonic() + (drain_seconds if isinstance(error, Exception) else 0.0)
            # Both, whatever the first says: a writer that was not told would wait for results for ever.
            ended = [reader.drain(deadline), writer.end(deadline)]
            if not all(ended) and cut_off is not None:
                logger.warning(
                    "the peer did not finish within %g s after a failure: it is cut off", drain_seconds
                )
                with suppress(OSError):  # the connection may be gone already
                    cut_off()
                reader.join(_CUT_OFF_SECONDS)
                writer.join(_CUT_OFF_SECONDS)
            raise
    if early is not None:
        raise early


def _compute(run: PipelineRun, items: Iterator[Item], write: Callable[[Item], None]) -> StreamError | None:
    """Push everything; gives the error with which the source ended early, or None."""
    end, early = ScanEnd(), None
    while True:
        try:
            item = next(items)
        except StopIteration:
            break
        except StreamError as error:
            end, early = ScanEnd(complete=False, reason=str(error)), error
            break
        for result in run.push(item):
            _deliver(run, result, write)
    for result in run.finish(end):
        _deliver(run, result, write)
    return early


def _deliver(run: PipelineRun, result: Item, write: Callable[[Item], None]) -> None:
    write(result)
    if isinstance(result, Image):
        run.trace.image_left()


class _Reader:
    """Reads a source in a thread."""

    def __init__(self, source: Iterable[Item]) -> None:
        self._queue: queue.Queue[Item | _End] = queue.Queue(QUEUE_DEPTH)
        self._abandoned = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(source,), name="scanside-reader", daemon=True
        )
        self._thread.start()

    def _read(self, source: Iterable[Item]) -> None:
        error: BaseException | None = None
        try:
            for item in source:
                self._queue.put(item)
                if self._abandoned.is_set():
                    break
        except BaseException as caught:  # noqa: BLE001 — handed to the computing thread, which raises it
            error = caught
        self._queue.put(_End(error))

    def items(self) -> Iterator[Item]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                self._queue.put(item)  # drain() must find it again
                if item.error is not None:
                    raise item.error
                return
            yield item

    def drain(self, deadline: float) -> bool:
        """Read on and drop until the source ends; says whether it did in time."""
        while (left := deadline - monotonic()) > 0:
            try:
                if isinstance(self._queue.get(timeout=left), _End):
                    self._thread.join()
                    return True
            except queue.Empty:
                break
        # The source is left to itself. The thread may have one more item in its hands and then its end to
        # tell: an empty queue has room for both, so it never blocks here.
        self._abandoned.set()
        _empty(self._queue)
        return False

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)


class _Writer:
    """Writes results in a thread."""

    def __init__(self, write: Callable[[Item], None]) -> None:
        self._waiting: deque[Item] = deque()
        self._n_bytes = 0
        self._changed = threading.Condition()
        self._done = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._write, args=(write,), name="scanside-writer", daemon=True
        )
        self._thread.start()

    def _write(self, write: Callable[[Item], None]) -> None:
        while (item := self._next()) is not None:
            try:
                write(item)
            except BaseException as caught:  # noqa: BLE001 — the computing thread raises it at its next put
                with self._changed:
                    self._error = caught
                self._drop()
                return

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._done)
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            self._n_bytes -= _n_bytes(item)
            self._changed.notify_all()
            return item

    def _drop(self) -> None:
        """Write nothing more, and forget what waits."""
        with self._changed:
            self._done = True
            self._waiting.clear()
            self._n_bytes = 0
            self._changed.notify_all()

    def put(self, item: Item) -> None:
        # Readouts that pass through are views of the receive buffer, which is reused before they are sent.
        item = item.copy() if isinstance(item, Readouts) else item
        n_bytes = _n_bytes(item)
        with self._changed:
            self._changed.wait_for(
                lambda: self._done or not self._n_bytes or self._n_bytes + n_bytes <= WAITING_BYTES
            )
            self._raise()
            self._waiting.append(item)
            self._n_bytes += n_bytes
            self._changed.notify_all()

    def finish(self) -> None:
        with self._changed:
            self._done = True
            self._changed.notify_all()
        self._thread.join()
        self._raise()

    def end(self, deadline: float) -> bool:
        """Write what waits, and nothing that has not been written by then; says whether all was done in time."""
        with self._changed:
            self._done = True
            self._changed.notify_all()
        self.join(max(0.0, deadline - monotonic()))
        self._drop()
        return not self._thread.is_alive()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _n_bytes(item: Item) -> int:
    """How much memory an item takes, about."""
    samples = item.samples if isinstance(item, Readouts) else item.data
    return _ITEM_BYTES + int(samples.nbytes)


def _empty(waiting: queue.Queue[Item | _End]) -> None:
    with suppress(queue.Empty):
        while True:
            waiting.get_nowait()
