"""Spokes, spirals and echo trains through node and server: the same pixels, and while the scan still runs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from scanside import Context, Image, Item, Pipeline, Readouts, Scan
from scanside.convert import items_of, message_of
from scanside.execution import execute
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.messages import ConfigFile, ConfigText
from scanside.mrd.streams import SocketStream
from scanside.replay import configuration
from scanside.serving import PipelinePool
from scanside.simulate import ScanConfig, SimulatedScan, preset, simulate
from scanside.testing.transports import Received, play_host
from scanside_gadgetron.node import run_node

PIPELINES = ("radial", "radial-realtime", "spiral", "epi")
WAIT_SECONDS = 100.0


def small(name: str, matrix: int, repetitions: int, **sampling: object) -> SimulatedScan:
    """A preset with fewer voxels and coils, two slices at most."""
    config = preset(name)
    sizes = {"matrix": (matrix, matrix, 1), "n_slices": min(config.geometry.n_slices, 2)}
    parts = {
        "phantom": config.phantom.model_copy(update={"supersampling": (1, 1, 1)}),
        "coils": config.coils.model_copy(update={"n_coils": 4}),
        "geometry": config.geometry.model_copy(update=sizes),
        "dynamics": config.dynamics.model_copy(update={"repetitions": repetitions}),
        "sampling": config.sampling.model_copy(update=sampling),
    }
    return simulate(ScanConfig.model_validate(config.model_copy(update=parts).model_dump()))


@pytest.fixture(scope="module")
def scans() -> dict[str, SimulatedScan]:
    """By the pipeline that takes them."""
    radial, arms = small("radial", 48, 3), preset("spiral").sampling.trajectory
    assert arms is not None
    arms = arms.model_copy(update={"readouts": 6, "full": 12, "samples": 300})
    return {
        "radial": radial,
        "radial-realtime": radial,
        "spiral": small("spiral", 48, 2, trajectory=arms),
        "epi": small("epi", 48, 3, acs=(16, 0)),
    }


@pytest.fixture(scope="module")
def direct(scans: dict[str, SimulatedScan]) -> dict[str, list[Image]]:
    """Images of every pipeline in this process."""
    images: dict[str, list[Image]] = {}
    for name, scan in scans.items():
        pipeline = Pipeline.load(name)
        pipeline.prepare(Context("cpu"))
        made: list[Item] = []
        with pipeline.open(Scan.from_xml(scan.header_xml)) as run:
            execute(run, scan.items(), made.append)
        # As a host gets them: headers then say how the samples were sent.
        sent = [message_of(item) for item in made if isinstance(item, Image)]
        received = [item for one in sent for item in items_of(one, Scan.from_xml(scan.header_xml))]
        images[name] = [item for item in received if isinstance(item, Image)]
    return images


def images_after(pipeline: str, repetition: int) -> int:
    """How many images there are once a repetition's readouts have come."""
    if pipeline == "radial-realtime":  # of 34 spokes, as a repetition, one after every 17
        return 2 * repetition + 1
    return (repetition + 1) * (2 if pipeline == "epi" else 1)


@dataclass
class Waiting:
    """A scanner that sends a repetition once all images of those before it have come.

    Attributes:
        change: what it does wrong; then it waits for nothing.
    """

    scan: SimulatedScan
    pipeline: str
    change: Callable[[Readouts], Readouts] | None = None
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    late: str = ""

    def items(self) -> Iterator[Readouts]:
        """The scan, as far as images come."""
        repetition = n_images = 0
        for block in self.scan.items(1 << 10):  # ends with each repetition
            assert isinstance(block, Readouts)
            if self.change is not None:
                yield self.change(block)
                continue
            yield block
            if flagged(block.headers["flags"], NOT_IMAGING | AcquisitionFlag.PARALLEL_CALIBRATION).all():
                continue
            while n_images < images_after(self.pipeline, repetition):
                if not self.came.acquire(timeout=WAIT_SECONDS):
                    self.late = f"image {n_images} did not come after repetition {repetition}"
                    return
                n_images += 1
            repetition += 1

    def take(self, item: Item) -> None:
        """An item has come back."""
        if isinstance(item, Image):
            self.came.release()


Send = Callable[[Waiting], Received]


@contextmanager
def through_node() -> Iterator[Send]:
    """gadgetron-python hands its connection over to the node, in a thread of this process."""
    gadgetron = pytest.importorskip("gadgetron.external.connection")
    pool = PipelinePool(Context("cpu"))

    def run(theirs: socket.socket) -> None:
        with gadgetron.Connection(theirs) as connection:
            run_node(connection, pool, drain_seconds=20)

    def send(scanner: Waiting) -> Received:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=run, args=(theirs,), daemon=True)
        thread.start()
        stream = SocketStream(ours, timeout=300)
        opening = ConfigText(configuration(scanner.pipeline))
        received = play_host(stream, opening, scanner.scan.header_xml, scanner.items(), on_item=scanner.take)
        stream.close()
        thread.join(300)
        assert not thread.is_alive()
        return received

    yield send


@contextmanager
def through_server() -> Iterator[Send]:
    """``scanside serve`` with one worker, which loads pipelines as hosts ask for them."""
    command = [sys.executable, "-m", "scanside_gadgetron", "serve", "--port", "0", "--handover", "off"]
    command += ["--pipeline", "fft", "--workers", "1", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        def send(scanner: Waiting) -> Received:
            stream = SocketStream(socket.create_connection(("127.0.0.1", port)), timeout=300)
            received = play_host(
                stream,
                ConfigFile(scanner.pipeline),
                scanner.scan.header_xml,
                scanner.items(),
                on_item=scanner.take,
            )
            stream.close()
            return received

        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            yield send
        finally:
            process.kill()


@pytest.fixture(scope="module", params=[through_node, through_server], ids=["node", "server"])
def send(request: pytest.FixtureRequest) -> Iterator[Send]:
    """A way to the pipelines."""
    with request.param() as way:
        yield way


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_images_come_while_the_scan_runs(
    scans: dict[str, SimulatedScan], direct: dict[str, list[Image]], send: Send, pipeline: str
) -> None:
    scanner = Waiting(scans[pipeline], pipeline)
    received = send(scanner)
    assert received.error is None, received.error
    assert not scanner.late
    assert len(received.images) == len(direct[pipeline])
    for image, expected in zip(received.images, direct[pipeline], strict=True):
        np.testing.assert_array_equal(image.data.numpy(), expected.data.numpy())
        assert image.header == expected.header
        assert image.meta == expected.meta


def in_another_unit(block: Readouts) -> Readouts:
    scaled = None if block.trajectory is None else block.trajectory * np.float32(0.4)
    return Readouts(block.headers, block.samples, scaled)


def without_a_spoke(block: Readouts) -> Readouts:
    return block if block.trajectory is None else block.select(np.arange(len(block)) != 5)


def without_navigators(block: Readouts) -> Readouts:
    return block.select(~flagged(block.headers["flags"], AcquisitionFlag.PHASECORR_DATA))


def test_a_trajectory_in_no_known_unit_is_an_error(scans: dict[str, SimulatedScan], send: Send) -> None:
    received = send(Waiting(scans["radial"], "radial", in_another_unit))
    assert received.error is not None
    assert "unit of the trajectory cannot be told: it reaches 0.2" in received.error
    assert "set gather.unit" in received.error
    assert not received.images


@pytest.mark.parametrize(
    ("pipeline", "change", "attribute", "text"),
    [
        ("radial", without_a_spoke, "ScansideIncomplete", "1 readouts of slice 0"),
        ("epi", without_navigators, "ScansideWarning", "no navigators came before its lines"),
    ],
)
def test_what_is_missing_stands_in_the_images(
    scans: dict[str, SimulatedScan],
    send: Send,
    pipeline: str,
    change: Callable[[Readouts], Readouts],
    attribute: str,
    text: str,
) -> None:
    received = send(Waiting(scans[pipeline], pipeline, change))
    assert received.error is None, received.error
    assert received.images
    for image in received.images:
        assert any(text in said for said in image.meta[attribute])
