"""Blocks, their lifetime, and everything that can be wrong with a stream."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside.errors import EndOfStream, IncompleteRead, MessageError
from scanside.mrd.messages import Close, ErrorText, Message, MessageId, Readouts, Text
from scanside.mrd.reader import Limits, MessageReader, decode
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode

pytestmark = pytest.mark.torch_free

ACQUISITION_BYTES = 342 + 2 * 4 * 8
"""One readout of the size that the fixtures make."""


def read_all(reader: MessageReader) -> list[Message]:
    """Everything until the end of the stream, in memory of its own."""
    messages: list[Message] = []
    while True:
        try:
            message = reader.read()
        except EndOfStream:
            return messages
        messages.append(message.copy() if isinstance(message, Readouts) else message)


def read_to_error(reader: MessageReader) -> None:
    while True:
        reader.read()


def joined(messages: list[Message]) -> bytes:
    """What the messages look like on the wire, however readouts are cut into blocks."""
    return encode(*messages)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.integers(1, 2000), max_size=200),
    block_bytes=st.integers(1000, 9000),
    n_blocks=st.integers(2, 4),
    most=st.none() | st.integers(1, 5),
)
def test_however_a_stream_arrives_it_reads_the_same(
    chunks: list[int], block_bytes: int, n_blocks: int, most: int | None, examples: list[Message]
) -> None:
    wire = encode(*examples)
    reader = MessageReader(
        MemoryStream(wire, chunks), block_bytes=block_bytes, n_blocks=n_blocks, max_block_readouts=most
    )
    messages = read_all(reader)
    assert joined(messages) == wire
    assert reader.position == len(wire)
    # 3 + 2 + 1 readouts, and 13 other messages.
    assert reader.n_messages == 19
    if most is not None:
        assert max(len(message) for message in messages if isinstance(message, Readouts)) <= most


def test_byte_by_byte_a_stream_reads_the_same(examples: list[Message]) -> None:
    wire = encode(*examples)
    assert joined(read_all(MessageReader(MemoryStream(wire, 1), block_bytes=1000))) == wire


def test_readouts_that_have_arrived_come_as_one_block(make: Any, assert_same: Callable[..., None]) -> None:
    block = make.readouts(50)
    reader = MessageReader(MemoryStream(encode(block)))
    assert_same(reader.read().copy(), block)  # type: ignore[union-attr]
    assert reader.n_messages == 50


def test_a_block_is_a_view_of_what_was_received(make: Any) -> None:
    reader = MessageReader(MemoryStream(encode(make.readouts(50))))
    block = reader.read()
    assert isinstance(block, Readouts)
    assert block.samples.base is not None
    assert block.samples.strides[0] == block.headers.strides[0] == ACQUISITION_BYTES
    assert np.shares_memory(block.samples, reader._ring.block)


def test_a_reader_does_not_wait_to_fill_a_block(make: Any) -> None:
    """The stream offers 2.5 readouts, then asking for more would fail."""

    class Scarce(MemoryStream):
        def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
            size = super().receive_into(buffer, deadline)
            assert size, "asked for bytes that were not needed"
            return size

    wire = encode(make.readouts(3))
    reader = MessageReader(Scarce(wire[: ACQUISITION_BYTES * 5 // 2]))
    assert len(reader.read()) == 2  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="not needed"):
        reader.read()


def test_a_changing_shape_ends_a_block(make: Any) -> None:
    blocks = [
        make.readouts(3),
        make.readouts(2, samples=5),
        make.readouts(2, coils=3),
        make.readouts(4, dimensions=2),
        # As many bytes as the block before, cut up differently.
        make.readouts(3, coils=3, samples=4, dimensions=0),
        make.readouts(1),
        make.waveform(),
        make.readouts(2),
    ]
    read = read_all(MessageReader(MemoryStream(encode(*blocks))))
    assert [len(m) if isinstance(m, Readouts) else "waveform" for m in read] == [
        3,
        2,
        2,
        4,
        3,
        1,
        "waveform",
        2,
    ]
    assert joined(read) == encode(*blocks)


def changed(pair: tuple[Readouts, Readouts] | None) -> bool:
    return pair is not None and pair[0].samples.tobytes() != pair[1].samples.tobytes()


@pytest.mark.parametrize("n_blocks", [2, 3, 4])
def test_a_block_lasts_as_long_as_promised(n_blocks: int, make: Any) -> None:
    """The promise of `MessageReader`, with large and small messages between the readouts."""
    random = np.random.default_rng(1)
    sent: list[Message] = []
    for _ in range(300):
        sent.append(make.readouts(int(random.integers(1, 9)), samples=int(random.integers(1, 6))))
        if random.random() < 0.4:
            sent.append(make.image(shape=(1, 1, int(random.integers(1, 60)), 20)))
        if random.random() < 0.2:
            sent.append(make.bucket())
    reader = MessageReader(
        MemoryStream(encode(*sent), random.integers(1, 3000, 9000).tolist()),
        block_bytes=2000,
        n_blocks=n_blocks,
    )
    lent: list[tuple[Readouts, Readouts] | None] = []
    overwritten = 0
    while True:
        try:
            message = reader.read()
        except EndOfStream:
            break
        lent.append((message, message.copy()) if isinstance(message, Readouts) else None)
        assert not any(map(changed, lent[-n_blocks:]))
        overwritten += any(map(changed, lent[-n_blocks - 1 : -n_blocks]))
    # One read more than promised is too many, or this test would show nothing.
    assert overwritten > 0


def test_a_readout_larger_than_the_buffer_comes_alone(make: Any) -> None:
    small, large = make.readouts(2), make.readouts(2, coils=8, samples=64, dimensions=1)
    read = read_all(MessageReader(MemoryStream(encode(small, large, small), 777), block_bytes=1000))
    assert [len(m) for m in read if isinstance(m, Readouts) and m.samples.shape == (len(m), 8, 64)] == [1, 1]
    assert joined(read) == encode(small, large, small)


def boundaries(messages: list[Message]) -> list[int]:
    """Where messages end, single readouts included."""
    parts: list[Message] = []
    for message in messages:
        if isinstance(message, Readouts):
            parts += [message.select(slice(k, k + 1)) for k in range(len(message))]
        else:
            parts.append(message)
    return [0, *itertools.accumulate(len(encode(part)) for part in parts)]


@pytest.mark.parametrize("index", range(16))
def test_truncation_at_every_byte_is_told_apart(index: int, examples: list[Message]) -> None:
    assert len(examples) == 16
    before = Text("whatever came before")
    messages = [before, examples[index]]
    wire = encode(*messages)
    ends = boundaries(messages)
    assert ends[-1] == len(wire)
    # The buffer is smaller than most messages, but larger than a readout.
    for size in range(len(wire)):
        reader = MessageReader(MemoryStream(wire[:size]), block_bytes=800)
        whole = max(end for end in ends if end <= size)
        expected = EndOfStream if whole == size else IncompleteRead
        with pytest.raises((EndOfStream, IncompleteRead)) as caught:
            read_to_error(reader)
        assert type(caught.value) is expected, size
        # Whatever came whole was given out before.
        assert reader.position == whole


def test_an_incomplete_message_is_described(make: Any) -> None:
    wire = encode(make.readouts(2), ErrorText("x" * 100))
    with pytest.raises(
        IncompleteRead,
        match=rf"inside message 3 \(ERROR, at byte {2 * ACQUISITION_BYTES} .*\): 40 of 100 bytes of its text",
    ):
        decode(wire[:-60])


def test_the_end_without_close_is_described(make: Any) -> None:
    reader = MessageReader(MemoryStream(encode(make.readouts(2))))
    reader.read()
    with pytest.raises(
        EndOfStream, match=rf"after 2 messages \({2 * ACQUISITION_BYTES} bytes\), .* ACQUISITION"
    ):
        reader.read()


def test_an_unknown_id_is_described_and_stays_an_error(make: Any) -> None:
    wire = encode(make.readouts(2)) + struct.pack("<H", 1009) + bytes(100)
    reader = MessageReader(MemoryStream(wire))
    reader.read()
    for _ in range(2):
        with pytest.raises(
            MessageError,
            match=rf"message 3 \(at byte {2 * ACQUISITION_BYTES} .*unknown id 1009 after ACQUISITION",
        ):
            reader.read()


def u16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


HUGE = 2**63
IMPOSSIBLE = {
    "config": u16(MessageId.CONFIG) + struct.pack("<I", 2**32 - 1),
    "header": u16(MessageId.HEADER) + struct.pack("<I", 2**32 - 1),
    "text": u16(MessageId.TEXT) + struct.pack("<I", 2**32 - 1),
    "error": u16(MessageId.ERROR) + u64(HUGE),
    "recon bits": u16(MessageId.RECON_DATA) + u64(HUGE),
    "recon dimensions": u16(MessageId.RECON_DATA) + u64(1, HUGE),
    "recon size": u16(MessageId.RECON_DATA) + u64(1, 1, HUGE),
    "recon sizes whose product wraps round": u16(MessageId.RECON_DATA) + u64(1, 2, 2**32, 2**32),
    "recon sizes with a zero": u16(MessageId.RECON_DATA) + u64(1, 2, 0, HUGE),
    "image array dimensions": u16(MessageId.IMAGE_ARRAY) + u64(17),
    "image array headers": u16(MessageId.IMAGE_ARRAY) + u64(1, 0) + u64(1, HUGE),
    "image array meta": u16(MessageId.IMAGE_ARRAY) + u64(1, 0) + u64(1, 0) + u64(HUGE),
    "image array meta text": u16(MessageId.IMAGE_ARRAY) + u64(1, 0) + u64(1, 0) + u64(1, HUGE),
    "image array waveforms": u16(MessageId.IMAGE_ARRAY) + u64(1, 0) + u64(1, 0) + u64(0) + b"\1" + u64(HUGE),
    "image attributes": u16(MessageId.IMAGE) + u16(1, 5) + bytes(194) + u64(HUGE),
    "image matrix": u16(MessageId.IMAGE, 1, 5)
    + bytes(12)
    + b"\xff" * 6
    + bytes(12)
    + b"\xff" * 2
    + bytes(300),
    "bucket readouts": u16(MessageId.BUCKET) + u64(HUGE, HUGE * 340 % 2**64, *([0] * 11)),
    "bucket readouts that agree": u16(MessageId.BUCKET) + u64(2**50, 2**50 * 340, *([0] * 11)),
    "bucket statistics": u16(MessageId.BUCKET) + u64(*([0] * 13)) + u64(HUGE),
    "bucket counters": u16(MessageId.BUCKET) + u64(*([0] * 13)) + u64(1, HUGE),
    "bucket waveforms": u16(MessageId.BUCKET) + u64(*([0] * 8), 8, 8, 2**50, 2**50 * 40, 0) + u64(0, 0),
    "readout": u16(MessageId.ACQUISITION) + bytes(34) + b"\xff\xff" * 3 + bytes(302),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_length_is_an_error_and_allocates_nothing(name: str) -> None:
    wire = IMPOSSIBLE[name] + bytes(100)
    reader = MessageReader(MemoryStream(wire))
    tracemalloc.start()
    try:
        with pytest.raises(MessageError, match=r"message 1 \(\w+, at byte 0 of the stream\): .*(\d+)"):
            reader.read()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_message_about_a_length_says_found_and_limit() -> None:
    with pytest.raises(
        MessageError, match=f"its text would be {HUGE} bytes long, and at most 1000 are possible"
    ):
        decode(IMPOSSIBLE["error"], Limits(max_text_bytes=1000))
    with pytest.raises(
        MessageError, match=rf"would take {HUGE * 8} bytes, but a whole message has at most {8 << 30}"
    ):
        decode(IMPOSSIBLE["recon size"])
    with pytest.raises(MessageError, match="would have 17 dimensions, and at most 16 are possible"):
        decode(IMPOSSIBLE["image array dimensions"])


def test_the_parts_of_a_message_count_together(make: Any) -> None:
    """No part is too large, but all of them are."""
    wire = encode(make.image_array(2))
    assert decode(wire, Limits(max_message_bytes=len(wire)))
    with pytest.raises(MessageError, match="but a whole message has at most"):
        decode(wire, Limits(max_message_bytes=len(wire) - 10))


def test_a_large_length_that_does_not_come_takes_little_memory() -> None:
    """Seven gigabytes are possible; 1000 bytes come."""
    wire = u16(MessageId.RECON_DATA) + u64(1, 1, 7 << 27) + bytes(1000)
    reader = MessageReader(MemoryStream(wire))
    tracemalloc.start()
    try:
        with pytest.raises(IncompleteRead, match=rf"1000 of {7 << 30} bytes of its k-space data"):
            reader.read()
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_large_message_arrives_whole(make: Any) -> None:
    """Larger than what is allocated before any of it has come, and than all buffers together."""
    image = make.image("<c8", (1, 2, 1500, 1500))
    assert image.data.nbytes > 2 * 16 << 20
    (back, close) = decode(encode(image, Close()))
    assert encode(back) == encode(image)
    assert close == Close()


def test_a_mark_that_is_neither_yes_nor_no_is_an_error() -> None:
    wire = u16(MessageId.IMAGE_ARRAY) + u64(1, 0) + u64(1, 0) + u64(0) + b"\7"
    with pytest.raises(MessageError, match="whether waveforms follow must be 0 or 1, found 7"):
        decode(wire)


def test_an_unknown_type_of_pixels_is_an_error(make: Any) -> None:
    wire = bytearray(encode(make.image()))
    wire[4:6] = u16(9)
    with pytest.raises(MessageError, match="announces data type 9; known are 1 uint16"):
        decode(wire)


@pytest.mark.parametrize("position", [1, 2, 3, 5, 8, 9, 11, 12])
def test_a_bucket_whose_table_is_wrong_is_an_error(position: int, make: Any) -> None:
    wire = bytearray(encode(make.bucket()))
    start = 2 + 8 * position
    (value,) = struct.unpack_from("<Q", wire, start)
    struct.pack_into("<Q", wire, start, value + 1)
    with pytest.raises(MessageError, match="its table announces"):
        decode(wire)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_streams_end_in_an_error_of_ours(data: st.DataObject, examples: list[Message]) -> None:
    """Flipped bytes anywhere: messages, or one of the documented errors, and nothing else."""
    wire = bytearray(encode(*examples))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(wire, Limits(max_message_bytes=1 << 20))
    except (MessageError, IncompleteRead):
        return


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"block_bytes": 100}, "at least 684 bytes, got 100"),
        ({"n_blocks": 1}, "at least 2 buffers, got 1"),
        ({"max_block_readouts": 0}, "at least 1 readout"),
    ],
)
def test_impossible_settings_are_refused(settings_: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MessageReader(MemoryStream(), **settings_)  # type: ignore[arg-type]


def test_bytes_can_be_dropped_whatever_they_are() -> None:
    reader = MessageReader(MemoryStream(b"abcdefg", [4, 1]))
    assert reader.drop_bytes() == b"cd"
    assert reader.drop_bytes() == b"e"
    assert reader.drop_bytes() == b"fg"
    assert reader.drop_bytes() == b""
    assert reader.position == 7
