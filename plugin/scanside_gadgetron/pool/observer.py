"""What a worker tells of its session: events, and pictures for the live page.

The session's threads only put things down here; what takes time happens in a thread of its own, and what that does
not get done in time is left out of the page. The stream never waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from scanside.errors import StreamError
from scanside.items import Image, Item, KSpace
from scanside.mrd.dtypes import IMAGE_TYPES
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.noise_store import NoiseStore
from scanside.trace import Trace
from scanside_gadgetron.pool.channel import Channel, Message, Reported
from scanside_gadgetron.pool.events import (
    Event,
    ImageMade,
    Observation,
    Progress,
    SessionEnded,
    SessionOpened,
    StageRan,
    Warned,
)
from scanside_gadgetron.pool.expectation import expected_readouts

if TYPE_CHECKING:
    from scanside.pipeline import Pipeline
    from scanside.scan import Scan
    from scanside.serving import Outcome, Request
    from scanside.serving.series_log import SessionSeries

__all__ = ["EventObserver", "LiveTrace", "Outbox", "Pictures", "outcome_name"]

logger = logging.getLogger(__name__)

_MOST_WAITING = 1000
_PROGRESS_SECONDS = 0.25
_LONGEST_TEXT = 4000
_MOST_VOXELS = 1 << 24
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set", "average")
_DIRECTIONS = ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view")
_CALIBRATION = AcquisitionFlag.PARALLEL_CALIBRATION | AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING


class Outbox:
    """Sends messages to the server in a thread of its own, in order.

    Args:
        channel: to the server.
        gone: called when the server is gone.
    """

    def __init__(self, channel: Channel, gone: Callable[[], None]) -> None:
        self._channel = channel
        self._gone = gone
        self._waiting: deque[tuple[float, Message]] = deque()
        self._filled = threading.Condition()
        self._thread = threading.Thread(target=self._send_all, name="scanside-outbox", daemon=True)
        self._thread.start()

    @property
    def late_seconds(self) -> float:
        """How long the oldest message has waited; endless once nothing is sent any more."""
        if not self._thread.is_alive():
            return 1e9
        with self._filled:
            return monotonic() - self._waiting[0][0] if self._waiting else 0.0

    def put(self, message: Message) -> None:
        """Send a message when there is time; what only the page wants is left out when too much waits."""
        with self._filled:
            if len(self._waiting) >= _MOST_WAITING and _for_the_page_only(message):
                return
            self._waiting.append((monotonic(), message))
            self._filled.notify()

    def tell(self, event: Event) -> None:
        """Send an event."""
        self.put(Reported(event=event))

    def _send_all(self) -> None:
        while True:
            with self._filled:
                while not self._waiting:
                    self._filled.wait()
                _, message = self._waiting[0]
            try:
                self._channel.send(message)
            except StreamError:
                self._gone()
                return
            except Exception as error:  # noqa: BLE001 — what cannot be told must not keep the rest from being told
                logger.warning("the server is not told of '%s': %s", message.kind, error)
            with self._filled:
                self._waiting.popleft()


def _for_the_page_only(message: Message) -> bool:
    return isinstance(message, Reported) and isinstance(message.event, (Progress, StageRan, Observation))


class LiveTrace(Trace):
    """Times of stages, told as they come; short items of a stage are joined.

    Args:
        ran: called with a stage's label, its begin in seconds since the session was opened, its time in ms and the
            number of its items.
    """

    def __init__(self, ran: Callable[[str, float, float, int], None]) -> None:
        super().__init__()
        self._ran = ran
        self._opened = perf_counter()
        self._joined: dict[str, tuple[float, float, int]] = {}
        self.arrived_at = self._opened

    def begin(self, stages: Any) -> None:
        """See `Trace.begin`."""
        super().begin(stages)
        self._opened = self.arrived_at = perf_counter()

    def arrived(self) -> None:
        """See `Trace.arrived`."""
        super().arrived()
        self.arrived_at = perf_counter()

    def add(self, stage: str, duration_ns: int, *, item: bool = True) -> None:
        """See `Trace.add`."""
        super().add(stage, duration_ns, item=item)
        now, ms = perf_counter() - self._opened, duration_ns / 1e6
        begin, total, n = self._joined.get(stage, (max(0.0, now - ms / 1e3), 0.0, 0))
        self._joined[stage] = begin, total + ms, n + item
        if now - begin >= _PROGRESS_SECONDS:
            self._tell(stage)

    def flush(self) -> None:
        """Tell what has been joined so far."""
        for stage in list(self._joined):
            self._tell(stage)

    def _tell(self, stage: str) -> None:
        begin, ms, n = self._joined.pop(stage)
        self._ran(stage, begin, ms, n)


class Pictures:
    """Writes arrays into a session's folder in a thread of its own.

    Args:
        waiting: how many may wait; more are left out.
    """

    def __init__(self, waiting: int = 4) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(waiting)
        threading.Thread(target=self._work, name="scanside-pictures", daemon=True).start()

    def later(self, job: Callable[[], None]) -> bool:
        """Have a job done, if there is room."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def finish(self) -> None:
        """Wait for those that are there."""
        self._jobs.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception as error:  # noqa: BLE001 — a full disk, or whatever: it costs a picture and no scan
                logger.warning("a picture for the live page could not be made: %s", error)
            finally:
                self._jobs.task_done()


class EventObserver:
    """A `scanside.serving.SessionObserver` that makes events.

    Args:
        session: its id.
        outbox: takes the events.
        pictures: makes the files.
        folder: where the files go, made with the first; None for none.
        noise: where the noise of the scan is found.
        series: notes what made the images.
    """

    def __init__(
        self,
        session: str,
        outbox: Outbox,
        pictures: Pictures,
        folder: Path | None,
        noise: NoiseStore,
        series: SessionSeries | None = None,
    ) -> None:
        self.trace: Trace = LiveTrace(self._stage_ran)
        self.pipeline = ""
        self.fallbacks = 0
        self._session = session
        self._tell = outbox.tell
        self._pictures = pictures
        self._folder = folder
        self._noise = noise
        self._series = series
        self._scan: Scan | None = None
        self._last_stage = ""
        self._expected: int | None = None
        self._n_warned = 0
        self._n_images = 0
        self._progress_at = 0.0
        self._seen: set[str] = set()
        self._arrived: dict[int, float] = {}
        self._lock = threading.Lock()

    def opened(self, request: Request, scan: Scan, pipeline: Pipeline) -> None:
        """See `SessionObserver.opened`."""
        self._scan = scan
        self.pipeline = pipeline.name
        self._last_stage = pipeline.labels[-1]
        self._expected = expected_readouts(scan.header)
        self._tell(
            SessionOpened(
                time=time(),
                session=self._session,
                pipeline=pipeline.name,
                stages=list(pipeline.labels),
                scan=_facts_of_scan(scan),
            )
        )

    def gave(self, stage: str, item: Item) -> None:
        """See `SessionObserver.gave`."""
        if isinstance(item, Image):
            if stage == self._last_stage:
                assert isinstance(self.trace, LiveTrace)
                self._arrived[id(item)] = self.trace.arrived_at
        elif self._folder is not None and isinstance(item, KSpace):
            self._look_at(item)

    def progressed(self, outcome: Outcome) -> None:
        """See `SessionObserver.progressed`."""
        now = perf_counter()
        with self._lock:
            if now - self._progress_at < _PROGRESS_SECONDS:
                return
            self._progress_at = now
        self._tell_progress(outcome)

    def sent(self, image: Image) -> None:
        """See `SessionObserver.sent`."""
        latency_ms = 1e3 * (perf_counter() - self._arrived.pop(id(image), perf_counter()))
        index, self._n_images = self._n_images, self._n_images + 1
        fallback = image.meta.get("ScansideFallback")
        self.fallbacks += fallback is not None
        if self._series is not None:
            self._series.take(image)
        made = ImageMade(
            time=time(),
            session=self._session,
            index=index,
            facts=_facts_of_image(image),
            fallback=None if fallback is None else ": ".join(fallback[1:])[:_LONGEST_TEXT],
            latency_ms=latency_ms,
        )

        def picture() -> None:
            name = f"image-{index}.npy"
            try:
                self._save(name, _magnitude(image))
            except OSError as error:
                logger.warning("an image for the live page could not be kept: %s", error)
                name = ""
            self._tell(made.model_copy(update={"file": name}))

        if self._folder is None or image.data.numel() > _MOST_VOXELS or not self._pictures.later(picture):
            self._tell(made)

    def ended(self, outcome: Outcome) -> None:
        """See `SessionObserver.ended`."""
        try:
            assert isinstance(self.trace, LiveTrace)
            self.trace.flush()
            self._tell_progress(outcome)
            if self._series is not None:
                self._series.finish()
            self._pictures.finish()
        finally:
            self._tell_end(outcome)

    def _tell_end(self, outcome: Outcome) -> None:
        self._tell(
            SessionEnded(
                time=time(),
                session=self._session,
                outcome=outcome_name(outcome),
                error="" if outcome.error is None else str(outcome.error)[:_LONGEST_TEXT],
                reported=outcome.reported,
                n_readouts=outcome.n_readouts,
                n_images=outcome.n_images,
                seconds=outcome.seconds,
            )
        )

    def _stage_ran(self, stage: str, begin: float, duration_ms: float, items: int) -> None:
        self._tell(
            StageRan(
                time=time(),
                session=self._session,
                stage=stage,
                begin=begin,
                duration_ms=duration_ms,
                items=items,
            )
        )

    def _tell_progress(self, outcome: Outcome) -> None:
        n_readouts, expected = outcome.n_readouts, self._expected
        self._tell(
            Progress(
                time=time(),
                session=self._session,
                n_readouts=n_readouts,
                n_images=outcome.n_images,
                # A scan that has more than its header announced is none of which that tells the end.
                expected_readouts=expected if expected and n_readouts <= expected else None,
            )
        )
        warnings = [] if self._scan is None else self._scan.warnings
        with self._lock:
            news, self._n_warned = warnings[self._n_warned :], len(warnings)
        for text in news:
            self._tell(Warned(time=time(), session=self._session, text=text[:_LONGEST_TEXT]))

    def _look_at(self, kspace: KSpace) -> None:
        """Keep the first of each thing that is worth a look."""
        if "sampling" not in self._seen:
            # Small; and taken now, as later stages may work in place.
            sampling = _sampling(kspace)
            self._keep("sampling", lambda: sampling)
            self._keep("noise", self._covariance)
        if kspace.coil_maps is not None:
            maps = kspace.coil_maps
            if maps.numel() <= _MOST_VOXELS:
                self._keep("coils", lambda: maps.detach().cpu().numpy())

    def _keep(self, what: Any, array: Callable[[], npt.NDArray[Any] | None]) -> None:
        if what in self._seen:
            return
        self._seen.add(what)

        def picture() -> None:
            found = array()
            if found is None:
                return
            self._save(f"{what}.npy", found)
            self._tell(Observation(time=time(), session=self._session, what=what, file=f"{what}.npy"))

        self._pictures.later(picture)

    def _covariance(self) -> npt.NDArray[Any] | None:
        """The covariance of the scan's noise, its own or that which its header refers to."""
        assert self._scan is not None
        header = self._scan.header
        names = [header.measurement_id, *(one.measurement_id for one in header.dependencies)]
        for name in filter(None, names):
            if (record := self._noise.get(name)) is not None:
                return record.covariance
        return None

    def _save(self, name: str, array: npt.NDArray[Any]) -> None:
        assert self._folder is not None
        # Not its parents: those go with the server, and nobody would remove what is made after that.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        part = self._folder / f"{name}.part"
        with part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        part.replace(self._folder / name)


def outcome_name(outcome: Outcome) -> Literal["done", "failed", "lost", "query"]:
    """What became of a session, in one word; see `SessionEnded`."""
    if outcome.query:
        return "query"
    if outcome.error is None:
        return "done"
    # A host that went away, or that could not be told, has lost its scan.
    return "failed" if outcome.reported else "lost"


def _magnitude(image: Image) -> npt.NDArray[np.float32]:
    """Magnitude ``(z, y, x)``; of several channels the root of the sum of squares."""
    data = image.data.detach().abs().float().cpu().numpy()
    if len(data) == 1:
        single: npt.NDArray[np.float32] = data[0]
        return single
    joined: npt.NDArray[np.float32] = np.sqrt(np.square(data).sum(0))
    return joined


def _sampling(kspace: KSpace) -> npt.NDArray[np.uint8]:
    """Sampled lines ``(k2, k1)`` of the first frame: 1 for lines of the image, 2 for calibration, 3 for both."""
    first = (0,) * len(kspace.other)
    flags = kspace.headers[first]["flags"]
    both = flagged(flags, AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING)
    calibration = flagged(flags, _CALIBRATION)
    classes = kspace.mask[first].cpu().numpy().astype(np.uint8)
    classes[calibration & ~both] = 2
    classes[both] = 3
    reference = kspace.reference
    if reference is not None and reference.mask.shape[-2:] == kspace.mask.shape[-2:]:
        sampled = reference.mask.cpu().numpy().reshape(-1, *classes.shape)[0]
        classes |= sampled.astype(np.uint8) << 1
    return classes


def _facts_of_scan(scan: Scan) -> dict[str, Any]:
    """What a header says of a scan, and of nobody."""
    header = scan.header
    encoding = header.encodings[0]
    facts = {
        "protocol": (header.protocol_name or "")[:200],
        "matrix": list(encoding.recon.matrix),
        "encoded_matrix": list(encoding.encoded.matrix),
        "field_of_view_mm": [round(extent, 3) for extent in encoding.recon.field_of_view_mm],
        "n_coils": header.n_coils,
        "acceleration": list(encoding.acceleration),
        "trajectory": encoding.trajectory,
        "field_strength_t": header.field_strength_t,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _facts_of_image(image: Image) -> dict[str, Any]:
    header = image.header
    kind = int(header["image_type"])
    facts: dict[str, Any] = {
        "image_series_index": int(header["image_series_index"]),
        "image_type": next((name for name, number in IMAGE_TYPES.items() if number == kind), "magnitude"),
    }
    facts |= {name: int(header[name]) for name in _COUNTERS}
    facts |= {name: [float(value) for value in header[name]] for name in _DIRECTIONS}
    for name, values in image.meta.items():
        if name.startswith("Scanside"):
            facts[name] = [text[:_LONGEST_TEXT] for text in values]
    return facts
