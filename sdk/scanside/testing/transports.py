"""What every transport must do, as tests that a transport's own tests inherit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from unittest import SkipTest

import numpy as np
import numpy.typing as npt

from scanside.convert import items_of, message_of
from scanside.errors import PeerReported, ScanError, StreamError
from scanside.execution import execute
from scanside.items import Image, Item, Readouts, Waveform
from scanside.mrd.dtypes import IMAGE_HEADER
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.messages import ConfigFile, ConfigText
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import ByteStream
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.testing.small import small_waveform

__all__ = ["Received", "TransportTests", "play_host"]


@dataclass
class Received:
    """What a transport brought back.

    Attributes:
        items: in the order in which they came, in memory of their own.
        error: text of the error that was reported, or None.
    """

    items: list[Item] = field(default_factory=list)
    error: str | None = None

    @property
    def images(self) -> list[Image]:
        """The images among the items."""
        return [item for item in self.items if isinstance(item, Image)]


def play_host(
    stream: ByteStream,
    opening: ConfigFile | ConfigText,
    header_xml: bytes,
    items: Iterable[Item],
    *,
    whole: bool = True,
    on_item: Callable[[Item], None] = lambda item: None,  # noqa: ARG005
) -> Received:
    """Play a host's (or Gadgetron's) part of a session: send in a thread, and take what comes until it ends.

    Args:
        stream: the connection to node or server.
        opening: the configuration to send.
        header_xml: the scan's header.
        items: the scan.
        whole: end with CLOSE; otherwise end the stream without a word.
        on_item: called with each item that came back, as it comes.
    """
    session = ClientSession(stream)
    scan = Scan.from_xml(header_xml)
    received = Received()

    def send() -> None:
        try:
            for item in items:
                session.send(message_of(item))
            if whole:
                session.finish()
            else:
                stream.end_writing()
        except StreamError:
            # The other side left: what it said before is found by the thread that receives.
            return

    session.open(opening, header_xml)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        for message in session:
            for item in items_of(message, scan):
                received.items.append(item.copy() if isinstance(item, Readouts) else item)
                on_item(item)
    except PeerReported as error:
        received.error = str(error)
    sender.join()
    return received


class TransportTests:
    """Tests that certify a transport; say how to send a scan through it and inherit them.

    ::

        from scanside.testing import TransportTests

        class TestPipe(TransportTests):
            def run(self, items, header_xml, pipeline, *, whole=True):
                ...
                return Received(items, error)

    Attributes:
        echoes: whether items that no stage took come back.
        time_limit_s: longest time that one scan may take: nothing may hang, whatever happens.
        large_bytes: how much input follows an early failure: more than a connection's buffers hold.
    """

    echoes: bool = True
    time_limit_s: float = 60.0
    large_bytes: int = 16 << 20

    def run(
        self, items: Iterable[Item], header_xml: bytes, pipeline: Pipeline, *, whole: bool = True
    ) -> Received:
        """Send a scan through the transport and a pipeline.

        Args:
            items: the scan, in order.
            header_xml: its header.
            pipeline: not prepared yet.
            whole: whether the sender ends the scan properly; if not, it leaves without a word after the last item.
        """
        raise NotImplementedError(
            "say how the transport sends a scan: define run(self, items, header_xml, pipeline)"
        )

    def test_readouts_come_back_in_order(self) -> None:
        """A pipeline of readouts alone: every one comes back once, in order, with its own samples."""
        scan = _Scan(n_samples=33, n_lines=41)
        received = self._run(scan.cut(7), scan, Pipeline([Conjugated()]))
        assert received.error is None, received.error
        blocks = [item for item in received.items if isinstance(item, Readouts)]
        headers = np.concatenate([block.headers for block in blocks])
        samples = np.concatenate([block.samples for block in blocks])
        np.testing.assert_array_equal(headers, scan.readouts.headers)
        np.testing.assert_array_equal(samples, scan.readouts.samples.conj())

    def test_same_images_for_any_blocks(self) -> None:
        """However the stream is cut, the images are those of one block."""
        _need_torch()
        scan = _Scan(n_samples=32, n_lines=24, n_slices=2)
        expected = _expected(scan)
        generator = np.random.default_rng(3)
        for cut in (1, 5, len(scan.readouts), generator):
            self._check(scan, scan.cut(cut), expected)

    def test_odd_sizes(self) -> None:
        """Odd numbers of samples and lines, and readouts whose length changes within the scan."""
        _need_torch()
        scan = _Scan(n_samples=17, n_lines=15)
        expected = _expected(scan)
        noise = _noise_readouts(n_samples=37)
        self._check(scan, [*scan.cut(4), noise], expected)
        self._check(scan, [noise, *scan.cut(3)], expected)

    def test_waveforms_pass_by(self) -> None:
        """Waveforms between readouts change no image; where the transport echoes, they come back in order."""
        _need_torch()
        scan = _Scan(n_samples=16, n_lines=8)
        waves = [small_waveform() for _ in range(3)]
        for i, wave in enumerate(waves):
            wave.header["scan_counter"] = i
        blocks = scan.cut(2)
        received = self._check(
            scan, [waves[0], *blocks[:2], waves[1], *blocks[2:], waves[2]], _expected(scan)
        )
        came = [item for item in received.items if isinstance(item, Waveform)]
        assert [int(one.header["scan_counter"]) for one in came] == ([0, 1, 2] if self.echoes else [])
        for one in came:
            np.testing.assert_array_equal(one.data, waves[0].data)

    def test_empty_scan(self) -> None:
        """A scan without data gives nothing, and is no error."""
        scan = _Scan(n_samples=16, n_lines=8)
        received = self._run([], scan, Pipeline([Conjugated()]))
        assert received == Received([], None)

    def test_failing_stage_is_reported(self) -> None:
        """A stage that raises is reported with its name, the readout and the cause, although input goes on."""
        scan = _Scan(n_samples=512, n_lines=256)
        n_times = self.large_bytes // scan.readouts.samples.nbytes + 1
        pipeline = Pipeline([Failing(at_scan_counter=5)], labels=["failing"])
        received = self._run((block for _ in range(n_times) for block in scan.cut(64)), scan, pipeline)
        assert received.error is not None
        for part in ("failing", "scan counter", "told to fail"):
            assert part in received.error, received.error

    def test_failing_end_is_reported(self) -> None:
        """A stage that raises when everything has been sent is reported too."""
        scan = _Scan(n_samples=16, n_lines=8)
        received = self._run(scan.cut(3), scan, Pipeline([Failing(at_end=True)], labels=["failing"]))
        assert received.error is not None
        assert "told to fail" in received.error

    def test_early_end_is_no_whole_scan(self) -> None:
        """A sender that leaves early: it is an error, and no image passes for one of a whole scan."""
        _need_torch()
        scan = _Scan(n_samples=16, n_lines=8)
        received = self._run(scan.cut(3)[:-1], scan, Pipeline([Summed()]), whole=False)
        assert received.error is not None
        assert received.images
        for image in received.images:
            assert image.meta.first("ScansideIncomplete") or image.incomplete

    def test_pipeline_survives_a_failed_scan(self) -> None:
        """After a scan that failed, and one that ended early, the next is right."""
        _need_torch()
        scan = _Scan(n_samples=16, n_lines=8)
        pipeline = Pipeline([Summed()])
        broken = scan.cut(3)
        broken[1].samples[0, 0, 0] = np.nan
        assert self._run(broken, scan, pipeline).error is not None
        assert self._run(scan.cut(3)[:1], scan, pipeline, whole=False).error is not None
        _compare(self._run(scan.cut(3), scan, pipeline), _expected(scan))

    def _check(self, scan: _Scan, items: Sequence[Item], expected: list[Image]) -> Received:
        received = self._run(items, scan, Pipeline([Summed()]))
        _compare(received, expected)
        return received

    def _run(self, items: Iterable[Item], scan: _Scan, pipeline: Pipeline, *, whole: bool = True) -> Received:
        """Run with a time limit."""
        result: list[Received | BaseException] = []

        def work() -> None:
            try:
                result.append(self.run(items, scan.header_xml, pipeline, whole=whole))
            except BaseException as error:  # noqa: BLE001 — raised again below
                result.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.time_limit_s)
        assert result, f"the transport hangs: no result after {self.time_limit_s:g} s"
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]


def _need_torch() -> None:
    if find_spec("torch") is None:
        raise SkipTest("images need torch: pip install 'scanside[torch]'")


def _compare(received: Received, expected: list[Image]) -> None:
    assert received.error is None, received.error
    assert len(received.images) == len(expected)
    for image, wanted in zip(received.images, expected, strict=True):
        apart = (image.data - wanted.data).abs().max() / wanted.data.abs().max()
        assert float(apart) <= 1e-6
        assert image.header["slice"] == wanted.header["slice"]
        assert image.meta == wanted.meta


def _expected(scan: _Scan) -> list[Image]:
    """The images without any transport, from one block."""
    images: list[Item] = []
    with Pipeline([Summed()]).open(Scan.from_xml(scan.header_xml)) as run:
        execute(run, [scan.readouts], images.append)
    assert images
    return [image for image in images if isinstance(image, Image)]


# Stages whose results are known


class Conjugated(Stage[Readouts, Readouts]):
    """Gives every readout with its conjugate samples; needs no torch."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        """One block."""
        yield item.with_samples(item.samples.conj())


class Failing(Stage[Readouts, Readouts]):
    """Raises when told to."""

    class Config(StageConfig):
        """When to raise."""

        at_scan_counter: int | None = None
        at_end: bool = False

    config: Config

    def process(self, item: Readouts) -> Iterator[Readouts]:
        """One block, which is swallowed."""
        if self.config.at_scan_counter in item.headers["scan_counter"]:
            raise ScanError("this stage was told to fail: choose another")
        return iter(())

    def finish(self, end: ScanEnd) -> Iterator[Readouts]:
        """The end."""
        if self.config.at_end:
            raise ScanError("this stage was told to fail: choose another")
        return iter(())


class Summed(Stage[Readouts, Image]):
    """An image of each slice: its lines as they are, summed over the coils. Exact for any blocks."""

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._lines: dict[int, dict[int, npt.NDArray[np.complex64]]] = {}

    def process(self, item: Readouts) -> Iterator[Image]:
        """Keep the lines; an image when a slice ends."""
        noise = np.uint64(AcquisitionFlag.NOISE_MEASUREMENT)
        last = np.uint64(AcquisitionFlag.LAST_IN_SLICE)
        for header, samples in zip(item.headers, item.samples, strict=True):
            if header["flags"] & noise:
                continue
            if not np.isfinite(samples).all():
                raise ScanError(f"the readout with scan counter {header['scan_counter']} is not finite")
            slice_ = int(header["idx"]["slice"])
            lines = self._lines.setdefault(slice_, {})
            lines[int(header["idx"]["kspace_encode_step_1"])] = samples.sum(axis=0)
            if header["flags"] & last:
                yield self._image(slice_, self._lines.pop(slice_), None)

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """Slices that have not ended are incomplete."""
        for slice_, lines in self._lines.items():
            yield self._image(slice_, lines, end.reason or "lines are missing")

    def _image(
        self, slice_: int, lines: dict[int, npt.NDArray[np.complex64]], incomplete: str | None
    ) -> Image:
        import torch

        data = torch.from_numpy(np.stack([lines[number] for number in sorted(lines)])[None, None])
        header: np.void = np.zeros(1, IMAGE_HEADER)[0]
        header["version"], header["slice"] = 1, slice_
        return Image(data, header, incomplete=incomplete)


# A scan of any size


class _Scan:
    """Random readouts of 3 coils, slice by slice."""

    def __init__(self, n_samples: int, n_lines: int, n_slices: int = 1) -> None:
        generator = np.random.default_rng(n_samples)
        n = n_lines * n_slices
        headers = Readouts.empty_headers(n)
        headers["scan_counter"] = np.arange(n)
        headers["number_of_samples"] = n_samples
        headers["active_channels"] = headers["available_channels"] = 3
        headers["center_sample"] = n_samples // 2
        headers["idx"]["kspace_encode_step_1"] = np.tile(np.arange(n_lines), n_slices)
        headers["idx"]["slice"] = np.repeat(np.arange(n_slices), n_lines)
        headers["flags"][n_lines - 1 :: n_lines] = AcquisitionFlag.LAST_IN_SLICE
        real, imag = generator.standard_normal((2, n, 3, n_samples), np.float32)
        self.readouts = Readouts(headers, real + 1j * imag)
        space = (
            f"<matrixSize><x>{n_samples}</x><y>{n_lines}</y><z>1</z></matrixSize>"
            f"<fieldOfView_mm><x>{n_samples}</x><y>{n_lines}</y><z>1</z></fieldOfView_mm>"
        )
        self.header_xml = (
            '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
            "<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz>"
            f"</experimentalConditions><encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}"
            "</reconSpace><encodingLimits/><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
        ).encode()

    def cut(self, n: int | np.random.Generator) -> list[Readouts]:
        """Copies of its readouts in blocks of ``n``, or of random lengths."""
        blocks, start = [], 0
        while start < len(self.readouts):
            length = n if isinstance(n, int) else int(n.integers(1, 9))
            blocks.append(self.readouts.select(slice(start, start + length)).copy())
            start += length
        return blocks


def _noise_readouts(n_samples: int) -> Readouts:
    headers = Readouts.empty_headers(4)
    headers["flags"] = AcquisitionFlag.NOISE_MEASUREMENT
    headers["number_of_samples"] = n_samples
    headers["active_channels"] = headers["available_channels"] = 3
    return Readouts(headers, np.ones((4, 3, n_samples), np.complex64))
