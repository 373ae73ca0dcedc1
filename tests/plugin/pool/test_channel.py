"""What server, workers and nodes say to each other."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from scanside.errors import MessageError, PeerGone, PeerSilent
from scanside_gadgetron.pool.channel import Beat, Channel, HandOver, Refused, Reported, Run, peer_user
from scanside_gadgetron.pool.events import Warned

pytestmark = pytest.mark.torch_free


def n_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def fill(channel: Channel) -> None:
    for _ in range(100_000):
        channel.send(Beat(memory=1), wait=False)


def test_messages_keep_their_edges_and_descriptors() -> None:
    ours, theirs = Channel.pair()
    reading, writing = os.pipe()
    said = [
        Beat(memory=1, stage="grappa", stage_seconds=2.5),
        Run(session="s1", peer="x"),
        Reported(event=Warned(time=0, session="s1", text="ü" * 50_000)),
        Refused(why="full"),
    ]

    def speak() -> None:
        for message in said:
            ours.send(message, *([writing] if isinstance(message, Run) else []))
        ours.close()

    threading.Thread(target=speak, daemon=True).start()
    heard = []
    while (received := theirs.receive()) is not None:
        message, descriptors = received
        heard.append(message)
        for descriptor in descriptors:
            assert not os.get_inheritable(descriptor)
            os.write(descriptor, b"passed on")
            os.close(descriptor)
    assert heard == said
    assert os.read(reading, 100) == b"passed on"
    for descriptor in (reading, writing):
        os.close(descriptor)
    theirs.close()


def test_silence_and_ends() -> None:
    ours, theirs = Channel.pair()
    with pytest.raises(PeerSilent):
        ours.receive(wait=False)
    with pytest.raises(PeerSilent):
        fill(ours)
    theirs.close()
    with pytest.raises(PeerGone):
        ours.send(Beat(memory=1))
    assert ours.receive() is None
    ours.close()


def test_what_is_no_message_leaves_no_descriptor_behind() -> None:
    ours, theirs = Channel.pair()
    before = n_descriptors()
    for said in (b"{}", b"\xff", b'{"kind":"run","session":1}'):
        socket.send_fds(ours.socket, [said], [0])
        with pytest.raises(MessageError, match="no message"):
            theirs.receive()
    with pytest.raises(MessageError, match="too large"):
        ours.send(Refused(why="x" * 200_000))
    ours.send(HandOver(pid=1))
    assert theirs.receive() == (HandOver(pid=1), [])
    assert n_descriptors() == before
    ours.close()
    theirs.close()


def test_user_at_the_other_end() -> None:
    ours, theirs = Channel.pair()
    assert peer_user(ours.socket) == os.getuid()
    ours.close()
    theirs.close()
