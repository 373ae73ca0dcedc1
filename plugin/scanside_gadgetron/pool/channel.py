"""What server and workers, and server and nodes, say to each other.

Each message is one JSON object, with open descriptors where it hands a connection over, in one packet of a Unix
socket that keeps packets apart (``SOCK_SEQPACKET``): no lengths to count, and no descriptor goes astray.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
from array import array
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from scanside.errors import MessageError, PeerGone, PeerSilent
from scanside.recording.config import RecordingConfig
from scanside.texts import encodable, shown
from scanside_gadgetron.pool.events import Event
from scanside_gadgetron.settings import LimitsConfig, TlsConfig

__all__ = [
    "Beat",
    "Begin",
    "Channel",
    "HandOver",
    "Idle",
    "Message",
    "Over",
    "Refused",
    "Reported",
    "Retire",
    "Run",
    "Taken",
    "Unprepared",
    "Waits",
    "close_all",
    "peer_user",
]

_LARGEST = 160 << 10
"""Bytes of a message. Linux lets a packet be somewhat larger than that by default."""

_MOST_DESCRIPTORS = 2


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Begin(_Message):
    """To a worker: what it is and what it is to prepare; see `ServerConfig`."""

    kind: Literal["begin"] = "begin"
    worker: int
    device: str
    threads: int | None
    pipeline: str
    prepare: tuple[str, ...] = ()
    pipelines: str | None = None
    noise_store: str | None = None
    tls: TlsConfig | None = None
    limits: LimitsConfig = LimitsConfig()
    memory_bytes: int | None = None
    record: RecordingConfig | None = None
    series_log: str | None = None
    beat_seconds: float = 1.0
    log_level: int = 20
    log_json: bool = False


class Run(_Message):
    """To a worker: serve this connection. With its socket; and a file of CONFIG and HEADER, if they were read.

    Attributes:
        session: its id.
        peer: who is at the other end.
        handed_over: whether a node of a Gadgetron chain handed it over.
        folder: where the session's pictures go; None for none.
    """

    kind: Literal["run"] = "run"
    session: str
    peer: str
    handed_over: bool = False
    folder: str | None = None


class Retire(_Message):
    """To a worker: end after the session that runs."""

    kind: Literal["retire"] = "retire"


class Beat(_Message):
    """From a worker: it lives.

    Attributes:
        memory: resident bytes.
        stage: whose code runs now.
        stage_seconds: since when.
        late_seconds: how long what it has to report waits already.
        silent_seconds: how long its host has sent next to nothing while it was waited for.
    """

    kind: Literal["beat"] = "beat"
    memory: int
    stage: str | None = None
    stage_seconds: float = 0.0
    late_seconds: float = 0.0
    silent_seconds: float = 0.0


class Reported(_Message):
    """From a worker: something happened."""

    kind: Literal["reported"] = "reported"
    event: Event


class Idle(_Message):
    """From a worker: the session is over, the next may come."""

    kind: Literal["idle"] = "idle"
    session: str
    memory: int


class Unprepared(_Message):
    """From a worker: it cannot get ready; says why, and ends."""

    kind: Literal["unprepared"] = "unprepared"
    error: str


class HandOver(_Message):
    """From a node: take this connection. With its socket and a file of CONFIG and HEADER."""

    kind: Literal["hand-over"] = "hand-over"
    pid: int


class Waits(_Message):
    """To a node: the connection was taken and waits for a worker.

    Attributes:
        before: how many wait before it.
    """

    kind: Literal["waits"] = "waits"
    before: int


class Taken(_Message):
    """To a node: a worker has the connection."""

    kind: Literal["taken"] = "taken"
    session: str


class Refused(_Message):
    """To a node: the connection was not taken."""

    kind: Literal["refused"] = "refused"
    why: str


class Over(_Message):
    """To a node: the session is over, and what became of it."""

    kind: Literal["over"] = "over"
    outcome: str


Message: TypeAlias = (
    Begin | Run | Retire | Beat | Reported | Idle | Unprepared | HandOver | Waits | Taken | Refused | Over
)
"""Any of them."""

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


class Channel:
    """One end of a conversation.

    Args:
        sock: a connected ``SOCK_SEQPACKET`` socket; the channel owns it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """The descriptor, for `select` and the like."""
        return self.socket.fileno()

    def send(self, message: Message, *descriptors: int, wait: bool = True) -> None:
        """Send a message and copies of descriptors.

        Args:
            message: what to say.
            descriptors: what goes along; they stay open here.
            wait: for room, if need be.

        Raises:
            PeerGone: the other end is closed.
            PeerSilent: there is no room, and waiting was not allowed.
            MessageError: the message is too large.
        """
        data = _json(message)
        if len(data) > _LARGEST:
            raise MessageError(f"a message '{message.kind}' of {len(data)} bytes is too large for a channel")
        # Python's send_fds and recv_fds pass no flags on.
        flags = socket.MSG_NOSIGNAL | (0 if wait else socket.MSG_DONTWAIT)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        try:
            self.socket.sendmsg([data], rights, flags)
        except BlockingIOError as error:
            raise PeerSilent("the other end of a channel does not listen") from error
        except OSError as error:
            raise PeerGone(f"the other end of a channel is gone: {error}") from error

    def receive(self, *, wait: bool = True) -> tuple[Message, list[int]] | None:
        """The next message and what came along, which is the caller's to close; None once the other end is closed.

        Raises:
            PeerSilent: nothing came, and waiting was not allowed or took longer than the socket's time limit.
            MessageError: something that is no message.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array("i").itemsize)
        try:
            data, rights, _, _ = self.socket.recvmsg(2 * _LARGEST, room, flags)
        except (BlockingIOError, TimeoutError) as error:
            raise PeerSilent("nothing came through a channel") from error
        except OSError:
            # Whoever died with messages unread resets the connection.
            return None
        descriptors = [number for _, _, numbers in rights for number in array("i", numbers)]
        if not data:
            close_all(descriptors)
            return None
        try:
            return _MESSAGE.validate_json(data), descriptors
        except ValidationError as error:
            close_all(descriptors)
            raise MessageError(f"no message of a channel: {shown(data)}") from error

    def close(self) -> None:
        """Close this end."""
        with suppress(OSError):
            self.socket.close()


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that came with a message and that nobody wants."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def _json(message: Message) -> bytes:
    """A message as JSON, whatever its texts hold."""
    try:
        return message.model_dump_json().encode()
    except ValueError:  # half a character, or a number of another library
        return json.dumps(_plain(message.model_dump())).encode()


def _plain(value: object) -> object:
    """The same in what JSON has."""
    if isinstance(value, dict):
        return {encodable(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return encodable(str(value))


def peer_user(sock: socket.socket) -> int:
    """User id of the process at the other end of a Unix socket, as the kernel knows it."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)
