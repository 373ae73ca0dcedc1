"""What a host hears whose worker is gone, and what it must not take for a good end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from scanside.mrd.peers import reported_error
from scanside.mrd.reader import decode
from scanside_gadgetron.pool import farewell

pytestmark = pytest.mark.torch_free


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The pool's and the host's end of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = socket.create_connection(listener.getsockname(), 100)
        ours, _ = listener.accept()
    with ours, host:
        yield ours, host


def rest(sock: socket.socket) -> bytes:
    came = bytearray()
    while piece := sock.recv(1 << 20):
        came += piece
    return bytes(came)


def test_host_that_listens_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, host = ends

    async def both() -> tuple[bool, bytes]:
        telling = asyncio.create_task(farewell.told(ours, "all is lost", b"", "mrd", drain_seconds=0.1))
        heard = await asyncio.to_thread(rest, host)
        host.close()
        return await telling, heard

    reported, heard = asyncio.run(both())
    assert reported
    assert reported_error(decode(heard)[0]) == "all is lost"


def test_host_that_takes_nothing_was_not_told_and_is_reset(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "_LINGER_SECONDS", 0.2)
    ours, host = ends
    ours.setblocking(False)
    for _ in range(20):  # until nothing more fits in between: the kernel makes room for a while
        with suppress(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
        time.sleep(0.05)
    reported = asyncio.run(farewell.told(ours, "all is lost", b"", "mrd", drain_seconds=0.1))
    assert not reported
    with pytest.raises(ConnectionResetError):
        rest(host)
