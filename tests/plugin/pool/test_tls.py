"""Encrypted connections, against Python's own client."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.errors import ConfigError, PeerGone, PeerSilent, StreamError
from scanside.mrd.messages import Close
from scanside.mrd.peers import reported_error
from scanside.mrd.reader import decode
from scanside.mrd.streams import SocketStream
from scanside.mrd.writer import encode
from scanside.testing.small import small_readouts
from scanside_gadgetron.pool.tls import TlsStream, tls_context
from scanside_gadgetron.settings import TlsConfig

OpenHouse = Callable[..., AbstractContextManager[Any]]


@dataclass
class Papers:
    """A certificate that is its own authority, with its key."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scanside test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("papers")
    made = Papers(folder / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def client(papers: Papers, *, with_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(papers.certificate))
    if with_certificate:
        context.load_cert_chain(papers.certificate, papers.key)
    return context


def connect(one: Any, context: ssl.SSLContext) -> ssl.SSLSocket:
    # An end that the other side has not announced is an error.
    return context.wrap_socket(one.connect(), server_hostname="127.0.0.1", suppress_ragged_eofs=False)


def converse(one: Any, context: ssl.SSLContext, pipeline: str = "same") -> list[Any]:
    with connect(one, context) as sock:
        sock.sendall(one.opening(pipeline) + encode(*small_readouts(), Close()))
        came = b""
        while piece := sock.recv(1 << 16):
            came += piece
    return decode(came)


def test_session(house: OpenHouse, papers: Papers) -> None:
    with house(tls=TlsConfig(certificate=papers.certificate, key=papers.key)) as one:
        *readouts, close = converse(one, client(papers))
        assert isinstance(close, Close)
        assert sum(len(block) for block in readouts) == 24
        # Whoever does not encrypt gets nowhere and costs nobody anything.
        with one.connect() as plain:
            plain.sendall(one.opening())
            plain.settimeout(10)
            assert b"act" not in plain.recv(100)
        assert isinstance(converse(one, client(papers))[-1], Close)
        # A worker that dies takes the keys along: the end is no good one.
        with pytest.raises((ConnectionError, ssl.SSLError)):
            converse(one, client(papers), "die")
    # While all are busy, the server itself says so, encrypted.
    with house(tls=TlsConfig(certificate=papers.certificate, key=papers.key), queue=0) as one:
        busy = connect(one, client(papers))
        busy.sendall(one.opening("gate") + encode(small_readouts()[0]))
        one.arrived()
        error, _ = converse(one, client(papers))
        assert "all workers are busy" in (reported_error(error) or "")
        busy.close()


def test_hosts_that_have_to_show_a_certificate(house: OpenHouse, papers: Papers) -> None:
    config = TlsConfig(certificate=papers.certificate, key=papers.key, client_ca=papers.certificate)
    with house(tls=config) as one:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            converse(one, client(papers))
        assert one.wait_for_event("session-ended").outcome == "lost"
        assert isinstance(converse(one, client(papers, with_certificate=True))[-1], Close)


def pair(papers: Papers, timeout: float = 20) -> tuple[TlsStream, ssl.SSLSocket]:
    ours, theirs = socket.socketpair()
    made: list[TlsStream] = []
    context = tls_context(TlsConfig(certificate=papers.certificate, key=papers.key))
    thread = threading.Thread(target=lambda: made.append(TlsStream(SocketStream(ours, timeout), context)))
    thread.start()
    theirs.settimeout(20)
    peer = client(papers).wrap_socket(theirs, server_hostname="127.0.0.1")
    thread.join(300)
    return made[0], peer


def receive(stream: TlsStream, n: int) -> bytes:
    buffer = bytearray(n)
    filled = 0
    while filled < n and (got := stream.receive_into(memoryview(buffer)[filled:])):
        filled += got
    return bytes(buffer[:filled])


def test_much_in_both_directions_at_once(papers: Papers) -> None:
    stream, peer = pair(papers)
    data = np.random.default_rng(0).bytes(5 << 20)
    came = bytearray()

    def talk() -> None:
        for start in range(0, len(data), 1 << 16):
            peer.sendall(data[start : start + (1 << 16)])
            came.extend(peer.recv(1 << 20))
        while len(came) < len(data):
            came.extend(peer.recv(1 << 20))

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    sender = threading.Thread(target=stream.send, args=(data[:100], b"", memoryview(data)[100:]), daemon=True)
    sender.start()
    assert receive(stream, len(data)) == data
    sender.join(300)
    thread.join(300)
    assert bytes(came) == data
    stream.close()
    peer.close()


def test_ends_are_told_apart(papers: Papers) -> None:
    stream, peer = pair(papers)
    stream.end_writing()
    assert peer.recv(10) == b""
    peer.unwrap().close()
    assert stream.receive_into(memoryview(bytearray(10))) == 0
    stream.close()
    # Cut off, as by somebody in between: no good end.
    stream, peer = pair(papers)
    socket.socket(fileno=peer.detach()).close()
    with pytest.raises(PeerGone):
        stream.receive_into(memoryview(bytearray(10)))
    stream.close()
    stream, peer = pair(papers, timeout=0.1)
    with pytest.raises(PeerSilent):
        stream.receive_into(memoryview(bytearray(10)))
    stream.close()
    peer.close()


def test_peer_that_does_not_encrypt(papers: Papers) -> None:
    context = tls_context(TlsConfig(certificate=papers.certificate, key=papers.key))
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\x01\x00default.xml" + bytes(1015))
    with pytest.raises(StreamError, match="TLS connections only"):
        TlsStream(SocketStream(ours, 5), context)
    theirs.close()
    ours.close()


def test_papers_that_cannot_be_used(papers: Papers, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for config in (
        TlsConfig(certificate=wrong, key=papers.key),
        TlsConfig(certificate=papers.certificate),
        TlsConfig(certificate=papers.certificate, key=papers.key, client_ca=wrong),
    ):
        with pytest.raises(ConfigError, match="cannot be used"):
            tls_context(config)
