"""Images and waveforms, there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import MessageError
from scanside.mrd.dtypes import IMAGE_DTYPES, IMAGE_HEADER, WAVEFORM_HEADER
from scanside.mrd.messages import ImageArray, ImageMessage, Text, Waveform
from scanside.mrd.meta import Meta
from scanside.mrd.v2.images import image_of, image_value, waveform_of, waveform_value
from scanside.mrd.v2.schemas import VERSIONS
from scanside.mrd.v2.told import Told

pytestmark = pytest.mark.torch_free


def header(**fields: Any) -> np.void:
    filled = np.zeros(1, IMAGE_HEADER)
    filled["version"], filled["image_type"] = 1, 1
    for name, value in fields.items():
        filled[name] = value
    return filled[0]


FULL = {
    "flags": 2**63 + 16, "measurement_uid": 2**32 - 1, "field_of_view": (240, 210.5, 5), "position": (-1.25, 2, 3),
    "read_dir": (0, 1, 0), "phase_dir": (1, 0, 0), "slice_dir": (0, 0, -1), "patient_table_position": (0, 0, 99),
    "average": 1, "slice": 65535, "contrast": 2, "phase": 3, "repetition": 4, "set": 5,
    "acquisition_time_stamp": 2**32 - 1, "physiology_time_stamp": (7, 8, 9), "image_type": 5, "image_index": 11,
    "image_series_index": 12, "user_int": range(-4, 4), "user_float": np.linspace(-1, 1, 8),
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", IMAGE_DTYPES.values(), ids=str)
def test_every_type_of_samples(
    version: str,
    dtype: np.dtype[Any],
    wire: Callable[..., bytes],
    unwire: Callable[..., Any],
    assert_same: Any,
) -> None:
    values = np.arange(2 * 1 * 3 * 70).reshape(2, 1, 3, 70) * 300 - (0 if dtype.kind == "u" else 20_000)
    attributes = Meta(
        {"GADGETRON_ImageProcessingHistory": ["FFT", "b"], "n": -5, "x": 0.1, "empty": ""}
    ).to_xml()
    sent = ImageMessage.from_array(values.astype(dtype), attributes, header(**FULL))
    (found,), reader = unwire(wire([sent], version), 100)
    assert_same(found, sent)
    assert reader.told.texts == []


def test_what_has_no_name_in_the_other_version_is_told() -> None:
    for image_type, kind, expected, said in (
        (0, "<f4", 1, "go as magnitude"),
        (0, "<c8", 5, "or as complex"),
        (6, "<u2", 6, "no name for images of type 6"),
    ):
        told = Told()
        sent = ImageMessage.from_array(np.zeros((1, 1, 2, 2), kind), header=header(image_type=image_type))
        _, value = image_value(sent, told)
        assert value["head"]["imageType"] == expected
        assert said in told.texts[0]


def test_attributes_without_values_are_told() -> None:
    told = Told()
    _, value = image_value(ImageMessage.from_array(np.zeros((1, 1, 2, 2), "<f4"), header=header()), told)
    found = image_of({**value, "meta": {"a": [], "b": [("string", "c")]}}, told)
    assert Meta.parse(found.attributes) == Meta({"b": "c"})
    assert told.texts == [
        "an image's attribute without a name or without a value has no place in MRD 1 and is lost"
    ]


@given(
    st.lists(
        st.text(min_size=0, max_size=12) | st.sampled_from(["1", "-0", "01", "1.0", "1e5", "1_0", "nan"])
    )
)
def test_attributes_come_back_as_they_were_written(texts: list[str]) -> None:
    meta = Meta({"a": texts}) if texts else Meta()
    sent = Meta.parse(meta.to_xml())  # what XML can hold
    image = ImageMessage.from_array(np.zeros((1, 1, 2, 2), "<f4"), sent.to_xml(), header())
    _, value = image_value(image, Told())
    assert Meta.parse(image_of(value, Told()).attributes) == sent


def test_numbers_among_attributes_are_numbers_in_mrd_2() -> None:
    sent = Meta({"a": ["12", "0.5", "1.50", "x", "007"]})
    image = ImageMessage.from_array(np.zeros((1, 1, 2, 2), "<f4"), sent.to_xml(), header())
    _, value = image_value(image, Told())
    assert value["meta"] == {
        "a": [("int64", 12), ("float64", 0.5), ("string", "1.50"), ("string", "x"), ("string", "007")]
    }


def test_sizes_that_mrd_1_has_no_room_for() -> None:
    _, value = image_value(ImageMessage.from_array(np.zeros((1, 1, 2, 2), "<f4"), header=header()), Told())
    with pytest.raises(MessageError, match="an image's size is 70000"):
        image_of({**value, "data": np.zeros((1, 1, 1, 70_000), np.float32)}, Told())


def waveform(sample_time_us: float = 2500.0) -> Waveform:
    filled = np.zeros(1, WAVEFORM_HEADER)
    filled["version"], filled["channels"], filled["number_of_samples"] = 1, 2, 3
    filled["flags"], filled["time_stamp"], filled["waveform_id"] = 2**40, 17_280_000, 3
    filled["sample_time_us"] = sample_time_us
    return Waveform(filled[0], np.array([[0, 1, 2**32 - 1], [128, 5, 300]], np.uint32))


@pytest.mark.parametrize("version", VERSIONS)
def test_waveforms(
    version: str, wire: Callable[..., bytes], unwire: Callable[..., Any], assert_same: Any
) -> None:
    sent = waveform()
    (found,), _ = unwire(wire([sent], version))
    assert_same(found, sent)


@pytest.mark.parametrize("us", [0.0001, 5.00001, np.nan, -1.0, np.inf, 1e30])
def test_times_that_are_no_whole_ns_are_told(us: float) -> None:
    told = Told()
    value = waveform_value(waveform(us), ["timeStampNs", "sampleTimeNs"], told)
    assert told.texts == ["the time between samples was rounded to the whole ns in which MRD 2.2 has it"]
    assert abs(float(waveform_of(value, Told()).header["sample_time_us"]) - (us if 0 < us < 10 else 0)) < 1e-3


def test_messages_that_mrd_2_does_not_take(make: Any, wire: Callable[..., bytes]) -> None:
    array: ImageArray = make.image_array()
    for message in (array, Text("a"), make.bucket()):
        with pytest.raises(MessageError, match=f"takes no {type(message).__name__} from Scanside"):
            wire([message])
