"""A chain on trial: a recorded scan through it, as Gadgetron would send it to a server.

Only what Gadgetron does itself is played: it reads the readouts, connects to the server that the chain names, sends
the node's configuration, the header and the data, and writes the images that come. Chains with gadgets of Gadgetron's
own need Gadgetron.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

from scanside.convert import items_of, message_of
from scanside.errors import ConfigError, FileFormatError, PeerGone, ScansideError, StreamError
from scanside.items import Image
from scanside.mrd.files import Recording, open_recording
from scanside.mrd.hdf5 import Hdf5Writer, unfinished
from scanside.mrd.messages import ConfigText, ImageMessage, Readouts
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import SocketStream
from scanside.mrd.xml import XmlError, parse_xml
from scanside.scan import Scan

__all__ = ["Node", "Trial", "try_chain"]

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 600.0


@dataclass(frozen=True)
class Node:
    """What a chain says of a node that is connected to.

    Attributes:
        address: of the server.
        port: of the server.
        configuration: what Gadgetron sends it: its ``<configuration>``, printed anew.
    """

    address: str
    port: int
    configuration: bytes

    @classmethod
    def of(cls, chain: Path) -> Node:
        """Read a chain.

        Raises:
            FileFormatError: it is no chain of version 2.
            ConfigError: it needs Gadgetron, or holds no node that is connected to.
        """
        try:
            root = parse_xml(chain.read_bytes())
        except XmlError as error:
            raise FileFormatError(f"{chain} is not well-formed XML: {error}") from error
        stream = root.find("stream")
        if root.tag != "configuration" or root.findtext("version") != "2" or stream is None:
            raise FileFormatError(
                f"{chain} is no chain that knows external nodes: it needs <configuration>, <version>2</version> and "
                "<stream>"
            )
        gadgets = [one.findtext("classname") or "?" for one in stream if one.tag != "external"]
        if gadgets:
            raise ConfigError(
                f"{chain} has gadgets of Gadgetron's own ({', '.join(gadgets)}): send it through Gadgetron, with "
                "gadgetron_ismrmrd_client -C"
            )
        nodes = stream.findall("external")
        connect = nodes[0].find("connect") if len(nodes) == 1 else None
        if connect is None:
            raise ConfigError(f"{chain} does not connect to one running server: it needs one <connect>")
        configuration = nodes[0].find("configuration")
        printed = b"" if configuration is None else ElementTree.tostring(configuration)
        return cls(
            connect.get("address", "localhost"),
            int(connect.get("port", "0")),
            b'<?xml version="1.0"?>\n' + printed + b"\n",
        )


@dataclass
class Trial:
    """What came of it.

    Attributes:
        n_readouts: that were sent.
        n_images: that came.
        first_image_s: from the connection to the first image; None where none came.
        seconds: from the connection to the end.
        warnings: what the images' attributes tell an operator.
    """

    n_readouts: int = 0
    n_images: int = 0
    first_image_s: float | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def try_chain(
    chain: Path,
    recording: Path,
    output: Path,
    *,
    group: str | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Trial:
    """Send a recorded scan to the server that a chain names, and keep its images.

    Args:
        chain: with nothing but a node that is connected to.
        recording: ISMRMRD HDF5 file or stream.
        output: ISMRMRD HDF5 file for the images.
        group: of an HDF5 file to read; by default ``dataset`` or the only one.
        on_progress: is told how many readouts were sent.

    Raises:
        FileFormatError: see `Node.of`.
        ConfigError: likewise.
        PeerGone: nothing listens there, or it went away.
        PeerReported: the server reported an error; its text is what an operator would see.
    """
    node, trial = Node.of(chain), Trial()
    with (
        open_recording(recording, group) as source,
        _nothing_is_left(output, trial),
        Hdf5Writer(output, source.header_xml) as writer,
    ):
        scan = Scan.from_xml(source.header_xml)
        with _connected(node) as stream:
            begun = perf_counter()
            session = ClientSession(stream)
            session.open(ConfigText(node.configuration), source.header_xml)
            with _sending(session, source, trial, on_progress):
                for message in session:
                    if not isinstance(message, ImageMessage):
                        continue
                    if trial.first_image_s is None:
                        trial.first_image_s = perf_counter() - begun
                    trial.n_images += 1
                    for image in items_of(message, scan):
                        assert isinstance(image, Image)
                        told = (*trial.warnings, *image.meta.get("ScansideWarning", []))
                        trial.warnings = tuple(dict.fromkeys(told))
                        kept = message_of(image)
                        assert isinstance(kept, ImageMessage)
                        writer.write(kept)
            trial.seconds = perf_counter() - begun
    return trial


@contextmanager
def _nothing_is_left(output: Path, trial: Trial) -> Iterator[None]:
    """After a failure before the first image, remove the file that would have held them."""
    try:
        yield
    except BaseException:
        if not trial.n_images:
            unfinished(output).unlink(missing_ok=True)
        raise


@contextmanager
def _connected(node: Node) -> Iterator[SocketStream]:
    try:
        sock = socket.create_connection((node.address, node.port), _CONNECT_SECONDS)
    except OSError as error:
        raise PeerGone(
            f"no server answers at {node.address}, port {node.port} ({error}): start it with scanside serve"
        ) from error
    sock.settimeout(None)
    stream = SocketStream(sock, _ANSWER_SECONDS, _ANSWER_SECONDS)
    try:
        yield stream
    finally:
        stream.close()


@contextmanager
def _sending(
    session: ClientSession,
    source: Recording,
    trial: Trial,
    on_progress: Callable[[int, int | None], None] | None,
) -> Iterator[None]:
    """Send the scan in a thread of its own while images are taken."""
    failed: list[ScansideError] = []

    def send() -> None:
        try:
            for item in source.items():
                session.send(item)
                if isinstance(item, Readouts):
                    trial.n_readouts += len(item)
                    if on_progress is not None:
                        on_progress(trial.n_readouts, source.n_readouts)
            session.finish()
        except StreamError:
            pass  # the server has ended the session: what it said says why
        except ScansideError as error:
            failed.append(error)
            session.shutdown()

    thread = threading.Thread(target=send, name="scanside-trial", daemon=True)
    thread.start()
    try:
        yield
    except StreamError:
        if failed:
            raise failed[0] from None
        raise
    finally:
        with suppress(StreamError):
            session.shutdown()
        thread.join()
