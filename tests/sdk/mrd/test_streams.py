"""Sockets, pipes and memory behave alike, and every end is told apart."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import PeerGone, PeerSilent, StreamError
from scanside.mrd.streams import FileStream, MemoryStream, SocketStream

pytestmark = pytest.mark.torch_free


def receive_all(stream: Any, size: int = 1000) -> bytes:
    received = bytearray()
    buffer = memoryview(bytearray(size))
    while n := stream.receive_into(buffer):
        received += buffer[:n]
    return bytes(received)


@pytest.fixture(params=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    if request.param == "unix":
        left, right = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            left = socket.create_connection(server.getsockname())
            right, _ = server.accept()
    with left, right:
        yield left, right


def test_what_one_socket_sends_the_other_receives(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = SocketStream(pair[0]), SocketStream(pair[1])
    left.send(b"ab", b"", bytearray(b"c"), memoryview(b"de"))
    left.end_writing()
    right.send(b"answer")
    right.end_writing()
    assert receive_all(right) == b"abcde"
    assert receive_all(left) == b"answer"


def test_many_and_large_buffers_are_sent_whole_while_the_peer_reads_slowly(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = SocketStream(pair[0]), SocketStream(pair[1])
    buffers = [bytes([k % 251]) * (k % 7) for k in range(3000)] + [os.urandom(3 << 20), b"end"]

    def send() -> None:
        left.send(*buffers)
        left.end_writing()

    thread = threading.Thread(target=send)
    thread.start()
    received = receive_all(right, 40_000)
    thread.join()
    assert received == b"".join(buffers)


def test_arrays_of_wide_items_are_sent_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = SocketStream(pair[0]), SocketStream(pair[1])
    numbers = memoryview(struct.pack("<4I", 1, 2, 3, 4)).cast("I")
    left.send(numbers[:2], numbers[2:])
    left.end_writing()
    assert receive_all(right) == numbers.tobytes()


def test_a_reset_is_no_proper_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left.close()
    with right:
        stream = SocketStream(right)
        with pytest.raises(PeerGone, match="broke while receiving"):
            stream.receive_into(memoryview(bytearray(10)))


def test_sending_to_a_peer_that_has_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = SocketStream(pair[0])
    pair[1].close()
    with pytest.raises(PeerGone, match="broke while sending"):
        send_for_ever(stream)
    # Both are silent, whoever was faster.
    stream.end_writing()
    stream.shutdown()


def send_for_ever(stream: SocketStream) -> None:
    while True:
        stream.send(bytes(1 << 20))


def test_a_silent_peer_is_given_up_after_the_timeout(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = SocketStream(pair[0], timeout=0.15)
    started = time.monotonic()
    with pytest.raises(PeerSilent, match=r"nothing came for 0\.\d s"):
        stream.receive_into(memoryview(bytearray(10)))
    with pytest.raises(PeerSilent, match=r"took no data for 0\.\d s"):
        send_for_ever(stream)
    assert 0.3 <= time.monotonic() - started < 60


def test_sending_has_a_time_limit_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = SocketStream(pair[0], timeout=300, send_timeout=0.1)
    started = time.monotonic()
    with pytest.raises(PeerSilent, match="took no data"):
        send_for_ever(stream)
    assert time.monotonic() - started < 60


def test_a_deadline_holds_without_a_timeout_and_before_a_longer_one(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    for timeout in (None, 600.0):
        stream = SocketStream(pair[0], timeout)
        started = time.monotonic()
        with pytest.raises(PeerSilent):
            stream.receive_into(memoryview(bytearray(10)), started + 0.1)
        assert 0.1 <= time.monotonic() - started < 60


def test_a_deadline_that_has_passed_still_takes_what_is_there(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[1].sendall(b"abc")
    time.sleep(0.05)
    stream = SocketStream(pair[0])
    assert stream.receive_into(memoryview(bytearray(10)), time.monotonic() - 1) == 3


def test_a_slow_peer_is_not_a_silent_one(pair: tuple[socket.socket, socket.socket]) -> None:
    """Every byte starts the time-out anew, in both directions."""
    stream = SocketStream(pair[0], timeout=0.5)

    def trickle() -> None:
        for _ in range(8):
            time.sleep(0.1)
            pair[1].sendall(b"x")
        pair[1].shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=trickle)
    thread.start()
    assert receive_all(stream) == b"x" * 8
    thread.join()


@pytest.mark.parametrize("action", ["receive", "send"])
def test_shutdown_frees_a_thread_that_waits(pair: tuple[socket.socket, socket.socket], action: str) -> None:
    stream = SocketStream(pair[0])
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            if action == "receive":
                stream.receive_into(memoryview(bytearray(10)))
            else:
                send_for_ever(stream)
        except StreamError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    assert thread.is_alive()
    stream.shutdown()
    thread.join(300)
    assert not thread.is_alive()
    assert len(raised) == 1


def test_a_peer_that_takes_nothing_learns_of_a_reset() -> None:
    """An end in order would wait behind what it does not take."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), 100)
        stream = SocketStream(listener.accept()[0], send_timeout=0.2)
    with peer:
        with pytest.raises(PeerSilent):
            send_for_ever(stream)
        stream.reset()
        with pytest.raises(StreamError):
            stream.receive_into(memoryview(bytearray(10)))
        stream.close()
        with pytest.raises(PeerGone):
            receive_all(SocketStream(peer, 100))


def test_a_closed_stream_is_an_error_not_a_crash(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = SocketStream(pair[0])
    stream.close()
    with pytest.raises(StreamError):
        stream.receive_into(memoryview(bytearray(10)))


def test_files_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    stream = FileStream(None, path.open("wb"))
    stream.send(b"abc", memoryview(b"def"))
    assert stream.receive_into(memoryview(bytearray(3))) == 0
    stream.close()
    for buffering in (-1, 0):
        stream = FileStream(path.open("rb", buffering=buffering))
        assert receive_all(stream, 4) == b"abcdef"
        with pytest.raises(StreamError, match="no file to write to"):
            stream.send(b"x")
        stream.close()


@pytest.mark.parametrize("buffering", [-1, 0])
def test_pipes_give_what_has_arrived(buffering: int) -> None:
    read, write = os.pipe()
    sender = FileStream(None, os.fdopen(write, "wb", buffering))
    receiver = FileStream(os.fdopen(read, "rb", buffering))
    sender.send(b"abc")
    buffer = memoryview(bytearray(100))
    assert receiver.receive_into(buffer) == 3
    sender.shutdown()
    assert receiver.receive_into(buffer) == 0
    receiver.close()


def test_what_was_looked_at_in_a_buffered_file_is_not_lost() -> None:
    reader = io.BufferedReader(io.BytesIO(b"abcdef"))  # type: ignore[arg-type]
    reader.peek(4)
    assert receive_all(FileStream(reader)) == b"abcdef"


def test_a_pipe_whose_reader_has_gone() -> None:
    read, write = os.pipe()
    stream = FileStream(None, os.fdopen(write, "wb"))
    os.close(read)
    with pytest.raises(PeerGone, match="pipe broke"):
        stream.send(b"abc")
    stream.close()


def test_a_deadline_holds_for_an_unbuffered_pipe() -> None:
    read, write = os.pipe()
    stream = FileStream(os.fdopen(read, "rb", 0))
    with pytest.raises(PeerSilent):
        stream.receive_into(memoryview(bytearray(10)), time.monotonic() + 0.05)
    os.close(write)
    stream.close()


def test_a_pipe_in_non_blocking_mode_is_refused() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    stream = FileStream(os.fdopen(read, "rb", 0))
    with pytest.raises(StreamError, match="blocking"):
        stream.receive_into(memoryview(bytearray(10)))
    os.close(write)
    stream.close()


@pytest.mark.parametrize(
    ("chunks", "sizes"),
    [(None, [4, 4, 2]), (3, [3, 3, 3, 1]), ([1, 2], [1, 2, 4, 3]), ([0, 9], [1, 4, 4, 1])],
)
def test_memory_arrives_in_the_pieces_asked_for(chunks: Any, sizes: list[int]) -> None:
    stream = MemoryStream(b"0123456789", chunks)
    buffer = memoryview(bytearray(4))
    assert list(iter(lambda: stream.receive_into(buffer), 0)) == sizes


def test_memory_records_what_is_sent() -> None:
    stream = MemoryStream()
    stream.send(b"ab", memoryview(b"c"))
    assert (stream.sent, stream.writing) == (b"abc", True)
    stream.end_writing()
    assert not stream.writing
    with pytest.raises(StreamError, match="has ended"):
        stream.send(b"d")
