"""The same bytes as ismrmrd-python and gadgetron-python write and read."""

from __future__ import annotations

import ctypes
import io
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gadgetron.external
import ismrmrd
import numpy as np
import pytest
from gadgetron.types import image_array as gadgetron_image_array
from gadgetron.types import recon_data as gadgetron_recon_data

from scanside.mrd.dtypes import ACQUISITION_HEADER, IMAGE_HEADER, SAMPLING_DESCRIPTION, WAVEFORM_HEADER
from scanside.mrd.messages import (
    Close,
    ConfigText,
    HeaderXml,
    ImageArray,
    ImageMessage,
    Readouts,
    ReconBit,
    ReconData,
    Waveform,
)
from scanside.mrd.reader import MessageReader, decode
from scanside.mrd.streams import SocketStream
from scanside.mrd.writer import MessageWriter, encode

pytestmark = [
    pytest.mark.torch_free,
    # gadgetron-python's arrays of headers make NumPy guess about ctypes structures.
    pytest.mark.filterwarnings("ignore:A builtin ctypes object gave a PEP3118 format:RuntimeWarning"),
]

HEADER_XML = b"""<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>4</x><y>4</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>4</x><y>4</y><z>1</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>4</x><y>4</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>4</x><y>4</y><z>1</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits/>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>
"""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ACQUISITION_HEADER, ismrmrd.AcquisitionHeader),
        (IMAGE_HEADER, ismrmrd.ImageHeader),
        (WAVEFORM_HEADER, ismrmrd.WaveformHeader),
        (SAMPLING_DESCRIPTION, gadgetron_recon_data.SamplingDescription),
    ],
)
def test_headers_have_the_same_layout(ours: np.dtype[Any], theirs: Any) -> None:
    assert ours.itemsize == ctypes.sizeof(theirs)
    assert ours.names is not None
    assert ours.fields is not None
    offsets = [ours.fields[name][1] for name in ours.names]
    assert offsets == [getattr(theirs, field[0]).offset for field in theirs._fields_]


def split(block: Readouts) -> list[bytes]:
    """Each readout's bytes behind its id."""
    return [encode(block.select(slice(k, k + 1)))[2:] for k in range(len(block))]


def test_ismrmrd_reads_our_readouts_and_writes_them_back(make: Any) -> None:
    block = make.readouts(3, coils=2, samples=4, dimensions=2)
    for k, wire in enumerate(split(block)):
        theirs = ismrmrd.Acquisition.deserialize_from(io.BytesIO(wire).read)
        np.testing.assert_array_equal(theirs.data, block.samples[k])
        np.testing.assert_array_equal(theirs.traj, block.trajectory[k])
        assert theirs.scan_counter == block.headers["scan_counter"][k]
        assert theirs.idx.segment == block.headers["idx"]["segment"][k]
        written = io.BytesIO()
        theirs.serialize_into(written.write)
        assert written.getvalue() == wire


def test_we_read_what_ismrmrd_writes() -> None:
    samples = np.arange(24, dtype=np.complex64).reshape(3, 8)
    trajectory = np.arange(16, dtype=np.float32).reshape(8, 2)
    theirs = ismrmrd.Acquisition.from_array(samples, trajectory, scan_counter=17, position=(1, 2, 3))
    theirs.idx.slice = 5
    theirs.set_flag(ismrmrd.ACQ_LAST_IN_SLICE)
    written = io.BytesIO()
    theirs.serialize_into(written.write)
    (ours,) = decode(b"\xf0\x03" + written.getvalue())
    assert isinstance(ours, Readouts)
    np.testing.assert_array_equal(ours.samples[0], samples)
    assert ours.trajectory is not None
    np.testing.assert_array_equal(ours.trajectory[0], trajectory)
    assert ours.headers["scan_counter"] == 17
    assert ours.headers["idx"]["slice"] == 5
    assert ours.headers["position"].tolist() == [[1, 2, 3]]
    assert ours.headers["flags"] == 1 << 7


META = b"<ismrmrdMeta><meta><name>role</name><value>image</value></meta></ismrmrdMeta>"


# Not int32: ismrmrd-python takes its number for int64.
@pytest.mark.parametrize("dtype", ["<u2", "<i2", "<u4", "<f4", "<f8", "<c8", "<c16"])
def test_images_agree_with_ismrmrd(make: Any, assert_same: Callable[..., None], dtype: str) -> None:
    image = make.image(dtype, (2, 1, 3, 4), META)
    theirs = ismrmrd.Image.deserialize_from(io.BytesIO(encode(image)[2:]).read)
    np.testing.assert_array_equal(theirs.data, image.data)
    assert theirs.meta == {"role": "image"}
    assert bytes(theirs.getHead()) == image.header.tobytes()
    theirs.attribute_string = META.decode()
    written = io.BytesIO()
    theirs.serialize_into(written.write)
    (back,) = decode(b"\xfe\x03" + written.getvalue())
    assert isinstance(back, ImageMessage)
    # They print the attributes anew.
    assert b"<name>role</name>" in back.attributes
    back.attributes = META
    back.header["attribute_string_len"] = len(META)
    assert_same(back, image)


def test_waveforms_agree_with_ismrmrd(make: Any) -> None:
    wire = encode(make.waveform(2, 5))[2:]
    theirs = ismrmrd.Waveform.deserialize_from(io.BytesIO(wire).read)
    written = io.BytesIO()
    theirs.serialize_into(written.write)
    assert written.getvalue() == wire
    theirs = ismrmrd.Waveform.from_array(np.arange(6, dtype=np.uint32).reshape(2, 3), scan_counter=7)
    written = io.BytesIO()
    theirs.serialize_into(written.write)
    (ours,) = decode(b"\x02\x04" + written.getvalue())
    assert isinstance(ours, Waveform)
    assert ours.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert ours.header["scan_counter"] == 7


class Link:
    """Our reader and writer at one end of a socket, a gadgetron-python connection at the other."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        stream = SocketStream(self._ours, timeout=300)
        self.reader = MessageReader(stream)
        self.writer = MessageWriter(stream)
        opening = threading.Thread(
            target=self.writer.write, args=(ConfigText(b"<configuration/>"), HeaderXml(HEADER_XML))
        )
        opening.start()
        self.connection = gadgetron.external.Connection(self._theirs)
        opening.join()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def header_bytes(headers: Any) -> bytes:
    """An object array of headers as bytes, first dimension fastest."""
    return b"".join(bytes(header) for header in headers.ravel(order="F"))


def test_gadgetron_reads_our_opening_readouts_images_and_waveforms(link: Link, make: Any) -> None:
    assert link.connection.config.tag == "configuration"
    assert link.connection.header.encoding[0].encodedSpace.matrixSize.x == 4
    block, image, waveform = make.readouts(2, dimensions=1), make.image("<c8"), make.waveform()
    link.writer.write(block, image, waveform, Close())
    first, second, their_image, their_waveform = link.connection
    for k, theirs in enumerate((first, second)):
        np.testing.assert_array_equal(theirs.data, block.samples[k])
        assert bytes(theirs.getHead()) == block.headers[k].tobytes()
    np.testing.assert_array_equal(their_image.data, image.data)
    np.testing.assert_array_equal(their_waveform.data, waveform.data)


def test_gadgetron_reads_our_recon_data(link: Link, make: Any) -> None:
    ours = ReconData(
        [ReconBit(make.recon_buffer(extras=True), make.recon_buffer(k1=3)), ReconBit(make.recon_buffer())]
    )
    link.writer.write(ours, Close())
    (theirs,) = link.connection
    assert len(theirs.bits) == 2
    for mine, other in zip(ours.bits, theirs.bits, strict=True):
        pairs = [(mine.data, other.data)]
        assert (mine.reference is None) == (other.ref is None)
        if mine.reference is not None:
            pairs.append((mine.reference, other.ref))
        for buffer, other_buffer in pairs:
            # Their arrays have x first.
            np.testing.assert_array_equal(other_buffer.data.T, buffer.data)
            assert (buffer.trajectory is None) == (other_buffer.trajectory is None)
            if buffer.trajectory is not None and buffer.density is not None:
                np.testing.assert_array_equal(other_buffer.trajectory.T, buffer.trajectory)
                np.testing.assert_array_equal(other_buffer.density.T, buffer.density)
            assert other_buffer.headers.T.shape == buffer.headers.shape
            assert header_bytes(other_buffer.headers) == buffer.headers.tobytes()
            assert bytes(other_buffer.sampling) == buffer.sampling.tobytes()


def test_gadgetron_reads_our_image_arrays(link: Link, make: Any) -> None:
    ours = make.image_array(3, waveforms=2, with_acquisitions=True)
    link.writer.write(ours, Close())
    (theirs,) = link.connection
    np.testing.assert_array_equal(theirs.data.T, ours.data)
    assert header_bytes(theirs.headers) == ours.headers.tobytes()
    assert [text.encode() for text in theirs.meta] == ours.meta
    assert header_bytes(theirs.acq_headers) == ours.acquisition_headers.tobytes()
    for mine, other in zip(ours.waveforms, theirs.waveform, strict=True):
        np.testing.assert_array_equal(other.data, mine.data)


def test_gadgetron_reads_our_buckets(link: Link, make: Any) -> None:
    """Those without waveforms, the only ones that it can read."""
    ours = make.bucket(waveforms=0)
    link.writer.write(ours, Close())
    (theirs,) = link.connection
    for blocks, acquisitions in ((ours.data, theirs.data), (ours.reference, theirs.ref)):
        readouts = [(block, k) for block in blocks for k in range(len(block))]
        assert len(readouts) == len(acquisitions)
        for (block, k), acquisition in zip(readouts, acquisitions, strict=True):
            np.testing.assert_array_equal(acquisition.data, block.samples[k])
            if block.trajectory is not None:
                np.testing.assert_array_equal(acquisition.traj, block.trajectory[k])
            assert bytes(acquisition.getHead()) == block.headers[k].tobytes()
    names = ["kspace_encode_step_1", "kspace_encode_step_2", "slice", "phase", "contrast"]
    names += ["repetition", "set", "segment", "average"]
    assert len(theirs.datastats) == len(ours.data_stats)
    for mine, other in zip(ours.data_stats, theirs.datastats, strict=True):
        for name in names:
            assert set(getattr(mine, name)) == getattr(other, name)


def test_we_read_what_gadgetron_sends(link: Link, make: Any, assert_same: Callable[..., None]) -> None:
    block, image, waveform = make.readouts(3, dimensions=2), make.image("<u2"), make.waveform()
    for wire in split(block):
        link.connection.send(ismrmrd.Acquisition.deserialize_from(io.BytesIO(wire).read))
    link.connection.send(ismrmrd.Image.deserialize_from(io.BytesIO(encode(image)[2:]).read))
    link.connection.send(ismrmrd.Waveform.deserialize_from(io.BytesIO(encode(waveform)[2:]).read))
    link.connection.socket.close()
    n = 0
    while n < 3:
        part = link.reader.read()
        assert isinstance(part, Readouts)
        assert_same(part.copy(), block.select(slice(n, n + len(part))).copy())
        n += len(part)
    their_image = link.reader.read()
    assert isinstance(their_image, ImageMessage)
    assert_same(their_image.data, image.data)
    assert_same(link.reader.read(), waveform)
    assert link.reader.read() == Close()


def test_we_read_the_arrays_that_gadgetron_sends(
    link: Link, make: Any, assert_same: Callable[..., None]
) -> None:
    """What its readers made of our messages, sent back; with its ids before the waveforms in an image array."""
    array = make.image_array(2, waveforms=2, with_acquisitions=True)
    recon = ReconData([ReconBit(make.recon_buffer(extras=True), make.recon_buffer())])
    link.writer.write(array, recon, Close())
    their_array, their_recon = link.connection
    assert isinstance(their_array, gadgetron_image_array.ImageArray)
    link.connection.send(their_array)
    link.connection.send(their_recon)
    back = link.reader.read()
    assert isinstance(back, ImageArray)
    assert_same(back, array)
    assert_same(link.reader.read(), recon)
