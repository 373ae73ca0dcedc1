"""Every transport gives the same images and reports the same failures."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from scanside.context import Context
from scanside.errors import PeerGone, ScansideError
from scanside.execution import execute
from scanside.items import Item, Readouts
from scanside.mrd.messages import ConfigFile, ConfigText
from scanside.mrd.streams import SocketStream
from scanside.pipeline import Pipeline
from scanside.replay import configuration
from scanside.scan import Scan
from scanside.serving import PipelinePool, serve_stream
from scanside.testing.transports import Received, TransportTests, play_host
from scanside_gadgetron.node import run_node

pytestmark = pytest.mark.torch_free


class Direct(TransportTests):
    threads = False

    def run(
        self, items: Iterable[Item], header_xml: bytes, pipeline: Pipeline, *, whole: bool = True
    ) -> Received:
        received = Received()

        def source() -> Iterator[Item]:
            yield from items
            if not whole:
                raise PeerGone("the sender left")

        def take(item: Item) -> None:
            received.items.append(item.copy() if isinstance(item, Readouts) else item)

        pipeline.prepare(Context("cpu"))
        with pipeline.open(Scan.from_xml(header_xml)) as run:
            try:
                execute(run, source(), take, threads=self.threads)
            except ScansideError as error:
                received.error = str(error)
        return received


class TestInline(Direct):
    pass


class TestThreads(Direct):
    threads = True


class TestNode(TransportTests):
    """gadgetron-python reads configuration and header and hands over, as in a process that Gadgetron starts."""

    def run(
        self, items: Iterable[Item], header_xml: bytes, pipeline: Pipeline, *, whole: bool = True
    ) -> Received:
        gadgetron = pytest.importorskip("gadgetron.external.connection")
        ours, theirs = socket.socketpair()
        pool = PipelinePool(Context("cpu"), load=lambda name, settings: pipeline)

        def node() -> None:
            with gadgetron.Connection(theirs) as connection:
                run_node(connection, pool, drain_seconds=20)

        thread = threading.Thread(target=node, daemon=True)
        thread.start()
        stream = SocketStream(ours, timeout=300)
        received = play_host(stream, ConfigText(configuration("test")), header_xml, items, whole=whole)
        stream.close()
        thread.join(300)
        assert not thread.is_alive()
        return received


class TestServer(TransportTests):
    """An MRD host and a server, over TCP."""

    echoes = False

    def run(
        self, items: Iterable[Item], header_xml: bytes, pipeline: Pipeline, *, whole: bool = True
    ) -> Received:
        return through_server(ConfigFile("test.xml"), items, header_xml, pipeline, whole)


class TestConnect(TransportTests):
    """Gadgetron's <connect> to the same server: what passes by goes back into the chain."""

    def run(
        self, items: Iterable[Item], header_xml: bytes, pipeline: Pipeline, *, whole: bool = True
    ) -> Received:
        opening = ConfigText(b'<?xml version="1.0"?>\n')
        return through_server(opening, items, header_xml, pipeline, whole)


def through_server(opening: Any, items: Any, header_xml: bytes, pipeline: Pipeline, whole: bool) -> Received:
    """What a worker of a server does with a connection, here with a pipeline of this process."""
    pool = PipelinePool(Context("cpu"), load=lambda name, settings: pipeline)

    def worker() -> None:
        accepted = SocketStream(listener.accept()[0], timeout=300)
        serve_stream(accepted, pool, drain_seconds=20)
        accepted.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=worker, daemon=True)
        thread.start()
        stream = SocketStream(socket.create_connection(listener.getsockname()), timeout=300)
        received = play_host(stream, opening, header_xml, items, whole=whole)
        stream.close()
        thread.join(300)
    assert not thread.is_alive()
    return received
