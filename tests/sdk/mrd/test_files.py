from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest

from scanside.errors import (
    EndOfStream,
    FileFormatError,
    IncompleteRead,
    MessageError,
    PeerReported,
    ScansideError,
)
from scanside.mrd.dtypes import WAVEFORM_HEADER
from scanside.mrd.files import Hdf5Recording, StreamRecording, StreamWriter, open_recording
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.messages import (
    Close,
    ConfigFile,
    ConfigText,
    Data,
    ErrorText,
    HeaderXml,
    ImageMessage,
    Message,
    Text,
)
from scanside.mrd.meta import Meta
from scanside.mrd.readouts import Readouts, Waveform
from scanside.mrd.writer import encode

pytestmark = pytest.mark.torch_free

XML = b'<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"/>'


def block(n: int = 40, coils: int = 2, samples: int = 8) -> Readouts:
    rng = np.random.default_rng(n)
    headers = Readouts.empty_headers(n)
    headers["scan_counter"] = np.arange(n)
    headers["active_channels"], headers["number_of_samples"] = coils, samples
    values = rng.normal(size=(n, coils, samples, 2)).astype(np.float32)
    return Readouts(headers, values.view(np.complex64)[..., 0])


def waveform() -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)
    header["time_stamp"], header["channels"], header["number_of_samples"] = 1, 1, 3
    return Waveform(header[()], np.array([[1, 2, 3]], np.uint32))


def image() -> ImageMessage:
    data = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6)
    return ImageMessage.from_array(data, Meta({"a": "b"}).to_xml())


SCAN: tuple[Data, ...] = (block(), waveform(), image())


def stream(*messages: Message) -> bytes:
    return encode(ConfigFile("default.xml"), HeaderXml(XML), *messages)


def assert_is_scan(found: list[Data]) -> None:
    """The items are those of `SCAN`, however its readouts are cut into blocks."""
    readouts = [item for item in found if isinstance(item, Readouts)]
    assert encode(*readouts) == encode(SCAN[0])
    assert encode(*found[len(readouts) :]) == encode(*SCAN[1:])


def kept(items: object) -> list[Data]:
    """Items in memory of their own."""
    return [item.copy() if isinstance(item, Readouts) else item for item in items]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["scan.bin", "scan.h5", "scan.bin.xz", "scan.bin.gz"])
def test_stream_comes_back_under_any_name(tmp_path: Path, name: str) -> None:
    with StreamWriter(tmp_path / name, XML, ConfigText(b"<configuration/>")) as writer:
        for item in SCAN:
            writer.write(item)
    with open_recording(tmp_path / name) as recording:
        assert isinstance(recording, StreamRecording)
        assert recording.header_xml == XML
        assert recording.config == ConfigText(b"<configuration/>")
        assert recording.n_readouts is None
        assert_is_scan(kept(recording.items()))
        assert list(recording.items()) == []
    packed = (tmp_path / name).read_bytes()
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(Path(name).suffix, bytes)
    assert unpack(packed) == encode(ConfigText(b"<configuration/>"), HeaderXml(XML), *SCAN, Close())


@pytest.mark.parametrize("name", ["scan.h5", "scan.bin"])
def test_hdf5_under_any_name(tmp_path: Path, name: str) -> None:
    with Hdf5Writer(tmp_path / name, XML) as writer:
        for item in SCAN[:2]:
            writer.write(item)
    with open_recording(tmp_path / name) as recording:
        assert isinstance(recording, Hdf5Recording)
        assert recording.header_xml == XML
        assert recording.config is None
        assert recording.n_readouts == 40
        found = list(recording.items())
    readouts = [item for item in found if isinstance(item, Readouts)]
    assert encode(*readouts) == encode(SCAN[0])
    assert sum(isinstance(item, Waveform) for item in found) == 1


@pytest.mark.parametrize("offset", [512, 1024, 2048])
def test_hdf5_behind_a_user_block(tmp_path: Path, offset: int) -> None:
    with Hdf5Writer(tmp_path / "plain.h5", XML) as writer:
        writer.write(block())
    with (
        h5py.File(tmp_path / "user.h5", "w", userblock_size=offset) as file,
        h5py.File(tmp_path / "plain.h5") as plain,
    ):
        plain.copy("dataset", file)
    with open_recording(tmp_path / "user.h5") as recording:
        assert recording.n_readouts == 40
        assert encode(*recording.items()) == encode(block())


def test_stream_that_ismrmrd_python_wrote(tmp_path: Path) -> None:
    path = tmp_path / "theirs.bin"
    samples = block(5).samples
    with path.open("wb") as file, ismrmrd.ProtocolSerializer(file) as serializer:
        serializer.serialize(ismrmrd.xsd.CreateFromDocument(HEADER))
        for readout in samples:
            serializer.serialize(ismrmrd.Acquisition.from_array(readout))
        serializer.serialize(ismrmrd.Waveform.from_array(waveform().data))
    with open_recording(path) as recording:
        assert ismrmrd.xsd.CreateFromDocument(recording.header_xml) == ismrmrd.xsd.CreateFromDocument(HEADER)
        found = kept(recording.items())
    assert isinstance(found[-1], Waveform)
    np.testing.assert_array_equal(found[-1].data, waveform().data)
    received = [item.samples for item in found if isinstance(item, Readouts)]
    np.testing.assert_array_equal(np.concatenate(received), samples)


HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>8</x><y>8</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>8</x><y>8</y><z>1</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>8</x><y>8</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>8</x><y>8</y><z>1</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits/>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [("waveforms.acquisitions", "Readouts"), ("waveforms.image", "ImageMessage"), ("plain.bucket", "Bucket")],
)
def test_what_gadgetron_sent(shared_data: Path, name: str, kind: str) -> None:
    path = shared_data / "gadgetron-captures" / f"{name}.bin.xz"
    with open_recording(path) as recording:
        assert isinstance(recording.config, ConfigText)
        items = kept(recording.items())
        again = encode(recording.config, HeaderXml(recording.header_xml), *items, Close())
    assert kind in {type(item).__name__ for item in items}
    assert again == lzma.decompress(path.read_bytes())


def test_attributes_of_recorded_images(shared_data: Path) -> None:
    with open_recording(shared_data / "gadgetron-captures" / "waveforms.image.bin.xz") as recording:
        texts = [item.attributes for item in recording.items() if isinstance(item, ImageMessage)]
    assert texts
    for text in texts:
        theirs = ismrmrd.Meta.deserialize(text)
        assert Meta.parse(text) == Meta({name: "" if v is None else v for name, v in theirs.items()})
        assert Meta.parse(Meta.parse(text).to_xml()) == Meta.parse(text)


def test_waveforms_merge_as_gadgetrons_client_merged_them(shared_data: Path, tmp_path: Path) -> None:
    """Its client read this scan from a file; its order, kept in the capture, is the order that we deliver."""
    with open_recording(shared_data / "gadgetron-captures" / "waveforms.acquisitions.bin.xz") as recording:
        captured = kept(recording.items())
    with Hdf5Writer(tmp_path / "scan.h5") as writer:
        for item in captured:
            writer.write(item)  # type: ignore[arg-type]
    with open_recording(tmp_path / "scan.h5") as recording:
        assert one_by_one(recording.items()) == one_by_one(captured)


def one_by_one(items: Iterable[Data]) -> list[object]:
    """Readouts and waveforms as values that can be compared, blocks taken apart."""
    found: list[object] = []
    for item in items:
        if isinstance(item, Readouts):
            found += [encode(item.select(slice(i, i + 1))) for i in range(len(item))]
        elif isinstance(item, Waveform):
            # Not as bytes: a header's padding is garbage on the wire, and no part of a file.
            found.append((item.header.item(), item.data.tolist()))
    return found


@pytest.mark.parametrize("size", [1, 7, 256])
def test_blocks_are_no_longer_than_asked(tmp_path: Path, size: int) -> None:
    (tmp_path / "scan.bin").write_bytes(stream(*SCAN, Close()))
    with open_recording(tmp_path / "scan.bin") as recording:
        items = kept(recording.items(size))
    assert max(len(item) for item in items if isinstance(item, Readouts)) <= size
    assert_is_scan(items)


def test_texts_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "scan.bin").write_bytes(stream(Text("{}"), *SCAN, Text("done"), Close()))
    with open_recording(tmp_path / "scan.bin") as recording:
        assert_is_scan(kept(recording.items()))
        assert recording.texts == ["{}", "done"]


READ = "import sys; from scanside.mrd.files import open_recording, StreamWriter\n"


def test_pipes(tmp_path: Path) -> None:
    """Standard input to standard output, and bytes that come one by one."""
    script = READ + (
        "with open_recording('-') as scan, StreamWriter('-', scan.header_xml, scan.config) as writer:\n"
        "    for item in scan.items(): writer.write(item)\n"
    )
    data = stream(*SCAN, Close())
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for i in range(12):
            os.write(process.stdin.fileno(), data[i : i + 1])
        process.stdin.write(data[12:])
        process.stdin.close()
        assert process.stdout.read() == data
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sender = threading.Thread(target=path.write_bytes, args=(stream(*SCAN, Close()),))
    sender.start()
    with open_recording(path) as recording:
        assert_is_scan(kept(recording.items()))
    sender.join()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        b"DICM, or so",
        encode(block()),
        b"\x04\x00",
        gzip.compress(b"neither, but compressed"),
        b"\xfd7zXZ\0 but broken",
        b"\x1f\x8b but broken",
    ],
    ids=["empty", "one byte", "text", "data first", "CLOSE", "compressed", "broken xz", "broken gzip"],
)
def test_neither_hdf5_nor_stream(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "scan").write_bytes(data)
    with pytest.raises(
        FileFormatError, match=r"scan is (damaged: it cannot be decompressed|neither an .* begins with)"
    ):
        open_recording(tmp_path / "scan")


def test_message_shows_the_first_bytes_and_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(b"SIMPLE  = T")
    with pytest.raises(FileFormatError, match=r"begins with b'SIMPLE  '; expected b'\\x89HDF.*id 1, 2 or 3"):
        open_recording(tmp_path / "scan")
    with Hdf5Writer(tmp_path / "scan.h5", XML):
        pass
    (tmp_path / "scan.h5.gz").write_bytes(gzip.compress((tmp_path / "scan.h5").read_bytes()))
    with pytest.raises(FileFormatError, match="HDF5, which can be read neither from a pipe nor compressed"):
        open_recording(tmp_path / "scan.h5.gz")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_recording(tmp_path / "absent")


def test_truncation_at_every_byte_is_an_error(tmp_path: Path) -> None:
    whole = stream(block(2, 1, 2), waveform(), image(), Close())
    path = tmp_path / "scan.bin"
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises((FileFormatError, IncompleteRead, EndOfStream)), open_recording(path) as recording:
            kept(recording.items())


def test_missing_close_is_an_error_after_the_data(tmp_path: Path) -> None:
    (tmp_path / "scan.bin").write_bytes(stream(*SCAN))
    found: list[Data] = []
    with (
        open_recording(tmp_path / "scan.bin") as recording,
        pytest.raises(EndOfStream, match="CLOSE was expected"),
    ):
        found.extend(item.copy() if isinstance(item, Readouts) else item for item in recording.items())
    assert_is_scan(found)


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress], ids=["xz", "gzip"])
def test_truncated_or_damaged_compression(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    packed = bytearray(pack(stream(block(200), Close())))
    path = tmp_path / "scan"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(IncompleteRead, match="cut short"), open_recording(path) as recording:
        kept(recording.items())
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(ScansideError), open_recording(path) as recording:
        kept(recording.items())


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            encode(ConfigFile("a"), block(), Close()),
            MessageError,
            "Readouts .* the scan's header was expected",
        ),
        (stream(HeaderXml(XML), Close()), MessageError, r"HeaderXml as message 3 .* data or CLOSE"),
        (stream(ErrorText("no ACS"), Close()), PeerReported, "session that failed: no ACS"),
        (stream(Text("ERROR no ACS"), Close()), PeerReported, "session that failed: no ACS"),
        (stream() + b"\x39\x05" + bytes(20), MessageError, "unknown id 1337"),
    ],
    ids=["no header", "two headers", "error", "error as text", "unknown"],
)
def test_streams_out_of_order(tmp_path: Path, data: bytes, error: type[Exception], message: str) -> None:
    (tmp_path / "scan.bin").write_bytes(data)
    with pytest.raises(error, match=message), open_recording(tmp_path / "scan.bin") as recording:
        kept(recording.items())


def test_after_an_error_a_stream_has_no_close(tmp_path: Path) -> None:
    path = tmp_path / "scan.bin"

    def write() -> None:
        with StreamWriter(path, XML) as writer:
            writer.write(block())
            raise RuntimeError("the scanner stopped")

    with pytest.raises(RuntimeError, match="the scanner stopped"):
        write()
    assert path.read_bytes() == encode(HeaderXml(XML), block())


def test_files_are_closed(tmp_path: Path) -> None:
    for data in (stream(Close()), lzma.compress(stream(Close())), gzip.compress(stream(Close()))):
        file = io.BytesIO(data)
        StreamRecording(file, "memory").close()
        assert file.closed
    file = io.BytesIO(b"nothing of the kind")
    with pytest.raises(FileFormatError):
        StreamRecording(file, "memory")
    assert file.closed
