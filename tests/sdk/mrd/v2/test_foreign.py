"""mrd-python reads what Scanside writes, byte for byte as it would write it, and the other way round.

2.1.1 runs here; a stream that 2.2.1 wrote, which needs a newer Python, lies beside this file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside.mrd.dtypes import IMAGE_DTYPES
from scanside.mrd.files import StreamRecording, open_recording
from scanside.mrd.header import MrdHeader
from scanside.mrd.messages import ImageMessage, Message, Readouts, Waveform
from scanside.mrd.meta import Meta

pytestmark = pytest.mark.torch_free

WRITTEN = Path(__file__).with_name("mrd_python_2.2.1.mrd.xz")


@pytest.fixture(scope="module")
def mrd() -> Any:
    return pytest.importorskip("mrd", reason="mrd-python is not installed")


def judged(mrd: Any, data: bytes) -> tuple[Any, list[Any]]:
    """What mrd-python reads, and that it writes the same bytes."""
    with mrd.BinaryMrdReader(io.BytesIO(data)) as reader:
        header, items = reader.read_header(), list(reader.read_data())
    again = io.BytesIO()
    with mrd.BinaryMrdWriter(again) as writer:
        writer.write_header(header)
        writer.write_data(iter(items))
    assert again.getvalue() == data
    return header, items


def random_messages(make: Any) -> list[Message]:
    """Every bit of header and samples random, as far as MRD 2 has a place for it."""
    readouts = make.readouts(5, dimensions=2)
    waveform = make.waveform()
    images = [
        make.image(dtype, attributes=Meta({"a": [1, 0.5, "x"]}).to_xml()) for dtype in IMAGE_DTYPES.values()
    ]
    for image in images:
        image.header["image_type"] = 1 + image.header["image_type"] % 5
    return [readouts, waveform, *images, make.readouts(2, coils=1), make.readouts(1, samples=300)]


@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bytes_are_those_of_mrd_python(mrd: Any, maker: Any, wire: Callable[..., bytes], seed: int) -> None:
    messages = random_messages(maker(seed))
    _, items = judged(mrd, wire(messages, "2.1"))
    readouts = messages[0]
    assert isinstance(readouts, Readouts)
    assert len(items) == 5 + 1 + 8 + 3
    for i, item in enumerate(items[:5]):
        head, ours = item.value.head, readouts.headers[i]
        assert int(head.flags) == ours["flags"]
        assert head.idx.segment == ours["idx"]["segment"]
        assert head.acquisition_time_stamp == ours["acquisition_time_stamp"]
        np.testing.assert_array_equal(head.user_float, ours["user_float"])
        np.testing.assert_array_equal(head.slice_dir, ours["slice_dir"])
        np.testing.assert_array_equal(item.value.data, readouts.samples[i])
        np.testing.assert_array_equal(item.value.trajectory, readouts.trajectory[i].T)  # type: ignore[index]
    for item, message in zip(items[6:14], messages[2:10], strict=True):
        assert isinstance(message, ImageMessage)
        np.testing.assert_array_equal(item.value.data, message.data)
        assert item.value.head.image_type.value == message.header["image_type"]
        np.testing.assert_array_equal(item.value.head.col_dir, message.header["read_dir"])
        assert [one.value for one in item.value.meta["a"]] == [1, 0.5, "x"]


def test_a_header_as_mrd_python_has_it(mrd: Any, wire: Callable[..., bytes], header: bytes) -> None:
    found, _ = judged(mrd, wire([], "2.1"))
    (encoding,) = found.encoding
    assert (encoding.encoded_space.matrix_size.x, encoding.recon_space.matrix_size.x) == (8, 4)
    assert encoding.trajectory is mrd.Trajectory.CARTESIAN
    assert found.experimental_conditions.h1resonance_frequency_hz == 63_500_000


@settings(max_examples=10, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    lists=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    counters=st.lists(st.none() | st.integers(0, 65535), min_size=9, max_size=9),
    in_lists=st.booleans(),
)
def test_streams_that_mrd_python_wrote_are_read(
    mrd: Any, unwire: Callable[..., Any], lists: list[int], counters: list[int | None], in_lists: bool
) -> None:
    names = ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase")
    names += ("repetition", "set", "segment")
    rng = np.random.default_rng(sum(lists))
    items = []
    for i in range(sum(lists)):
        one = mrd.Acquisition(
            data=rng.standard_normal((2, 3, 2)).astype(np.float32).view(np.complex64)[..., 0]
        )
        one.head.idx = mrd.EncodingCounters(**dict(zip(names, counters, strict=True)))
        one.head.scan_counter = 125 + i
        one.head.center_sample = 1
        items.append(one)
    file = io.BytesIO()
    with mrd.BinaryMrdWriter(file) as writer:
        writer.write_header(mrd.Header(encoding=[mrd.EncodingType()]))
        start = 0
        for n in lists:
            part = [mrd.StreamItem.Acquisition(one) for one in items[start : start + n]]
            writer.write_data(part if in_lists else iter(part))
            start += n
    found, _ = unwire(file.getvalue())
    headers = np.concatenate([block.headers for block in found])
    np.testing.assert_array_equal(np.concatenate([b.samples for b in found]), [one.data for one in items])
    assert headers["scan_counter"].tolist() == list(range(125, 125 + len(items)))
    for name, counter in zip(names, counters, strict=True):
        assert (headers["idx"][name] == (counter or 0)).all()


def test_a_stream_that_mrd_python_2_2_wrote() -> None:
    with open_recording(WRITTEN) as recording:
        header = MrdHeader.parse(recording.header_xml)
        items = [one.copy() if isinstance(one, Readouts) else one for one in recording.items()]
        assert isinstance(recording, StreamRecording)
        assert recording.schema is not None
        assert recording.schema.version == "2.2"
        assert recording.n_bytes == 29496
    assert header.encodings[0].encoded.matrix == (8, 4, 1)
    assert header.encodings[0].acceleration == (2, 1)
    assert header.patient_position == "FFDL"
    assert header.user_parameters == {"a": -3, "b": 0.25, "c": "x<y"}
    assert header.waveform_names == {0: "ECG"}
    blocks = [one for one in items if isinstance(one, Readouts)]
    headers = np.concatenate([block.headers for block in blocks])
    assert headers["scan_counter"].tolist() == list(range(126, 134))
    assert headers["idx"]["slice"].tolist() == [300] * 8
    assert headers["acquisition_time_stamp"].tolist() == list(range(1000, 1008))
    assert headers["channel_mask"][:, 0].tolist() == [0b100010] * 8
    assert headers["user_int"][0].tolist() == [-1, 2, 0, 0, 0, 0, 0, 0]
    assert headers["trajectory_dimensions"].tolist() == [0] * 4 + [2] * 2 + [0] * 2
    (waveform,) = (one for one in items if isinstance(one, Waveform))
    assert waveform.header["time_stamp"] == 2
    assert waveform.data.tolist() == [[1, 200, 70000], [0, 2**32 - 1, 5]]
    images = [one for one in items if isinstance(one, ImageMessage)]
    assert [image.data.dtype for image in images] == list(IMAGE_DTYPES.values())
    for image in images:
        expected = np.arange(12).reshape(1, 1, 3, 4) * 700 - (0 if image.data.dtype.kind == "u" else 4000)
        np.testing.assert_array_equal(image.data, expected)
        assert Meta.parse(image.attributes) == Meta({"text": ["a", "b"], "n": -5, "x": 0.1})
