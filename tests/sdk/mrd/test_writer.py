"""What is sent, to whom, and that messages of several threads do not mix."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from scanside.errors import MessageError, PeerSilent, StreamError
from scanside.mrd.messages import (
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    HeaderXml,
    Message,
    Readouts,
    ReconBit,
    ReconData,
    Text,
)
from scanside.mrd.reader import decode
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import MessageWriter, encode

pytestmark = pytest.mark.torch_free


def test_messages_are_sent_in_order(examples: list[Message]) -> None:
    stream = MemoryStream()
    writer = MessageWriter(stream)
    writer.write(*examples[:5])
    for message in examples[5:]:
        writer.write(message)
    assert stream.sent == encode(*examples)


@pytest.mark.parametrize("message", [Text("hello"), ConfigFile("x"), ConfigText(b""), HeaderXml(b"")])
def test_gadgetron_is_not_sent_what_it_would_not_survive(message: Message) -> None:
    stream = MemoryStream()
    with pytest.raises(MessageError, match=f"when a node sends {type(message).__name__}"):
        MessageWriter(stream, "gadgetron").write(message)
    assert not stream.sent
    MessageWriter(stream).write(message)
    assert stream.sent == encode(message)


def test_gadgetron_is_not_sent_int16_images(make: Any) -> None:
    stream = MemoryStream()
    with pytest.raises(MessageError, match="no images of int16"):
        MessageWriter(stream, "gadgetron").write(make.image("<i2"))
    assert not stream.sent


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i4", "<f4", "<f8", "<c8", "<c16"])
def test_gadgetron_takes_every_other_type_of_image(make: Any, dtype: str) -> None:
    stream = MemoryStream()
    MessageWriter(stream, "gadgetron").write(make.image(dtype))
    assert stream.sent


def test_gadgetron_takes_all_kinds_of_data(make: Any) -> None:
    stream = MemoryStream()
    messages = [
        make.readouts(),
        make.waveform(),
        make.image_array(),
        ReconData([ReconBit(make.recon_buffer())]),
        make.bucket(),
        ErrorText("x"),
        Close(),
    ]
    MessageWriter(stream, "gadgetron").write(*messages)
    assert stream.sent == encode(*messages)


def test_nothing_is_sent_of_a_message_that_does_not_fit_together(make: Any) -> None:
    stream = MemoryStream()
    writer = MessageWriter(stream)
    bucket = make.bucket()
    bucket.waveforms[-1].header["channels"] = 9
    with pytest.raises(MessageError):
        writer.write(bucket)
    assert not stream.sent
    writer.write(Close())
    assert stream.sent == encode(Close())


def test_messages_of_several_threads_stay_whole(make: Any) -> None:
    class Slow(MemoryStream):
        def send(self, *buffers: Any, deadline: float | None = None) -> None:
            for buffer in buffers:
                super().send(buffer)
                time.sleep(0)

    stream = Slow()
    writer = MessageWriter(stream)
    blocks = [make.readouts(700, 4, 60 + k) for k in range(3)]

    def send(block: Readouts) -> None:
        for _ in range(2):
            writer.write(block)

    threads = [threading.Thread(target=send, args=(block,)) for block in blocks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    received = [block for block in decode(bytes(stream.sent)) if isinstance(block, Readouts)]
    n_samples = np.concatenate([block.headers["number_of_samples"] for block in received]).reshape(6, 700)
    assert (n_samples == n_samples[:, :1]).all()
    assert sorted(n_samples[:, 0]) == [60, 60, 61, 61, 62, 62]


class Stuck(MemoryStream):
    """Takes the first part of a message and then nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.leave = threading.Event()

    def send(self, *buffers: Any, deadline: float | None = None) -> None:
        self.entered.set()
        self.leave.wait(300)
        raise PeerSilent("the peer took no data for 0.1 s")


def test_nothing_follows_a_message_that_was_cut_short() -> None:
    stream = Stuck()
    stream.leave.set()
    writer = MessageWriter(stream)
    with pytest.raises(PeerSilent, match="took no data"):
        writer.write(Text("x"))
    with pytest.raises(StreamError, match="an earlier message was cut short"):
        writer.write(Text("x"))


def test_a_deadline_holds_behind_another_thread() -> None:
    stream = Stuck()
    writer = MessageWriter(stream)

    def send() -> None:
        with pytest.raises(PeerSilent):
            writer.write(Text("x"))

    thread = threading.Thread(target=send)
    thread.start()
    stream.entered.wait(300)
    with pytest.raises(PeerSilent, match="another thread"):
        writer.write(Text("y"), deadline=time.monotonic() + 0.05)
    stream.leave.set()
    thread.join()
