"""Of settings and attributes only what is known stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.mrd.meta import Meta
from scanside.privacy import Vocabulary, clean_attributes, clean_name, clean_settings

pytestmark = pytest.mark.torch_free

VOCABULARY = Vocabulary(["grappa", "kernel_k1", "engine.deadline_ms", "low-rank-sparse"])


@pytest.mark.parametrize(
    "text",
    ["grappa", "Grappa.xml", "grappaKernelK1", "low_rank_sparse", "engine.deadline_ms", "config", "12 x", ""],
)
def test_known(text: str) -> None:
    assert VOCABULARY.knows(text)


@pytest.mark.parametrize(
    "text", ["Jane", "grappaJane", "grappa^", "grappä", "GRAPPAJANE", "kernel@k1", "ǆane"]
)
def test_not_known(text: str) -> None:
    assert not VOCABULARY.knows(text)


def test_json_keeps_what_a_session_needs() -> None:
    document = {
        "version": "1.0",
        "parameters": {
            "config": "grappa",
            "grappaKernelK1": "4",
            "engineDeadlineMs": 2.5e2,
            "fallback": None,
            "comment": "Jane",
            "Jane": {"config": "grappa", "value": 4711},
            "index": ["Jane", 1, ["grappa"], 'say "Jane"'],
        },
    }
    text = json.dumps(document).encode() + b"\0"
    cleaned = clean_settings(text, VOCABULARY)
    assert len(cleaned) == len(text)
    assert cleaned.endswith(b"\0")
    found = json.loads(cleaned[:-1])
    assert found["version"] == "1.0"
    parameters = found["parameters"]
    assert parameters["config"] == "grappa"
    assert parameters["grappaKernelK1"] == "4"
    assert parameters["engineDeadlineMs"] == 250
    assert parameters["fallback"] is None
    assert parameters["comment"] == "xxxx"
    assert parameters["index"] == ["xxxx", 1, ["grappa"], "xxx xxxxxxxx"]
    assert parameters["xxxx"] == {"config": "grappa", "value": 4711}
    assert b"Jane" not in cleaned


def test_numbers_without_a_known_name_go() -> None:
    cleaned = clean_settings(b'{"Jane": 4711, "born": -19900203.5e7, "config": 4711}', VOCABULARY)
    assert cleaned == b'{"xxxx": 1111, "xxxx": -11111111.1e1, "config": 4711}'


def test_what_the_site_wants_stays() -> None:
    text = b'{"comment": {"Jane": ["Jane", 1]}, "Joe": "Joe"}'
    assert (
        clean_settings(text, VOCABULARY, ("comment",)) == b'{"comment": {"Jane": ["Jane", 1]}, "xxx": "xxx"}'
    )


@pytest.mark.parametrize(
    "text",
    [
        b"Jane was here",
        b'"Jane"',
        b"Jane: 1",
        b'{"config": "Jane',
        b"}Jane{",
        b'{"config" "Jane"}',
        b"[Jane]",
        b"\xffJane",
    ],
)
def test_other_texts_are_masked(text: bytes) -> None:
    cleaned = clean_settings(text, VOCABULARY)
    assert len(cleaned) == len(text)
    assert b"Jane" not in cleaned


def test_configuration() -> None:
    text = b"""<?xml version="1.0"?><!-- Jane --><configuration who="Jane">
        <pipeline>grappa</pipeline><property name="grappa.kernel_k1" value="4"/><output>image_array</output>
        <property><name>grappa.kernel_k1</name><value>Jane</value></property>
        <property name="jane" value="1"/><stream><gadget><name>Jane</name></gadget></stream><Jane/>
    </configuration>"""
    cleaned = clean_settings(text, VOCABULARY)
    assert len(cleaned) == len(text)
    assert b"jane" not in cleaned.lower()
    for kept in (b"<pipeline>grappa<", b'name="grappa.kernel_k1" value="4"', b"image_array", b"<stream>"):
        assert kept in cleaned


def test_name_of_a_configuration() -> None:
    assert clean_name(b"grappa.xml\0\0\0", VOCABULARY) == b"grappa.xml\0\0\0"
    assert clean_name(b"grappa\0Jane\0", VOCABULARY) == b"grappa\0\0\0\0\0\0"
    assert clean_name(b"Jane's\0", VOCABULARY) == b"xxxxxx\0"


def test_attributes() -> None:
    meta = Meta({"DataRole": ["Image", "Jane"], "WindowCenter": 4711, "IceMiniHead": "SmFuZQ==", "Jane": "1"})
    cleaned = clean_attributes(meta.to_xml(), VOCABULARY)
    assert len(cleaned) == len(meta.to_xml())
    assert Meta.parse(cleaned) == Meta({"DataRole": ["Image", "xxxx"], "WindowCenter": 4711})


@pytest.mark.parametrize("text", [b"Jane", b"<ismrmrdMeta>Jane", b"<Jane/>", b""])
def test_attributes_that_cannot_be_read(text: bytes) -> None:
    cleaned = clean_attributes(text, VOCABULARY)
    assert len(cleaned) == len(text)
    assert b"Jane" not in cleaned


@given(st.binary(max_size=60) | st.text(alphabet='{}[]:,"x1\\ <>/=', max_size=60).map(str.encode))
def test_never_an_error(junk: bytes) -> None:
    for text in (
        junk,
        b"{" + junk,
        b'{"config":' + junk + b"}",
        b"<configuration>" + junk + b"</configuration>",
    ):
        assert len(clean_settings(text, VOCABULARY)) == len(text)
        assert len(clean_attributes(text, VOCABULARY)) == len(text)
        assert len(clean_name(text, VOCABULARY)) == len(text)
