"""A recorded scan takes three ways to the same images; what fails on the way is said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanside.context import Context
from scanside.errors import (
    ConfigError,
    EndOfStream,
    FileFormatError,
    PeerGone,
    PeerReported,
    PipelineError,
    ScansideError,
    ShapeError,
    StageError,
)
from scanside.items import Image, Readouts
from scanside.mrd.files import StreamWriter
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer
from scanside.mrd.messages import HeaderXml
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline
from scanside.replay import ReplayResult, Via, configuration, replay
from scanside.stage import Stage
from scanside.testing.small import small_image, small_readouts, small_scan, small_waveform

HEADER = small_scan().header.xml
SETTINGS = {"grappa.kernel_k1": 2, "finish.kind": "complex"}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "small.h5"
    with Hdf5Writer(path, HEADER) as writer:
        for block in small_readouts():
            writer.write(block)
        writer.write(small_waveform())
    return path


class Kept(Stage[Readouts, Image]):
    """Keeps the readouts that come, and gives an image for the looks of it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Readouts] = []

    def process(self, item: Readouts) -> Iterator[Image]:
        self.blocks.append(item.copy())
        return iter(())

    def finish(self, end: object) -> Iterator[Image]:
        yield small_image()

    @property
    def headers(self) -> np.ndarray:
        return np.concatenate([block.headers for block in self.blocks])


class Fails(Kept):
    """Gives nothing and fails."""

    def process(self, item: Readouts) -> Iterator[Image]:
        raise RuntimeError("at once")


@pytest.fixture(scope="module")
def direct(recording: Path) -> ReplayResult:
    return replay(recording, "grappa", settings=SETTINGS, device="cpu")


@pytest.mark.parametrize("via", ["gadgetron", "mrd"])
def test_all_ways_give_the_same(recording: Path, direct: ReplayResult, tmp_path: Path, via: str) -> None:
    progress: list[tuple[int, int | None]] = []
    result = replay(
        recording,
        "grappa",
        tmp_path / "out.h5",
        via=via,  # type: ignore[arg-type]
        settings=SETTINGS,
        device="cpu",
        on_progress=lambda done, of: progress.append((done, of)),
    )
    assert len(result.images) == len(direct.images) == 1
    image, expected = result.images[0], direct.images[0]
    np.testing.assert_array_equal(image.data.numpy(), expected.data.numpy())
    assert image.header == expected.header
    assert image.meta == expected.meta
    assert (result.n_readouts, progress[-1]) == (24, (24, 24))
    assert [0 < n <= 24 for n in result.n_sent] == [True]
    assert result.warnings == direct.warnings
    with Hdf5Reader(tmp_path / "out.h5") as reader:
        assert reader.header_xml == HEADER
        (stored,) = reader.images("image_1")
    np.testing.assert_array_equal(stored.data, expected.data.numpy())


ODD = (
    HEADER.decode()
    .replace(' xmlns="http://www.ismrm.org/ISMRMRD"', "")
    .replace(
        "<encoding>",
        "<measurementInformation><protocolName>A & B</protocolName></measurementInformation>"
        "<acquisitionSystemInformation><systemFieldStrength_T>low</systemFieldStrength_T>"
        "</acquisitionSystemInformation><encoding>",
        1,
    )
    .replace(
        "</ismrmrdHeader>",
        "<userParameters><userParameters><userParameterDouble><name>dt</name><value>0.001</value>"
        "</userParameterDouble></userParameters></userParameters><somethingNew/></ismrmrdHeader>",
    )
)
"""What old writers and research tools leave out, misplace and invent."""


@pytest.mark.parametrize("via", ["gadgetron", "mrd", "stream"])
def test_an_odd_header_takes_all_ways(
    recording: Path, direct: ReplayResult, tmp_path: Path, via: str
) -> None:
    odd, stream = tmp_path / "odd.h5", tmp_path / "odd.mrd"
    with (
        Hdf5Reader(recording) as reader,
        Hdf5Writer(odd, ODD.encode()) as writer,
        StreamWriter(stream, ODD.encode()) as copy,
    ):
        for item in reader.items():
            writer.write(item)
            copy.write(item)
    expected = replay(odd, "grappa", settings=SETTINGS, device="cpu")
    way = {} if via == "stream" else {"via": via}
    result = replay(stream if via == "stream" else odd, "grappa", settings=SETTINGS, device="cpu", **way)  # type: ignore[arg-type]
    for image in (*expected.images, *result.images):
        np.testing.assert_array_equal(image.data.numpy(), direct.images[0].data.numpy())
    assert result.warnings == expected.warnings
    for part in ("'low'", "'&amp;' was meant"):
        assert any(part in warning for warning in result.warnings), part


def test_skyra_scan_all_ways(shared_data: Path) -> None:
    scan = shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.h5"
    expected = replay(scan, "grappa", device="cpu")
    assert [tuple(image.data.shape) for image in expected.images] == [(1, 1, 144, 192)]
    for via in ("gadgetron", "mrd"):
        result = replay(scan, "grappa", via=via, device="cpu")  # type: ignore[arg-type]
        np.testing.assert_array_equal(result.images[0].data.numpy(), expected.images[0].data.numpy())
        assert result.images[0].header == expected.images[0].header


@pytest.mark.parametrize("block", [1, 7])
def test_block_size_changes_nothing(recording: Path, direct: ReplayResult, block: int) -> None:
    for threads in (False, True):
        result = replay(
            recording,
            "grappa",
            settings=SETTINGS,
            device="cpu",
            block=block,
            threads=threads,
        )
        apart = (result.images[0].data - direct.images[0].data).abs().max() / direct.images[
            0
        ].data.abs().max()
        assert float(apart) <= 1e-6


def test_direct_tells_times_and_lets_observe(recording: Path) -> None:
    seen: list[str] = []
    result = replay(recording, "fft", device="cpu", observe=lambda label, item: seen.append(label))
    assert result.trace is not None
    assert list(result.trace.stages) == ["noise", "accumulate", "fourier", "finish"]
    assert {"noise", "accumulate", "fourier", "finish"} == set(seen)
    assert result.seconds > 0


def test_pace_of_the_scanner(tmp_path: Path) -> None:
    # 16 lines that are 5 ms apart.
    path = tmp_path / "lines.h5"
    with Hdf5Writer(path, HEADER) as writer:
        for block in small_readouts()[1:]:
            writer.write(block)

    def seconds(speed: object) -> float:
        return replay(path, Pipeline([Kept()]), device="cpu", speed=speed).seconds  # type: ignore[arg-type]

    paced, fast = seconds("realtime"), seconds("max")
    assert fast < paced
    assert paced >= 0.075
    assert seconds(0.5) >= 0.15


def test_undersampling_keeps_lines_and_what_is_no_line(recording: Path, tmp_path: Path) -> None:
    mask = np.zeros(24, bool)
    mask[[0, 4, 8, 9, 10, 16]] = True
    np.save(tmp_path / "mask.npy", mask)
    stage = Kept()
    result = replay(recording, Pipeline([stage]), device="cpu", undersample=tmp_path / "mask.npy")
    assert result.n_readouts == 8 + 6
    noise, lines = stage.headers[:8], stage.headers[8:]
    assert (noise["flags"] == AcquisitionFlag.NOISE_MEASUREMENT).all()
    assert lines["idx"]["kspace_encode_step_1"].tolist() == [0, 4, 8, 9, 10, 16]
    samples = np.concatenate([block.samples for block in stage.blocks])
    sent = np.concatenate([block.samples for block in small_readouts()])
    counters = np.concatenate([block.headers for block in small_readouts()])["scan_counter"]
    assert counters.tolist() == [*range(8), *range(8, 24)]
    np.testing.assert_array_equal(samples[:8], sent[:8])
    np.testing.assert_array_equal(samples[8:], sent[lines["scan_counter"]])
    # The last line, 22, is gone: the last that stays ends slice and measurement in its place.
    last = np.uint64(AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT)
    assert ((lines["flags"] & last) > 0).tolist() == [False] * 5 + [True]
    assert lines["flags"][-1] & last == last


def test_ends_are_handed_over_within_each_slice(tmp_path: Path) -> None:
    # Slices take turns, as on most scanners; two repetitions; a calibration line of its own.
    rows = [(r, k1, s) for r in range(2) for k1 in range(4) for s in range(2)]
    headers = Readouts.empty_headers(len(rows) + 1)
    for i, (repetition, line, slice_) in enumerate(rows):
        idx = headers["idx"][i]
        idx["repetition"], idx["kspace_encode_step_1"], idx["slice"] = repetition, line, slice_
        if line == 3:
            headers["flags"][i] = AcquisitionFlag.LAST_IN_SLICE
    headers["flags"][len(rows) - 1] |= np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT)
    headers["flags"][-1] = AcquisitionFlag.PARALLEL_CALIBRATION
    headers["idx"]["kspace_encode_step_1"][-1] = 99
    headers["number_of_samples"], headers["active_channels"] = 4, 1
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path, HEADER) as writer:
        writer.write(Readouts(headers, np.ones((len(headers), 1, 4), np.complex64)))
    stage = Kept()
    replay(path, Pipeline([stage]), device="cpu", undersample=[1, 0, 1, 0], block=3)
    ends = [
        tuple(int(h["idx"][name]) for name in ("repetition", "slice", "kspace_encode_step_1"))
        for h in stage.headers
        if int(h["flags"]) & AcquisitionFlag.LAST_IN_SLICE
    ]
    assert ends == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]
    whole = [h for h in stage.headers if int(h["flags"]) & AcquisitionFlag.LAST_IN_MEASUREMENT]
    assert [int(h["idx"]["slice"]) for h in whole] == [1]
    assert int(stage.headers["flags"][-1]) == AcquisitionFlag.PARALLEL_CALIBRATION


@pytest.mark.parametrize(
    ("mask", "says"),
    [(np.ones(10), "10 entries.*up to 22"), (np.ones((24, 2)), "shape"), (np.full(24, 2), "0 and 1")],
)
def test_masks_that_do_not_fit(recording: Path, mask: np.ndarray, says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        replay(recording, Pipeline([Kept()]), undersample=mask)


def test_standard_input_cannot_be_undersampled() -> None:
    with pytest.raises(ScansideError, match="read twice"):
        replay("-", Pipeline([Kept()]), undersample=[1])


def test_recording_that_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "cut.mrd"
    path.write_bytes(encode(HeaderXml(HEADER), *small_readouts()[:3]))
    output = tmp_path / "out.h5"
    with pytest.raises(EndOfStream):
        replay(path, "fft", output, device="cpu")
    assert not output.exists(), "an output of its own name is a whole one"
    with pytest.raises(EndOfStream):
        replay(path, "fft", device="cpu", via="gadgetron")


def test_what_cannot_be_replayed(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'carrier pigeon'"):
        replay(recording, via="carrier pigeon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another process"):
        replay(recording, Pipeline([Kept()]), via="mrd")
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "absent.h5")
    with pytest.raises(FileFormatError, match="no group 'other'"):
        replay(recording, group="other")
    with pytest.raises(PipelineError, match="'grapa'"):
        replay(recording, "grapa")


def test_a_recording_is_never_overwritten(tmp_path: Path, recording: Path) -> None:
    scan = tmp_path / "scan.h5"
    scan.write_bytes(recording.read_bytes())
    with pytest.raises(ConfigError, match="would replace the recording"):
        replay(scan, "grappa", tmp_path / "." / "scan.h5", settings=SETTINGS)
    assert scan.read_bytes() == recording.read_bytes()


def test_scan_without_images_is_told(tmp_path: Path) -> None:
    path = tmp_path / "noise.h5"
    with Hdf5Writer(path, HEADER) as writer:
        for block in small_readouts():
            block.headers["flags"] = int(AcquisitionFlag.NOISE_MEASUREMENT)
            writer.write(block)
    result = replay(path, "grappa", device="cpu")
    assert not result.images
    assert any("no image was made" in warning for warning in result.warnings)


def test_file_of_a_failed_replay(recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What came before a failure is kept and named; nothing is left behind where nothing came."""

    class First(Kept):
        def process(self, item: Readouts) -> Iterator[Image]:
            yield small_image()
            raise RuntimeError("second")

    with pytest.raises(StageError):
        replay(recording, Pipeline([Fails()]), tmp_path / "none.h5", device="cpu")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StageError):
        replay(recording, Pipeline([First()]), tmp_path / "some.h5", device="cpu", threads=False)
    assert [path.name for path in tmp_path.iterdir()] == ["some.h5.part"]
    assert "1 images that came before the failure are in" in caplog.text


def test_node_reports_what_is_wrong(recording: Path) -> None:
    with pytest.raises(PeerReported, match="'grapa': known are"):
        replay(recording, "grapa", via="gadgetron")


def test_server_that_cannot_start(recording: Path) -> None:
    with pytest.raises(PeerGone, match=r"(?s)before it listened.*'grapa'"):
        replay(recording, "grapa", via="mrd")


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands in for Python, and a file for its script."""
    script, program = tmp_path / "script.py", tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr("scanside.replay.peers.sys.executable", str(program))
    return script


def test_node_that_never_connects(recording: Path, python: Path) -> None:
    python.write_text("import sys\nsys.exit('no such module')\n")
    with pytest.raises(PeerGone, match=r"(?s)before it connected.*no such module"):
        replay(recording, via="gadgetron")


def test_node_that_dies(recording: Path, python: Path) -> None:
    python.write_text(
        "import socket, sys\n"
        "assert sys.argv[1:3] == ['-m', 'gadgetron'], sys.argv\n"
        "assert sys.argv[4:] == ['scanside_gadgetron', 'reconstruct'], sys.argv\n"
        "assert sys.stdin is None, 'Gadgetron closes it'\n"
        "sock = socket.create_connection(('localhost', int(sys.argv[3])))\n"
        "sock.recv(10)\n"
        "sys.exit('the engine exploded')\n"
    )
    with pytest.raises(PeerGone, match="the engine exploded"):
        replay(recording, via="gadgetron")


def test_node_that_dies_at_once(recording: Path, python: Path) -> None:
    """Before it has taken the header: the connection breaks while that is being sent, or behind it."""
    python.write_text(
        "import socket, struct, sys\n"
        "sock = socket.create_connection(('localhost', int(sys.argv[3])))\n"
        "sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
        "sys.stderr.write('the engine exploded'); sys.stderr.flush()\n"
        "sock.close()\n"
    )
    with pytest.raises(PeerGone, match="the engine exploded"):
        replay(recording, via="gadgetron")


def test_node_that_hangs(recording: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanside.replay.conversation.ANSWER_SECONDS", 0.3)
    python.write_text(
        "import socket, sys\n"
        "sock = socket.create_connection(('localhost', int(sys.argv[3])))\n"
        "while sock.recv(100000): pass\n"
        "import time; time.sleep(60)\n"
    )
    with pytest.raises(PeerGone, match=r"nothing came for 0\.3 s after the whole scan"):
        replay(recording, via="gadgetron")


def test_configuration_as_gadgetron_prints_it() -> None:
    assert configuration() == b'<?xml version="1.0"?>\n<configuration />\n'
    assert configuration("a&b", {"x.y": 4, "x.z": "<"}, "image_array") == (
        b'<?xml version="1.0"?>\n<configuration>\n'
        b"\t<pipeline>a&amp;b</pipeline>\n"
        b'\t<property name="x.y" value="4" />\n'
        b'\t<property name="x.z" value="&lt;" />\n'
        b"\t<output>image_array</output>\n"
        b"</configuration>\n"
    )


def test_what_was_prepared_goes_with_its_pipeline(recording: Path) -> None:
    pipeline, context = Pipeline.load("grappa", SETTINGS), Context("cpu")
    pipeline.prepare(context)
    first, second = (replay(recording, pipeline, prepared=context).images for _ in range(2))
    np.testing.assert_array_equal(first[0].data.numpy(), second[0].data.numpy())
    with pytest.raises(ValueError, match="what was prepared is a Pipeline object"):
        replay(recording, "grappa", prepared=context)
    with pytest.raises(ValueError, match="runs in another process"):
        replay(recording, "grappa", via="mrd", prepared=context)


@pytest.mark.parametrize("via", ["direct", "gadgetron", "mrd"])
def test_a_mask_explains_what_is_missing(recording: Path, via: Via) -> None:
    for mask in (np.arange(24) % 5 < 2, np.arange(24) > 13, np.arange(24) % 3 == 0):
        result = replay(recording, "fft", via=via, device="cpu", undersample=mask)
        assert result.images
        assert [image.incomplete for image in result.images] == [None] * len(result.images)
        assert not any("lost" in text for text in result.warnings), result.warnings
        if via != "direct":
            return  # one start of another process tells enough
