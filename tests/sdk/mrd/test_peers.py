"""Gadgetron is told from MRD hosts by what it says first, and each is told of failures in its own way."""

from __future__ import annotations

import pytest

from scanside.mrd.messages import Close, ConfigFile, ConfigText, ErrorText, HeaderXml, Text
from scanside.mrd.peers import Peer, error_message, peer_by_first_bytes, peer_of, reported_error
from scanside.mrd.reader import decode
from scanside.mrd.writer import encode

pytestmark = pytest.mark.torch_free

NODE = b'<?xml version="1.0"?>\n<configuration>\n\t<pipeline>grappa</pipeline>\n</configuration>\n'
CHAIN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<configuration><version>2</version><readers><reader/></readers>'
    b"<stream><external><configuration/></external></stream></configuration>"
)


@pytest.mark.parametrize(
    ("config", "peer"),
    [
        (ConfigText(NODE), "gadgetron"),
        (ConfigText(NODE + b"\0"), "gadgetron"),
        (ConfigText(b"<configuration/>"), "gadgetron"),
        (ConfigText(b'<?xml version="1.0"?>\n<gt:configuration xmlns:gt="a"/>'), "gadgetron"),
        (ConfigText(b'<?xml version="1.0"?>\n'), "gadgetron"),
        (ConfigFile("default.xml"), "mrd"),
        (ConfigFile("<configuration/>"), "mrd"),
        (ConfigText(b""), "mrd"),
        (ConfigText(b'{"version": 1}'), "mrd"),
        (ConfigText(b"<configurations/>"), "mrd"),
        (ConfigText(b"<configuration><pipeline>"), "mrd"),
        # A whole chain comes from a host's file; nodes get their own element only.
        (ConfigText(CHAIN), "mrd"),
        (ConfigText(b'<?xml version="1.0"?><gadgetronStreamConfiguration/>'), "mrd"),
    ],
)
def test_who_opens_a_session(config: ConfigFile | ConfigText, peer: Peer) -> None:
    assert peer_of(config) == peer
    wire = encode(config, HeaderXml(b"<ismrmrdHeader/>"))
    assert peer_by_first_bytes(wire) == peer
    # Before all of the configuration has come, nothing wrong is said.
    told = {peer_by_first_bytes(wire[:n]) for n in range(len(encode(config)))}
    assert told <= {None, peer}


def test_what_is_no_configuration_is_no_gadgetron() -> None:
    assert peer_by_first_bytes(b"") is None
    assert peer_by_first_bytes(b"\x02") is None
    assert peer_by_first_bytes(b"\xff") == "mrd"
    assert peer_by_first_bytes(encode(Close())) == "mrd"
    assert peer_by_first_bytes(encode(HeaderXml(b"<ismrmrdHeader/>"))) == "mrd"


def test_a_long_configuration_need_not_come_whole() -> None:
    long = ConfigText(NODE.replace(b"grappa", b"g" * 200_000))
    assert peer_by_first_bytes(encode(long)[:1000]) is None
    assert peer_by_first_bytes(encode(long)[:100_000]) == "gadgetron"


@pytest.mark.parametrize("text", ["stage 'grappa': no lines", "  of several\nlines", ""])
@pytest.mark.parametrize(("peer", "kind"), [("gadgetron", ErrorText), ("mrd", Text)])
def test_an_error_is_told_and_understood(text: str, peer: Peer, kind: type) -> None:
    message = error_message(f"Scanside: {text}", peer)
    assert isinstance(message, kind)
    (came,) = decode(encode(message))
    assert reported_error(came) == f"Scanside: {text}"


@pytest.mark.parametrize(
    "message", [Text("WARNING the patient moved"), Text("ERRORS: none"), Text("no ERROR here"), Close()]
)
def test_other_messages_are_no_errors(message: Text | Close) -> None:
    assert reported_error(message) is None
