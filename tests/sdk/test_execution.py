"""Scans driven through a pipeline in one thread and in three."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from scanside import execution
from scanside.context import Context
from scanside.errors import FormatError, IncompleteRead, MessageError, PeerGone, StageError
from scanside.execution import QUEUE_DEPTH, execute
from scanside.items import Image, Item, KSpace, Readouts
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage
from scanside.stages.accumulate import Accumulate
from scanside.stages.finish import Finish
from scanside.stages.fourier import Fourier
from scanside.testing import small_image, small_readouts, small_scan, small_waveform
from scanside.testing.compare import copy_of, difference
from scanside.trace import Trace

both = pytest.mark.parametrize("threads", [False, True], ids=["inline", "threads"])


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Whatever a test does, the threads that it started are gone a moment later."""
    yield
    deadline = monotonic() + 300
    while (left := running()) and monotonic() < deadline:
        sleep(0.005)
    assert not left


def running() -> list[str]:
    """Threads of the execution; an engine's stays with its worker."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("scanside-") and name != "scanside-engine"]


def images(n: int) -> list[Item]:
    return [small_image(repetition=i) for i in range(n)]


class Through(Stage[Image, Image]):
    """Hands images on; says how the scan ended."""

    def open(self, scan: Scan) -> None:
        self.end: ScanEnd | None = None

    def process(self, item: Image) -> Iterator[Image]:
        yield item

    def finish(self, end: ScanEnd) -> Iterable[Image]:
        self.end = end
        yield small_image(repetition=99)


class ThroughReadouts(Stage[Readouts, Readouts]):
    def process(self, item: Readouts) -> Iterator[Readouts]:
        yield item


class Fails(Stage[Image, Image]):
    """Fails at the third image."""

    n = 0

    def process(self, item: Image) -> Iterator[Image]:
        self.n += 1
        if self.n == 3:
            raise RuntimeError("third image")
        yield item


class Source:
    """Gives items and notes how many were asked for, and whether its end was reached."""

    def __init__(self, items: Iterable[Item], error: BaseException | None = None) -> None:
        self.items = items
        self.error = error
        self.n_given = 0
        self.ended = False
        self.all_given = threading.Event()

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            self.n_given += 1
            yield item
        self.ended = True
        self.all_given.set()
        if self.error is not None:
            raise self.error


def repetitions(items: Iterable[Item]) -> list[int]:
    return [int(item.header["repetition"]) for item in items if isinstance(item, Image)]


def run(
    stages: list[Stage[Any, Any]],
    source: Iterable[Item],
    write: Callable[[Item], None],
    kind: type = Image,
    **how: Any,
) -> None:
    pipeline = Pipeline(stages, input=[kind])
    pipeline.prepare(Context(device="cpu"))
    with pipeline.open(small_scan(), how.pop("trace", None)) as opened:
        execute(opened, source, write, **how)


# Scans that go well.


def test_both_ways_give_the_same() -> None:
    results: list[list[Item]] = []
    for threads in (False, True):
        written: list[Item] = []
        items = [*small_readouts()[:2], small_waveform(), *small_readouts()[2:], small_waveform()]
        run([Accumulate(), Fourier(), Finish()], items, written.append, Readouts, threads=threads)
        results.append(written)
    assert [type(item).__name__ for item in results[0]] == ["Waveform", "Image", "Waveform"]
    assert difference(results[1], results[0]) is None


@both
def test_order_is_kept(threads: bool) -> None:
    written: list[Item] = []
    run([Through()], images(20), written.append, threads=threads)
    assert repetitions(written) == [*range(20), 99]


def test_threads_overlap() -> None:
    """An image is written while the next one is computed and the one after that is read: the three meet."""
    meeting = threading.Barrier(3)

    def source() -> Iterator[Item]:
        for i, item in enumerate(images(3)):
            if i == 2:
                meeting.wait(60)
            yield item

    class Meets(Through):
        def process(self, item: Image) -> Iterator[Image]:
            if item.header["repetition"] == 1:
                meeting.wait(60)
            yield item

    def write(item: Item) -> None:
        if item.header["repetition"] == 0:
            meeting.wait(60)

    run([Meets()], source(), write, threads=True)
    assert not meeting.broken


def test_readouts_that_pass_are_written_as_they_were() -> None:
    """The source reuses its buffer as a receiver does, after the blocks that it must keep valid."""
    blocks = [copy_of(small_readouts()[1]) for _ in range(QUEUE_DEPTH + 2)]

    def source() -> Iterator[Item]:
        for i in range(20):
            block = blocks[i % len(blocks)]
            assert isinstance(block, Readouts)
            block.samples[...] = i
            yield block

    seen = []

    def write(item: Item) -> None:
        sleep(0.002)
        assert isinstance(item, Readouts)
        seen.append(np.unique(item.samples).tolist())

    run([ThroughReadouts()], source(), write, Readouts, threads=True)
    assert seen == [[i] for i in range(20)]


@both
def test_latency_of_images_is_noted(threads: bool) -> None:
    trace = Trace()
    run([Through()], images(3), lambda item: None, threads=threads, trace=trace)
    assert trace.image_latency.n == 4


# Pushing back.


def test_a_slow_sink_holds_the_source_back(monkeypatch: pytest.MonkeyPatch) -> None:
    size = execution._n_bytes(small_image())
    monkeypatch.setattr(execution, "WAITING_BYTES", 3 * size)
    source = Source(images(50))
    may_write = threading.Event()
    n_written = 0

    def write(item: Item) -> None:
        nonlocal n_written
        may_write.wait(300)
        n_written += 1

    thread = threading.Thread(target=run, args=([Through()], source, write), kwargs={"threads": True})
    thread.start()
    settled = monotonic() + 0.3
    while monotonic() < settled:
        sleep(0.01)
    # One image is being written, one computed and one in the reader's hands; between them the queues are full.
    assert source.n_given == 3 + 3 + QUEUE_DEPTH
    may_write.set()
    thread.join(300)
    assert not thread.is_alive()
    assert n_written == 51


def test_a_sink_that_takes_nothing_for_a_while_does_not_hold_the_source_back() -> None:
    """Else a peer that sends everything before it takes anything would wait for ever, and so would we."""
    source = Source(images(50))

    def write(item: Item) -> None:
        assert source.all_given.wait(300), "the source waits for the sink"

    run([Through()], source, write, threads=True)


def test_a_result_that_is_larger_than_all_that_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "WAITING_BYTES", 1)
    written: list[Item] = []
    run([Through()], images(10), written.append, threads=True)
    assert repetitions(written) == [*range(10), 99]


def test_inline_reads_an_item_when_it_is_needed() -> None:
    source = Source(images(5))
    asked = []
    run([Through()], source, lambda item: asked.append(source.n_given))
    assert asked == [1, 2, 3, 4, 5, 5]


# Scans that end early.


@both
def test_an_early_end_is_told_to_all(threads: bool) -> None:
    stage, written = Through(), list[Item]()
    source = Source(images(3), IncompleteRead("stopped inside message 7"))
    with pytest.raises(IncompleteRead, match="inside message 7"):
        run([stage], source, written.append, threads=threads)
    assert stage.end == ScanEnd(complete=False, reason="stopped inside message 7")
    assert repetitions(written) == [0, 1, 2, 99]  # what there was is written all the same


@both
def test_half_a_scan_never_passes_for_a_whole_one(threads: bool) -> None:
    for policy, n_images in (("withhold", 0), ("mark", 1)):
        written: list[Item] = []
        source = Source(small_readouts()[:3], PeerGone("the connection broke"))
        stages = [Accumulate(incomplete=policy), Fourier(), Finish()]
        with pytest.raises(PeerGone):
            run(stages, source, written.append, Readouts, threads=threads)
        assert len(written) == n_images
        for image in written:
            assert isinstance(image, Image)
            assert "the connection broke" in str(image.incomplete)
            assert image.meta["ScansideIncomplete"] == [image.incomplete]


@both
@pytest.mark.parametrize("error", [MessageError("unknown id 77"), OSError("disk")], ids=["format", "system"])
def test_garbage_from_the_source_ends_the_scan(threads: bool, error: Exception) -> None:
    written: list[Item] = []
    with pytest.raises(type(error)) as caught:
        run([Through()], Source(images(2), error), written.append, threads=threads)
    assert caught.value is error
    assert set(repetitions(written)) <= {0, 1}


# Failures.


@both
def test_a_failing_stage_is_reported(threads: bool) -> None:
    written: list[Item] = []
    with pytest.raises(StageError, match="stage 'fails': RuntimeError: third image"):
        run([Fails()], images(10), written.append, threads=threads)
    assert repetitions(written) == [0, 1], "what was there before is not lost"


def test_a_failing_stage_drains_the_source() -> None:
    """The peer must get rid of all its data, or it never looks at the error that it is sent."""
    source = Source(images(100))
    with pytest.raises(StageError):
        run([Fails()], source, lambda item: None, threads=True)
    assert source.ended
    assert source.n_given == 100


@both
def test_a_failing_write_is_reported(threads: bool) -> None:
    def write(item: Item) -> None:
        if repetitions([item]) == [2]:
            raise PeerGone("nobody takes the images")

    source = Source(images(50))
    with pytest.raises(PeerGone, match="nobody takes"):
        run([Through()], source, write, threads=threads)
    assert source.ended is threads


def test_a_failing_last_write_is_reported() -> None:
    def write(item: Item) -> None:
        if repetitions([item]) == [99]:
            raise PeerGone("nobody takes the last image")

    with pytest.raises(PeerGone, match="last image"):
        run([Through()], images(3), write, threads=True)


def test_nothing_is_written_after_a_failed_write() -> None:
    written = []

    def write(item: Item) -> None:
        written.append(item)
        raise PeerGone("gone")

    with pytest.raises(PeerGone):
        run([Through()], images(10), write, threads=True)
    assert len(written) == 1


class Stuck:
    """Something that waits until it is cut off."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cut = threading.Event()
        self.n_cuts = 0

    def wait(self) -> None:
        self.begun.set()
        assert self.cut.wait(300), "it was not cut off"
        raise PeerGone("cut off")

    def cut_off(self) -> None:
        self.n_cuts += 1
        self.cut.set()


def test_a_stuck_source_is_cut_off() -> None:
    """A stage has failed, and the peer neither sends on nor closes."""
    stuck = Stuck()

    def source() -> Iterator[Item]:
        yield from images(5)
        stuck.wait()

    begun = monotonic()
    with pytest.raises(StageError, match="third image"):
        run([Fails()], source(), lambda item: None, threads=True, drain_seconds=0.1, cut_off=stuck.cut_off)
    assert stuck.n_cuts == 1
    assert 0.1 <= monotonic() - begun < 30
    assert running() == []  # not even for a moment


def test_an_endless_source_is_cut_off() -> None:
    stuck = Stuck()

    def source() -> Iterator[Item]:
        image = small_image()
        while not stuck.cut.is_set():
            yield image

    with pytest.raises(StageError, match="third image"):
        run([Fails()], source(), lambda item: None, threads=True, drain_seconds=0.1, cut_off=stuck.cut_off)
    assert stuck.n_cuts == 1
    assert running() == []


def test_an_endless_source_is_left_when_nobody_can_cut_it_off() -> None:
    def source() -> Iterator[Item]:
        while True:
            yield small_image()

    with pytest.raises(StageError, match="third image"):
        run([Fails()], source(), lambda item: None, threads=True, drain_seconds=0.1)


@pytest.mark.parametrize("n", [3, 20], ids=["queue empty", "queue full"])
def test_a_stuck_writer_is_cut_off(n: int) -> None:
    """A stage has failed, and the peer does not read what is being sent to it."""
    stuck = Stuck()

    class FailsLater(Fails):
        def process(self, item: Image) -> Iterator[Image]:
            yield item
            self.n += 1
            if self.n == min(n, 1 + QUEUE_DEPTH):
                assert stuck.begun.wait(300)
                raise RuntimeError("later")

    with pytest.raises(StageError, match="later"):
        run(
            [FailsLater()],
            images(n),
            lambda item: stuck.wait(),
            threads=True,
            drain_seconds=0.1,
            cut_off=stuck.cut_off,
        )
    assert stuck.n_cuts == 1
    assert running() == []


def test_stuck_on_both_sides() -> None:
    """The source hangs and so does the writer: both threads must end, whichever is looked at first."""
    stuck = Stuck()

    def source() -> Iterator[Item]:
        yield from images(3)
        stuck.wait()

    with pytest.raises(StageError, match="third image"):
        run(
            [Fails()],
            source(),
            lambda item: stuck.wait(),
            threads=True,
            drain_seconds=0.1,
            cut_off=stuck.cut_off,
        )
    assert running() == []


def test_a_writer_ends_though_the_source_hangs() -> None:
    """Nobody can cut the source off, but the writer at least is told."""
    release = threading.Event()

    def source() -> Iterator[Item]:
        yield from images(5)
        release.wait(300)

    with pytest.raises(StageError):
        run([Fails()], source(), lambda item: None, threads=True, drain_seconds=0.05)
    deadline = monotonic() + 300
    while "scanside-writer" in running() and monotonic() < deadline:
        sleep(0.005)
    left = running()
    release.set()
    assert left == ["scanside-reader"]


def test_a_connection_that_cannot_be_cut_off_hides_no_error() -> None:
    release = threading.Event()

    def source() -> Iterator[Item]:
        yield from images(5)
        release.wait(300)

    def cut_off() -> None:
        release.set()
        raise OSError(107, "Transport endpoint is not connected")

    with pytest.raises(StageError, match="third image"):
        run([Fails()], source(), lambda item: None, threads=True, drain_seconds=0.05, cut_off=cut_off)


def test_an_interrupt_does_not_wait_for_the_scan() -> None:
    stuck = Stuck()

    class Interrupted(Through):
        def process(self, item: Image) -> Iterator[Image]:
            raise KeyboardInterrupt
            yield item

    def source() -> Iterator[Item]:
        yield from images(3)
        stuck.wait()

    begun = monotonic()
    with pytest.raises(KeyboardInterrupt):
        run([Interrupted()], source(), lambda item: None, threads=True, cut_off=stuck.cut_off)
    assert monotonic() - begun < 30


def test_failing_stage_in_finish_drains_too() -> None:
    class FailsAtTheEnd(Through):
        def finish(self, end: ScanEnd) -> Iterable[Image]:
            raise ValueError("at the end")

    with pytest.raises(StageError, match="at the end"):
        run([FailsAtTheEnd()], images(3), lambda item: None, threads=True)


def test_early_end_and_failing_stage() -> None:
    """The stage's failure is what the operator can do something about; it has the early end's reason with it."""

    class FailsWhenIncomplete(Through):
        def finish(self, end: ScanEnd) -> Iterable[Image]:
            raise ValueError(f"cannot finish: {end.reason}")

    with pytest.raises(StageError, match="cannot finish: peer gone"):
        run(
            [FailsWhenIncomplete()], Source(images(2), PeerGone("peer gone")), lambda item: None, threads=True
        )


def test_format_errors_are_no_early_end() -> None:
    """After garbage nothing more is made of the scan: what had come may be garbage as well."""
    stage = Through()
    with pytest.raises(FormatError):
        run([stage], Source(images(1), MessageError("x")), lambda item: None)
    assert stage.end is None


def test_kspace_can_come_in() -> None:
    from scanside.testing import small_kspace

    written: list[Item] = []
    run([Fourier()], [small_kspace()], written.append, KSpace, threads=True)
    assert len(written) == 1
