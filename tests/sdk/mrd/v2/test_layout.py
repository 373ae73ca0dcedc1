"""Layouts of acquisitions: what is read by them is what is read field by field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside.mrd.ring import ReceiveRing
from scanside.mrd.source import Limits
from scanside.mrd.streams import MemoryStream
from scanside.mrd.v2.layout import columns_of, layout_of
from scanside.mrd.v2.schemas import VERSIONS, known_schema
from scanside.mrd.v2.source import ItemSource
from scanside.mrd.v2.types import Array, Map, Record, Scalar, Type, Union, Vector
from scanside.mrd.v2.values import default, read_value, write_value

pytestmark = pytest.mark.torch_free


def source(data: bytes, block_bytes: int = 1 << 12) -> ItemSource:
    return ItemSource(ReceiveRing(MemoryStream(data), block_bytes, 2), Limits(), 0, 1)


def kind_of(version: str) -> Record:
    kind = known_schema(version).item("acquisition")[1]
    assert isinstance(kind, Record)
    return kind


def value_of(version: str, numbers: list[int], present: bool) -> dict[str, Any]:
    kind = kind_of(version)
    head = default(kind.fields["head"])
    head["flags"], head["measurementUid"] = numbers[0], numbers[1] % 2**32
    head["userInt"] = [number % 2**31 - 2**30 for number in numbers]
    head["idx"]["user"] = [number % 2**16 for number in numbers]
    if present:
        head["scanCounter"], head["idx"]["slice"] = numbers[2] % 2**32, numbers[3] % 2**16
    head["position"] = np.array(numbers[:3], np.float32)
    head["userFloat"] = [float(np.float32(number)) for number in numbers]
    data = np.array(numbers * 2, np.complex64).reshape(2, -1)
    trajectory = np.ones((2, len(numbers)), np.float32) if present else np.zeros((0, 0), np.float32)
    return {"head": head, "data": data, "trajectory": trajectory}


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 200), min_size=4, max_size=6),
    present=st.booleans(),
)
def test_both_ways_of_reading_agree(version: str, numbers: list[int], present: bool) -> None:
    kind = kind_of(version)
    out = bytearray()
    write_value(kind, value_of(version, numbers, present), out)
    layout = layout_of(kind, source(bytes(out)), 1 << 12)
    assert layout is not None
    assert layout.size == len(out)
    block = np.frombuffer(bytes(out), np.uint8)
    assert layout.begins(block)
    found = layout.columns(block, 0, 1, layout.size)
    expected = columns_of(kind, read_value(kind, source(bytes(out))))
    assert found.absent == expected.absent
    for name in ("integers", "arrays"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.keys() == theirs.keys()
        for field in ours:
            assert ours[field].tolist() == theirs[field].tolist(), field


def test_another_length_of_a_number_or_a_list_is_another_layout() -> None:
    kind = kind_of("2.2")

    def written(**head: Any) -> bytes:
        out = bytearray()
        value = value_of("2.2", [1, 2, 3, 4], True)
        value["head"] |= {"userInt": [0, 1, 2, 3], **head}
        write_value(kind, value, out)
        return bytes(out)

    layout = layout_of(kind, source(written()), 1 << 12)
    assert layout is not None
    same = {"scanCounter": 127, "position": np.array([9, 9, 9], np.float32), "userInt": [-64, 63, 0, 1]}
    assert layout.begins(np.frombuffer(written(**same), np.uint8))
    for other in (
        {"scanCounter": 128},
        {"scanCounter": None},
        {"userInt": [1] * 3},
        {"userInt": [64, 0, 0, 0]},
    ):
        assert not layout.begins(np.frombuffer(written(**other), np.uint8)), other


def test_items_larger_than_a_buffer_have_none() -> None:
    kind = kind_of("2.1")
    out = bytearray()
    write_value(kind, {"data": np.zeros((1, 600), np.complex64)}, out)
    assert layout_of(kind, source(bytes(out)), 1 << 12) is None


@pytest.mark.parametrize(
    "kind",
    [
        Scalar("string"),
        Map(Scalar("string"), Scalar("int8")),
        Union((("a", Scalar("int8")), ("b", Scalar("int8")))),
        Vector(Vector(Scalar("int8"))),
        Array(Record("R", {"a": Scalar("int8")}), 1),
        Array(Scalar("int8")),
    ],
)
def test_types_that_are_not_laid_out(kind: Type) -> None:
    with pytest.raises(TypeError):
        layout_of(Record("R", {"one": kind}), source(bytes(64)), 64)
