"""An MRD session: configuration, header, data both ways, and a proper end, as server or as client.

::

    NEW ── open() ──▶ OPEN ── peer's CLOSE ──▶ INPUT_CLOSED ─┐
                       │                                     ├─ finish() or fail() ──▶ CLOSED
                       └── finish() ──▶ OUTPUT_CLOSED ───────┘   peer's CLOSE

Sending and receiving are independent: one thread may send while another iterates. A peer that only sends, and
reads nothing until it has sent everything, is blocked as soon as both sides' buffers are full; so a client
should receive in a thread of its own, and a server's output should not wait for its input.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias
from xml.etree.ElementTree import Element

from scanside.errors import EndOfStream, MessageError, PeerGone, PeerReported, PeerSilent, StreamError
from scanside.mrd.drain import drain
from scanside.mrd.messages import (
    Bucket,
    Close,
    ConfigFile,
    ConfigText,
    Data,
    ErrorText,
    HeaderXml,
    ImageArray,
    ImageMessage,
    Message,
    Readouts,
    ReconData,
    Text,
    Waveform,
)
from scanside.mrd.peers import Peer, error_message, peer_of, reported_error
from scanside.mrd.reader import MessageReader
from scanside.mrd.streams import ByteStream
from scanside.mrd.writer import MessageWriter
from scanside.mrd.xml import XmlError, parse_xml, without_declaration
from scanside.texts import shortened

__all__ = ["LONGEST_REPORT", "ClientSession", "Opening", "ServerSession", "SessionState"]

_log = logging.getLogger(__name__)

_MOST_TEXTS = 10_000
LONGEST_REPORT = 4000
"""Characters of an error that goes from side to side."""

_DATA = (Readouts, Waveform, ImageMessage, ImageArray, ReconData, Bucket)


class SessionState(Enum):
    """How far a session has come; see the picture in this module's description."""

    NEW = "the session has not been opened"
    OPEN = "data may flow both ways"
    INPUT_CLOSED = "the peer has sent everything"
    OUTPUT_CLOSED = "this side has sent everything"
    CLOSED = "both sides have sent everything"


_Moves: TypeAlias = "dict[SessionState, SessionState]"

_OPENS: _Moves = {SessionState.NEW: SessionState.OPEN}
_INPUT_ENDS: _Moves = {
    SessionState.NEW: SessionState.INPUT_CLOSED,
    SessionState.OPEN: SessionState.INPUT_CLOSED,
    SessionState.OUTPUT_CLOSED: SessionState.CLOSED,
}
_OUTPUT_ENDS: _Moves = {
    SessionState.NEW: SessionState.OUTPUT_CLOSED,
    SessionState.OPEN: SessionState.OUTPUT_CLOSED,
    SessionState.INPUT_CLOSED: SessionState.CLOSED,
}
_READING = _INPUT_ENDS.keys()
_WRITING = (SessionState.OPEN, SessionState.INPUT_CLOSED)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client says before its data.

    Attributes:
        config: which configuration it wants, by name or in full.
        header_xml: the scan's MRD header.
        config_element: the configuration's ``<configuration>`` element; None where the configuration is a name
            or holds no such element, which is no error.
        peer: who it is.
    """

    config: ConfigFile | ConfigText
    header_xml: bytes
    config_element: Element | None
    peer: Peer


class _Session:
    """What server and client have in common.

    Attributes:
        reader: what the peer sends.
        texts: TEXT messages that the peer has sent so far.
        idle_seconds: how long the peer may take for a message that is no text, once the session is open; None for as
            long as the stream allows.
    """

    idle_seconds: float | None = None

    def __init__(self, stream: ByteStream, reader: MessageReader | None, peer: Peer) -> None:
        self._stream = stream
        self.reader = reader or MessageReader(stream)
        self._writer = MessageWriter(stream, peer)
        self._lock = threading.Lock()
        self._state = SessionState.NEW
        self._ahead: Data | None = None
        self.texts: list[str] = []
        self._n_text = 0

    @property
    def state(self) -> SessionState:
        """How far the session has come."""
        return self._state

    def _move(self, moves: _Moves) -> bool:
        """Make a step from the present state; False if it does not lead on from there."""
        with self._lock:
            if self._state not in moves:
                return False
            self._state = moves[self._state]
            return True

    def __iter__(self) -> Iterator[Data]:
        """What the peer sends, in order, until its CLOSE.

        Blocks of readouts lend the receive buffer; see `MessageReader` for how long they last.

        Raises:
            EndOfStream: the peer closed the connection without CLOSE.
            IncompleteRead: the peer closed it inside a message.
            PeerGone: the connection broke, or (PeerSilent) nothing came in time.
            PeerReported: the peer sent an ERROR, or, if it is a server, told of an error.
            MessageError: something that is no message, or that does not belong here.
        """
        while (data := self._next_data()) is not None:
            yield data

    def _next_data(self) -> Data | None:
        """The next message with data; None once the peer has sent everything."""
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            return data
        if self._state is SessionState.NEW:
            raise StreamError("the session has not been opened: call open() first")
        while self._state in _READING:
            message = self._receive()
            if isinstance(message, _DATA):
                return message
            if not isinstance(message, Close):
                raise MessageError(
                    f"{type(message).__name__} as message {self.reader.n_messages} of the stream: "
                    "only data, TEXT, ERROR and CLOSE may follow the header"
                )
        return None

    def _receive(self, deadline: float | None = None) -> Message:
        """The next message that is not a text; marks the input's end, raises what the peer reports."""
        if deadline is None and self.idle_seconds is not None and self._state is not SessionState.NEW:
            deadline = time.monotonic() + self.idle_seconds
        while True:
            try:
                message = self.reader.read(deadline)
            except PeerSilent as error:
                if self.idle_seconds is None or self._state is SessionState.NEW:
                    raise
                raise PeerSilent(
                    f"no whole message with data, and no CLOSE, came for {self.idle_seconds:g} s (idle_seconds), "
                    f"after {self.reader.n_messages} messages: the peer stopped or hangs"
                ) from error
            if isinstance(message, Text):
                self._text(message)
                continue
            if isinstance(message, ErrorText):
                raise PeerReported(shortened(message.text, LONGEST_REPORT))
            if isinstance(message, Close):
                self._move(_INPUT_ENDS)
            return message

    def _text(self, message: Text) -> None:
        """Take a text that the peer sent. Texts are kept, so a peer that sends nothing else must end some day."""
        self._n_text += len(message.text)
        most = self.reader.limits.max_text_bytes
        if self._n_text > most or len(self.texts) >= _MOST_TEXTS:
            raise MessageError(
                f"{len(self.texts) + 1} texts of {self._n_text} characters: a session has at most {_MOST_TEXTS} of "
                f"{most} in all"
            )
        self.texts.append(message.text)

    def texts_before_data(self) -> list[str]:
        """Wait for the first message with data, or the input's end, and return the texts that came before.

        Hosts may put parameters of the session into a TEXT between header and data. The data come with the
        next step of the iteration.

        Raises:
            StreamError: as the iteration does.
            MessageError: as the iteration does.
        """
        self._ahead = self._next_data()
        return list(self.texts)

    def send(self, *messages: Message) -> None:
        """Send messages; several threads may send, messages of one call stay together.

        Raises:
            StreamError: the session is not open for sending.
            MessageError: a message's parts do not agree, or the peer does not take it.
            PeerGone: the connection broke, or (PeerSilent) the peer took nothing in time.
        """
        if self._state not in _WRITING:
            raise StreamError(f"cannot send: {self._state.value}")
        self._writer.write(*messages)

    def finish(self) -> None:
        """Send CLOSE, once, and end writing; the input can still be read.

        Raises:
            PeerGone: the connection broke, or (PeerSilent) the peer took nothing in time.
        """
        if self._move(_OUTPUT_ENDS):
            try:
                self._writer.write(Close())
            finally:
                self._stream.end_writing()

    def check_peer(self) -> None:
        """See whether the peer is still there, without receiving; for work that takes long.

        A peer that has gone shows only once something was sent to it.

        Raises:
            PeerGone: the connection broke.
        """
        if self._stream.broken():
            raise PeerGone("the connection broke: the peer has gone")

    def shutdown(self) -> None:
        """End the connection in both directions at once, also under a thread that waits in it."""
        self._stream.shutdown()

    def abort(self) -> None:
        """As `shutdown`, for a peer that takes nothing: it learns that the connection broke once that is closed."""
        self._stream.reset()

    def close(self) -> None:
        """Release the connection. Input that has not been read may cost the peer what was sent last."""
        self._stream.close()


class ServerSession(_Session):
    """The side that reconstructs.

    Args:
        stream: the connection.
        reader: reads from ``stream``; None for one with default settings.
        peer: who is at the other end; None where its configuration is to tell.

    Attributes:
        opening: what the client said at first, once it has.
    """

    def __init__(
        self, stream: ByteStream, *, reader: MessageReader | None = None, peer: Peer | None = None
    ) -> None:
        # Whoever fails before it has said who it is counts as an MRD host: Gadgetron's first message tells.
        super().__init__(stream, reader, peer or "mrd")
        self._learn_peer = peer is None
        self.opening: Opening | None = None

    @property
    def peer(self) -> Peer:
        """Who is at the other end, as far as that is known."""
        return self._writer.peer

    @classmethod
    def resume(
        cls,
        stream: ByteStream,
        config_xml: bytes,
        header_xml: bytes,
        *,
        reader: MessageReader | None = None,
        peer: Peer = "gadgetron",
    ) -> ServerSession:
        """A session whose configuration and header somebody else has read, as gadgetron-python does.

        Args:
            stream: the connection; its next bytes are the first data.
            config_xml: what the CONFIG message held.
            header_xml: what the HEADER message held.
            reader: reads from ``stream``; None for one with default settings.
            peer: who is at the other end.
        """
        session = cls(stream, reader=reader, peer=peer)
        session._open(ConfigText(config_xml), header_xml)
        return session

    def open(self, deadline: float | None = None) -> Opening | None:
        """Wait for the client's configuration and header.

        Args:
            deadline: value of `time.monotonic` until which all of it has to be there; None for no limit but the
                stream's own.

        Returns:
            None if the client closed before a header: it only asked whether somebody is there.

        Raises:
            IncompleteRead: the client closed inside a message.
            PeerGone: the connection broke later than that, or (PeerSilent) nothing came in time.
            PeerReported: the client sent an ERROR.
            MessageError: something that is no message, or data before a header.
        """
        config: ConfigFile | ConfigText | None = None
        while True:
            try:
                message = self._receive(deadline)
            except EndOfStream:
                self._move(_INPUT_ENDS)
                return None
            except PeerSilent as error:
                raise PeerSilent(
                    f"configuration and header did not come in time (opening_seconds): {self.reader.position} bytes "
                    "of whole messages came; a session begins with configuration and header"
                ) from error
            except PeerGone as error:
                if self.reader.position:
                    raise
                _log.info("a client went away without a word: %s", error)
                return None
            if isinstance(message, Close):
                return None
            if isinstance(message, (ConfigFile, ConfigText)):
                if config is not None:
                    _log.warning("a second configuration came before the header; it replaces the first")
                config = message
                if self._learn_peer:
                    self._writer.peer = peer_of(config)
            elif isinstance(message, HeaderXml) and config is not None:
                return self._open(config, message.xml)
            else:
                expected = "a configuration" if config is None else "a header"
                raise MessageError(
                    f"{type(message).__name__} as message {self.reader.n_messages} of the stream: "
                    f"{expected} was expected; an MRD session begins with configuration, then header"
                )

    def _open(self, config: ConfigFile | ConfigText, header_xml: bytes) -> Opening:
        element = _configuration(config.xml) if isinstance(config, ConfigText) else None
        self.opening = Opening(config, header_xml, element, self.peer)
        self._move(_OPENS)
        return self.opening

    def fail(self, text: str, *, drain_seconds: float = 60.0, quiet_seconds: float = math.inf) -> bool:
        """Report a failure so that it reaches the operator, and end the session.

        First everything that still comes is dropped until the client's CLOSE (or its end, or the time limit),
        then the error (`error_message`) and CLOSE go out and the connection is shut down: an error that meets
        Gadgetron in the middle of sending can be lost. Call it from the thread that reads, or when that has stopped.
        It never raises.

        Args:
            text: what went wrong, where, and what to do.
            drain_seconds: how long to go on reading, and then how long to wait for room to write.
            quiet_seconds: how long next to nothing may come meanwhile: who waits for an answer gets it then.

        Returns:
            Whether the report was handed to the connection; False if the client is gone or the session had
            ended already.
        """
        reachable = True
        if self.state in _READING:
            self._ahead = None
            reachable = drain(self.reader, time.monotonic() + drain_seconds, quiet_seconds)
            self._move(_INPUT_ENDS)
        if not self._move(_OUTPUT_ENDS):
            _log.error("the session had ended already; the client does not learn of: %s", text)
            return False
        reported = reachable and self._report(text, time.monotonic() + drain_seconds)
        if reported:
            self._stream.shutdown()
        else:
            _log.error("the client is gone and does not learn of: %s", text)
            self._stream.reset()
        return reported

    def _report(self, text: str, deadline: float) -> bool:
        try:
            self._writer.write(error_message(text, self.peer), Close(), deadline=deadline)
        except Exception as error:  # noqa: BLE001 — nothing that comes of failing may hide what failed
            _log.info("the error could not be sent: %s", error)
            return False
        return True


class ClientSession(_Session):
    """The side that has the scan: a host, a replay, a test.

    Send in one thread and iterate in another: a server may answer while it still receives.

    Args:
        stream: the connection.
        reader: reads from ``stream``; None for one with default settings.
    """

    def __init__(self, stream: ByteStream, *, reader: MessageReader | None = None) -> None:
        super().__init__(stream, reader, "mrd")

    def open(self, config: ConfigFile | ConfigText, header_xml: bytes) -> None:
        """Send configuration and header.

        Raises:
            PeerGone: the connection broke, or (PeerSilent) the server took nothing in time.
        """
        self._writer.write(config, HeaderXml(header_xml))
        self._move(_OPENS)

    def _text(self, message: Text) -> None:
        if (error := reported_error(message)) is not None:
            raise PeerReported(shortened(error, LONGEST_REPORT))
        super()._text(message)


def _configuration(xml: bytes) -> Element | None:
    """The ``<configuration>`` element of a node's configuration, if there is one.

    Gadgetron sends a bare XML declaration where a chain has no such element.
    """
    xml = xml.strip(b"\0 \t\r\n")
    if not without_declaration(xml):
        return None
    try:
        element = parse_xml(xml)
    except XmlError as error:
        _log.warning("the configuration is not well-formed XML (%s) and counts as empty", error)
        return None
    name = element.tag.rpartition("}")[2]
    return element if name == "configuration" else None
