"""Reading MRD 2: blocks, what is left out, and every kind of damage."""

from __future__ import annotations

import json
import logging
import math
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside.errors import EndOfStream, FileFormatError, IncompleteRead, MessageError
from scanside.mrd.messages import Close, ImageMessage, Message, Readouts
from scanside.mrd.source import Limits
from scanside.mrd.streams import MemoryStream
from scanside.mrd.v2.reader import ItemReader
from scanside.mrd.v2.schemas import VERSIONS, known_schema
from scanside.mrd.v2.types import Record
from scanside.mrd.v2.values import default, write_value
from scanside.mrd.v2.varints import varint
from scanside.testing.small import small_waveform

pytestmark = pytest.mark.torch_free

Wire = Callable[..., bytes]
Unwire = Callable[..., tuple[list[Message], ItemReader]]
UINT64 = 2**64 - 1


def readouts(n: int, first: int = 0, coils: int = 2, samples: int = 4, dimensions: int = 0) -> Readouts:
    """Readouts that a scanner might send, of which each is another."""
    headers = Readouts.empty_headers(n)
    counter = np.arange(first, first + n)
    headers["scan_counter"] = counter
    headers["idx"]["kspace_encode_step_1"] = counter % 300
    headers["flags"] = np.uint64(1) << (counter % 3).astype(np.uint64)
    headers["acquisition_time_stamp"] = 10_000 + counter
    headers["center_sample"] = samples // 2
    headers["sample_time_us"] = 5.0
    headers["position"] = numbers(counter, 3)
    headers["user_int"] = (-300, 2, 0, 0, 70_000, -1, 0, 0)
    headers["user_float"] = numbers(counter, 8)
    headers["number_of_samples"], headers["trajectory_dimensions"] = samples, dimensions
    headers["active_channels"] = headers["available_channels"] = coils
    headers["channel_mask"][:, 0] = (1 << coils) - 1
    data = numbers(counter, coils, 2 * samples).view(np.complex64)
    return Readouts(headers, data, numbers(counter, samples, dimensions) if dimensions else None)


def numbers(counter: Any, *shape: int) -> Any:
    """Numbers in [-1, 1], others for each readout."""
    size = math.prod(shape)
    return np.sin(1.0 + counter[:, None] * 37 + np.arange(size)).astype(np.float32).reshape(-1, *shape)


def joined(blocks: list[Any]) -> Readouts:
    return Readouts(
        np.concatenate([block.headers for block in blocks]),
        np.concatenate([block.samples for block in blocks]),
        None if blocks[0].trajectory is None else np.concatenate([block.trajectory for block in blocks]),
    )


def image(n: int = 3) -> ImageMessage:
    return ImageMessage.from_array(np.arange(n * n, dtype=np.float32).reshape(1, 1, n, n))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "scanside.mrd.v2")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dimensions", [0, 2])
def test_readouts_come_back(
    version: str, dimensions: int, wire: Wire, unwire: Unwire, assert_same: Any, told: Callable[[], list[str]]
) -> None:
    sent = readouts(700, dimensions=dimensions)
    found, reader = unwire(wire([sent], version))
    assert_same(joined(found), sent)
    assert len(found) < 500, "equal ones come in blocks"
    assert reader.n_messages == 701
    assert reader.schema is not None
    assert reader.schema.version == version
    assert told() == []


def test_every_bit_of_every_readout_is_kept(wire: Wire, unwire: Unwire, assert_same: Any) -> None:
    sent = readouts(4)
    sent.headers["position"] = [[0.0], [-0.0], [np.nan], [np.inf]]
    sent.headers["user_float"][:, 0] = [0.0, 0.0, -0.0, 0.0]
    found, _ = unwire(wire([sent]))
    assert_same(joined(found), sent)


@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    chunks=st.one_of(st.integers(1, 400), st.lists(st.integers(1, 2000), max_size=50)),
    block_bytes=st.integers(1400, 9000),
    n_blocks=st.integers(2, 5),
    most=st.none() | st.integers(1, 5),
)
def test_however_the_bytes_arrive(
    wire: Wire,
    unwire: Unwire,
    assert_same: Any,
    chunks: Any,
    block_bytes: int,
    n_blocks: int,
    most: int | None,
) -> None:
    sent = [
        readouts(40, 100),
        image(),
        readouts(5, 7, coils=1),
        readouts(1, 9, samples=300),
        readouts(20, 11),
    ]
    found, _ = unwire(wire(sent), chunks, block_bytes=block_bytes, n_blocks=n_blocks, max_block_readouts=most)
    blocks = [one for one in found if isinstance(one, Readouts)]
    assert most is None or max(map(len, blocks)) <= most
    shapes = [block.samples.shape[1:] for block in blocks]
    assert list(dict.fromkeys(shapes)) == [(2, 4), (1, 4), (2, 300)]
    assert_same(
        joined([one for one in blocks if one.samples.shape[1:] == (2, 4)]), joined([sent[0], sent[4]])
    )
    assert_same(joined([one for one in blocks if one.samples.shape[1:] == (1, 4)]), sent[2])
    assert_same(joined([one for one in blocks if one.samples.shape[1:] == (2, 300)]), sent[3])


def test_items_of_a_long_block_are_read_like_single_ones(
    wire: Wire, unwire: Unwire, assert_same: Any
) -> None:
    whole = wire([readouts(30)])
    start = len(wire([], end=False))
    # mrd-python writes a list as one block: its length, and items without a number before them.
    items, position = b"", start
    ends = [len(wire([readouts(n)], end=False)) for n in range(1, 31)]
    for end in ends:
        items += whole[position + 1 : end]
        position = end
    data = whole[:start] + varint(30) + items + b"\x01" + whole[start + 1 : ends[0]] + b"\0"
    found, reader = unwire(data)
    sent = readouts(30)
    assert_same(joined(found), joined([sent, sent.select(slice(1))]))
    assert reader.n_messages == 1 + 31


def test_one_readout_at_a_time_waits_for_no_more_than_itself(wire: Wire) -> None:
    """A reader that asked for a byte too many would hang on a pipe."""

    class Pipe(MemoryStream):
        asked_too_much = False

        def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
            if not self._data:
                raise AssertionError("it waits for bytes that need not come")
            return super().receive_into(buffer, deadline)

    data = wire([readouts(1), readouts(1, 127), readouts(1, 500, samples=2)], end=False)
    reader = ItemReader(Pipe(data, 1))
    reader.read()
    for n in (4, 4, 2):
        block = reader.read()
        assert isinstance(block, Readouts)
        assert block.samples.shape == (1, 2, n)


def test_a_readout_that_is_larger_than_a_buffer_comes_alone(
    wire: Wire, unwire: Unwire, assert_same: Any
) -> None:
    sent = readouts(3, samples=2000, dimensions=1)
    found, _ = unwire(wire([sent]), block_bytes=4096)
    assert [len(block) for block in found] == [1, 1, 1]  # type: ignore[arg-type]
    assert_same(joined(found), sent)


def test_blocks_stay_valid_as_long_as_promised(wire: Wire) -> None:
    reader = ItemReader(MemoryStream(wire([readouts(300)])), block_bytes=4096, n_blocks=4)
    reader.read()
    kept: list[tuple[Readouts, Readouts]] = []
    while isinstance(block := reader.read(), Readouts):
        kept.append((block, block.copy()))
        for lent, copied in kept[-3:]:
            np.testing.assert_array_equal(lent.samples, copied.samples)


def test_what_no_pipeline_takes_is_told_and_left_out(
    wire: Wire, unwire: Unwire, told: Callable[[], list[str]]
) -> None:
    schema = known_schema("2.2")
    out = bytearray()
    for tag in ("pulseqblocks", "recondata", "pulseqblocks"):
        number, kind = schema.item(tag)
        out += bytes((1, number))
        write_value(kind, default(kind), out)
    data = wire([readouts(1)], end=False) + bytes(out) + wire([readouts(1)])[len(wire([], end=False)) :]
    found, reader = unwire(data)
    assert len(found) == 2
    assert reader.left_out == {"pulseqBlocks": 2, "reconData": 1}
    assert told()[-1].endswith("were left out: 2 pulseqBlocks, 1 reconData")
    assert sum("they are left out: pulseqBlocks" in text for text in told()) == 1


def acquisition(version: str, **head: Any) -> bytes:
    """An item with one readout of 1 coil and 4 samples, of which only some fields are given."""
    schema = known_schema(version)
    number, kind = schema.item("acquisition")
    fields = {name: head.pop(name) for name in ("trajectory", "phase") if name in head}
    out = bytearray((1, number))
    assert isinstance(kind, Record)
    of = kind.fields["head"]
    given_head = {**default(of), **head}
    write_value(kind, {"data": np.ones((1, 4), np.complex64), **fields, "head": given_head}, out)
    return bytes(out)


def test_what_is_absent_has_a_meaning(wire: Wire, unwire: Unwire, told: Callable[[], list[str]]) -> None:
    (block,), _ = unwire(wire([], end=False) + acquisition("2.2") + b"\0")
    assert isinstance(block, Readouts)
    header = block.headers[0]
    assert header["center_sample"] == 2
    assert header["active_channels"] == header["available_channels"] == 1
    for name in (
        "scan_counter",
        "acquisition_time_stamp",
        "discard_pre",
        "encoding_space_ref",
        "sample_time_us",
    ):
        assert header[name] == 0
    assert not header["idx"]["slice"]
    assert not header["channel_mask"].any()
    assert block.trajectory is None
    assert told() == ["readouts came without their centre sample: the middle one is taken"]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (
            {"centerSample": 1, "phase": np.ones(4, np.float32)},
            "a phase for each sample, which is not applied",
        ),
        ({"centerSample": 1, "acquisitionCenterFrequency": 5}, "the centre frequency of each readout"),
        ({"centerSample": 1, "acquisitionTimeStampNs": 1_300_000}, "up to 1.25 ms are lost"),
        (
            {"centerSample": 1, "physiologyTimeStampNs": [0, 0, 0, 2_500_000]},
            "has 4 values, and a header of MRD 1 has 3",
        ),
        ({"centerSample": 1, "userInt": list(range(9))}, "has 9 values, and a header of MRD 1 has 8"),
        ({"centerSample": 1, "channelOrder": [2, 1]}, "channels are not in ascending order"),
    ],
)
def test_what_mrd_1_cannot_say_is_told_once(
    head: dict[str, Any], said: str, wire: Wire, unwire: Unwire, told: Callable[[], list[str]]
) -> None:
    unwire(wire([], end=False) + acquisition("2.2", **head) * 3 + b"\0")
    assert len(told()) == 1
    assert said in told()[0]


def test_channels_and_times(wire: Wire, unwire: Unwire) -> None:
    item = acquisition(
        "2.2",
        channelOrder=[0, 3, 70],
        acquisitionTimeStampNs=1_250_000,
        physiologyTimeStampNs=[2_500_000],
        sampleTimeNs=5200,
        userInt=[-7],
        userFloat=[0.5],
    )
    (block,), _ = unwire(wire([], end=False) + item + b"\0")
    assert isinstance(block, Readouts)
    header = block.headers[0]
    assert header["channel_mask"][:2].tolist() == [0b1001, 1 << 6]
    assert header["acquisition_time_stamp"] == 1
    assert header["physiology_time_stamp"].tolist() == [1, 0, 0]
    assert header["sample_time_us"] == np.float32(5.2)
    assert header["user_int"].tolist() == [-7] + [0] * 7
    assert header["user_float"].tolist() == [0.5] + [0] * 7


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"idx": {"slice": 70000, "user": []}}, "slice is 70000, and a header of MRD 1"),
        ({"idx": {"user": [70000]}}, "user is 70000"),
        ({"acquisitionTimeStampNs": UINT64}, "acquisition_time_stamp is 7378697629484"),
        ({"trajectory": np.ones((2, 3), np.float32)}, r"4 samples came with a trajectory .* shape \(2, 3\)"),
    ],
)
def test_numbers_that_mrd_1_has_no_room_for(
    head: dict[str, Any], said: str, wire: Wire, unwire: Unwire
) -> None:
    with pytest.raises(MessageError, match=said):
        unwire(wire([], end=False) + acquisition("2.2", **head) + b"\0")


# Damage


def test_cut_off_anywhere_says_where(wire: Wire) -> None:
    data = wire([readouts(2), image()], "2.1")
    start = len(wire([], "2.1", end=False))
    boundaries = {
        start,
        *(len(wire([readouts(n)], "2.1", end=False)) for n in (1, 2)),
        len(wire([readouts(2), image()], "2.1", end=False)),
    }
    for n in [*range(12), start - 5, *range(start, len(data))]:
        reader = ItemReader(MemoryStream(data[:n]))
        error = EndOfStream if n in (0, *boundaries) else IncompleteRead
        with pytest.raises(error, match=r"the mark of its end was expected|stopped inside item \d"):
            list(iter(reader.read, None))


def test_nothing_follows_the_end(wire: Wire) -> None:
    reader = ItemReader(MemoryStream(wire([])))
    reader.read()
    assert isinstance(reader.read(), Close)
    with pytest.raises(EndOfStream, match="nothing follows its end"):
        reader.read()


def with_schema(text: bytes) -> bytes:
    return b"yardl" + struct.pack("<i", 1) + varint(len(text)) + text


def changed_schema(change: Callable[[dict[str, Any]], None]) -> bytes:
    schema = json.loads(known_schema("2.2").text)
    change({one["name"]: one for one in schema["types"]})
    return json.dumps(schema).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"yarda" + bytes(20), "it begins with b'yarda', expected b'yardl'"),
        (b"yardl" + struct.pack("<i", 2), "version 2 of yardl's binary format, and version 1 is known"),
        (with_schema(b"{}"), "cannot be read"),
        (
            with_schema(changed_schema(lambda types: types["AcquisitionHeader"]["fields"].pop(0))),
            r"acquisitions without head\.flags: it has data.*another version of MRD than .* \(2\.1 and 2\.2\)",
        ),
        (
            with_schema(
                changed_schema(lambda types: types["AcquisitionData"]["type"]["array"].update(items="int16"))
            ),
            r"acquisitions whose data is .*int16.*, expected .*complexfloat32",
        ),
        (
            with_schema(changed_schema(lambda types: types["StreamItem"]["type"].pop(0))),
            r"no acquisitions among its items .*; expected MRD 2\.1 or 2\.2",
        ),
    ],
)
def test_other_formats_and_versions(data: bytes, said: str) -> None:
    reader = ItemReader(MemoryStream(data))
    for _ in range(2):  # it stays broken
        with pytest.raises(FileFormatError, match=said):
            reader.read()


def test_a_newer_version_is_read_by_its_own_schema(
    wire: Wire, unwire: Unwire, told: Callable[[], list[str]]
) -> None:
    def add(types: dict[str, Any]) -> None:
        types["Acquisition"]["fields"].append({"name": "gradient", "type": [None, "float32"]})
        types["StreamItem"]["type"].append({"tag": "novelty", "type": "string"})

    data = wire([readouts(1)], end=False)
    text = known_schema("2.2").text
    newer = changed_schema(add)
    start = data.index(text) + len(text)
    body = data[start:] + b"\x01" + struct.pack("<f", 2.5) + b"\x01\x16\x03abc" + b"\0"
    (block,), reader = unwire(with_schema(newer) + body)
    assert isinstance(block, Readouts)
    np.testing.assert_array_equal(block.samples, readouts(1).samples)
    assert reader.left_out == {"novelty": 1}
    assert any("another schema than MRD 2.1 and 2.2" in one for one in told())
    assert any("of its acquisitions, gradient is not known" in one for one in told())


def test_items_that_lack_a_field_are_told(wire: Wire, unwire: Unwire) -> None:
    def rename(types: dict[str, Any]) -> None:
        types["Waveform"]["fields"][2]["name"] = "counter"

    data = wire([small_waveform()], end=False)
    text = known_schema("2.2").text
    with pytest.raises(MessageError, match=r"it cannot be read .*scanCounter"):
        unwire(with_schema(changed_schema(rename)) + data[data.index(text) + len(text) :])


def test_a_stream_without_header_is_told(wire: Wire) -> None:
    start = wire([], end=False).index(known_schema("2.2").text) + len(known_schema("2.2").text)
    for mark, said in ((b"\0", "the stream has no header"), (b"\x07", "must be 0 or 1, found 7")):
        reader = ItemReader(MemoryStream(wire([])[:start] + mark + b"\0"))
        with pytest.raises(MessageError, match=said):
            reader.read()


def test_unknown_kinds_of_items(wire: Wire, unwire: Unwire) -> None:
    with pytest.raises(MessageError, match=r"of kind 99, and MRD 2\.2 has 22"):
        unwire(wire([], end=False) + b"\x01\x63")


LARGE = b"\xff\xff\xff\xff\x0f"


@pytest.mark.parametrize("at", ["coils", "samples", "both", "user", "image"])
def test_lying_lengths_allocate_nothing(at: str, wire: Wire) -> None:
    opening = wire([], end=False)
    if at == "image":
        whole = wire([image()], end=False)
        place = whole.rindex(b"\x01\x01\x03\x03")
        data = whole[: place + 2] + b"\xff\xff\x03" * 2
    else:
        item = acquisition("2.2", centerSample=1)
        place = item.rindex(b"\x01\x04" + struct.pack("<f", 1.0))
        sizes = {"coils": LARGE + b"\x04", "samples": b"\x01" + LARGE, "both": LARGE * 2, "user": b""}[at]
        head = item[: place - 1] + LARGE if at == "user" else item[:place]  # userFloat's length
        data = opening + head + sizes + bytes(64)
    reader = ItemReader(MemoryStream(data), block_bytes=1 << 16)
    reader.read()
    tracemalloc.start()
    try:
        with pytest.raises((MessageError, IncompleteRead)):
            reader.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_limits_hold(wire: Wire) -> None:
    for samples, said in ((40, "a readout has at most 300"), (1000, "a whole message has at most 1000")):
        reader = ItemReader(MemoryStream(wire([readouts(1, samples=samples)])))
        reader.read()
        reader.limits = Limits(max_readout_bytes=300, max_message_bytes=1000)
        with pytest.raises(MessageError, match=said):
            reader.read()


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_flipped_bytes_are_told_or_harmless(wire: Wire, data: st.DataObject) -> None:
    whole = bytearray(wire([readouts(3), image(), readouts(2, dimensions=1)]))
    start = len(wire([], end=False))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(start, len(whole) - 1))] = data.draw(st.integers(0, 255))
    reader = ItemReader(MemoryStream(bytes(whole)), limits=Limits(max_message_bytes=1 << 20))
    try:
        while not isinstance(reader.read(), Close):
            pass
    except (MessageError, EndOfStream, IncompleteRead):
        pass
