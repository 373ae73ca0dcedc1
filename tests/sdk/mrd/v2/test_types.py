"""Schemas as types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scanside.errors import FileFormatError
from scanside.mrd.v2.schemas import NEWEST, VERSIONS, known_schema, mrd_schema
from scanside.mrd.v2.types import Array, Enum, Record, Scalar, Union, Vector, leaf_paths, parse_schema

pytestmark = pytest.mark.torch_free


def schema(types: list[Any], step: Any = "T.R", name: str = "P") -> bytes:
    return json.dumps(
        {"protocol": {"name": name, "sequence": [{"name": "one", "type": step}]}, "types": types}
    ).encode()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_known_versions(version: str) -> None:
    known = known_schema(version)
    assert known.version == version
    kind = known.item("acquisition")[1]
    assert isinstance(kind, Record)
    paths = list(leaf_paths(kind))
    assert paths[:2] == ["head.flags", "head.idx.kspaceEncodeStep1"]
    assert ("head.acquisitionTimeStampNs" in paths) == (version == "2.2")
    image = known.item("imageint16")[1]
    assert isinstance(image, Record)
    assert image.fields["data"] == Array(Scalar("int16"), 4)
    assert known.header.fields["encoding"].items.name == "EncodingType"  # type: ignore[union-attr]


def test_unknown_versions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MRD 9 is not known; possible are 2\.1, 2\.2"):
        known_schema("9")


def test_aliases_parameters_and_unions_are_resolved() -> None:
    text = schema(
        [
            {
                "name": "R",
                "fields": [
                    {"name": "a", "type": {"name": "T.G", "typeArguments": ["int16"]}},
                    {"name": "b", "type": [None, "float32"]},
                    {"name": "c", "type": ["string", "int8"]},
                    {"name": "d", "type": "T.E"},
                ],
            },
            {"name": "G", "typeParameters": ["X"], "type": {"vector": {"items": "X", "length": 2}}},
            {"name": "E", "base": "uint8", "values": [{"symbol": "one", "value": 1}]},
        ]
    )
    kind = parse_schema(text).steps["one"]
    assert isinstance(kind, Record)
    assert kind.fields["a"] == Vector(Scalar("int16"), 2)
    assert kind.fields["b"] == Union((("", None), ("float32", Scalar("float32"))))
    assert kind.fields["b"].optional == Scalar("float32")  # type: ignore[union-attr]
    assert kind.fields["c"].optional is None  # type: ignore[union-attr]
    assert kind.fields["d"] == Enum("E", Scalar("uint8"), {"one": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"protocol": {}, "types": []}', "cannot be read"),
        (schema([]), "no type 'T.R'"),
        (schema([{"name": "R", "fields": []}]), "has no fields"),
        (schema([{"name": "R", "fields": [{"name": "a", "type": "T.R"}]}]), "nests types more than 40 deep"),
        (schema([{"name": "R", "type": {"array": 3}}]), "cannot be read"),
    ],
)
def test_what_is_no_schema(text: bytes, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        parse_schema(text)


def test_other_protocols_are_told_by_name() -> None:
    noise = schema([{"name": "R", "fields": [{"name": "a", "type": "int8"}]}], name="MrdNoiseCovariance")
    with pytest.raises(
        FileFormatError, match="protocol 'MrdNoiseCovariance' with one; expected protocol 'Mrd'"
    ):
        mrd_schema(noise)


def test_another_kind_of_header_is_refused() -> None:
    changed = json.loads(known_schema(NEWEST).text)
    changed["protocol"]["sequence"][0]["type"] = "string"
    with pytest.raises(FileFormatError, match="another header"):
        mrd_schema(json.dumps(changed).encode())
