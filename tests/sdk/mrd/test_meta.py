from __future__ import annotations

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import FormatError
from scanside.mrd.meta import Meta

pytestmark = pytest.mark.torch_free

# What XML can hold; whitespace and carriage returns included.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r")
)


@given(st.dictionaries(TEXT.filter(bool), st.lists(TEXT, min_size=1, max_size=3)))
def test_round_trip(values: dict[str, list[str]]) -> None:
    meta = Meta(values)
    found = Meta.parse(meta.to_xml() + b"\0")
    assert found == meta
    assert list(found) == list(values)


@given(st.dictionaries(TEXT.filter(bool), st.lists(TEXT.filter(bool), min_size=1, max_size=3), min_size=1))
def test_ismrmrd_python_reads_it(values: dict[str, list[str]]) -> None:
    theirs = ismrmrd.Meta.deserialize(Meta(values).to_xml().decode())
    assert {name: value if isinstance(value, list) else [value] for name, value in theirs.items()} == values
    assert Meta.parse(theirs.serialize()) == Meta(
        # It does not protect carriage returns, which any XML parser then reads as line feeds.
        {_plain(name): [_plain(value) for value in given] for name, given in values.items()}
    ) or any("\r" in name for name in values)


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def test_attributes_that_gadgetron_wrote(shared_data: Path) -> None:
    with h5py.File(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.gadgetron-4.7.2.h5") as file:
        text = file["img/image_1/attributes"][0]
    meta = Meta.parse(text)
    theirs = ismrmrd.Meta.deserialize(text)
    assert meta == Meta({name: "" if value is None else value for name, value in theirs.items()})
    assert meta["GADGETRON_ImageComment"] == ["GT", "x10"]
    assert [float(value) for value in meta["PatientPosition"]] == [20.0483, 66.57, 0]
    assert Meta.parse(meta.to_xml()) == meta


def test_empty_values_stay_empty() -> None:
    xml = "<ismrmrdMeta><meta><name>a</name><value/><value>x</value><value></value></meta></ismrmrdMeta>"
    meta = Meta.parse(xml)
    assert meta["a"] == ["", "x", ""]
    assert b"None" not in meta.to_xml()
    assert Meta.parse(meta.to_xml()) == meta


def test_name_without_value_has_an_empty_one() -> None:
    assert Meta.parse("<ismrmrdMeta><meta><name>a</name></meta></ismrmrdMeta>")["a"] == [""]


def test_values_of_a_repeated_name_are_put_together() -> None:
    entry = "<meta><name>a</name><value>{}</value></meta>"
    meta = Meta.parse(f"<ismrmrdMeta>{entry.format(1)}{entry.format(2)}</ismrmrdMeta>")
    assert meta["a"] == ["1", "2"]


@pytest.mark.parametrize("text", [b"", "", b"\0", b"\0\0", b" \n\0"])
def test_no_text_is_no_attributes(text: bytes | str) -> None:
    assert Meta.parse(text) == Meta()
    assert Meta().to_xml() == b""
    assert ismrmrd.Meta.deserialize(Meta().to_xml()) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"<ismrmrdMeta><meta><name>where</name></ismrmrdMeta>", r"mismatched tag.*near .*ismrmrdMeta"),
        (b"not XML at all", "syntax error.*near 'not XML|near b'not XML"),
        (b"<ismrmrdMeta>\xff</ismrmrdMeta>", "invalid token"),
        (b"<ismrmrdHeader/>", "outermost element is <ismrmrdHeader>, expected <ismrmrdMeta>"),
        (b"<ismrmrdMeta><meta><value>v</value></meta></ismrmrdMeta>", "no <name>"),
        (b"<ismrmrdMeta><meta><name/><value>v</value></meta></ismrmrdMeta>", "no <name>"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><ismrmrdMeta/>', "document type"),
    ],
)
def test_malformed_text(text: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Meta.parse(text)


def test_values_are_kept_as_text() -> None:
    meta = Meta({"float": 0.1, "flag": True, "numbers": np.array([1.5, 2.5], np.float32), "int": np.int64(3)})
    assert dict(meta) == {"float": ["0.1"], "flag": ["true"], "numbers": ["1.5", "2.5"], "int": ["3"]}
    meta.append("float", 2, "x")
    meta.append("new", 1)
    assert (meta["float"], meta["new"]) == (["0.1", "2", "x"], ["1"])
    assert (meta.first("float"), meta.first("absent"), meta.first("absent", "?")) == ("0.1", "", "?")


def test_what_is_no_value_is_refused() -> None:
    meta = Meta()
    for wrong in (None, b"bytes", object(), ["fine", None]):
        with pytest.raises(TypeError, match="text or a number"):
            meta["name"] = wrong  # type: ignore[assignment]
    with pytest.raises(ValueError, match="needs a value"):
        meta["name"] = []
    with pytest.raises(ValueError, match="needs a name"):
        meta[""] = "value"
    assert meta == Meta()


def test_control_characters_do_not_spoil_the_document() -> None:
    meta = Meta({"name": "a\x00b\x1bc"})
    assert Meta.parse(meta.to_xml())["name"] == ["a\ufffdb\ufffdc"]


def test_copy_shares_nothing() -> None:
    meta = Meta({"a": "1"})
    copy = meta.copy()
    copy.append("a", "2")
    assert meta["a"] == ["1"]
    assert meta != copy
