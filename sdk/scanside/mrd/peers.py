"""Who is at the other end of a session, and how it is told that something failed.

Gadgetron and MRD hosts open a session in the same way and differ in one thing that matters: what they do with a
message that they do not know. Gadgetron ends its chain at a TEXT. ``gadgetron_ismrmrd_client`` and the client of
python-ismrmrd-server end at an ERROR, and what they had received is lost with its text.
"""

from __future__ import annotations

import re
import struct
from typing import Literal, TypeAlias

from scanside.mrd.messages import ConfigFile, ConfigText, ErrorText, Message, MessageId, Text

__all__ = ["Peer", "error_message", "peer_by_first_bytes", "peer_of", "reported_error"]

Peer: TypeAlias = Literal["mrd", "gadgetron"]
"""Who listens: any MRD host, or Gadgetron to its external node."""

# Gadgetron prints a node's own element anew, so it is whole; without an element, it sends a declaration alone.
_DECLARATION = rb"<\?xml[^>]*\?>\s*"
_BEGIN = re.compile(rb"(?:%b)?<(?:\w+:)?configuration[\s/>]" % _DECLARATION)
_END = re.compile(rb"(?:/|</(?:\w+:)?configuration\s*)>\Z")
_BARE = re.compile(rb"%b\Z" % _DECLARATION)
_CHAIN = re.compile(rb"<(?:\w+:)?(?:readers|writers|stream)[\s/>]")

_LEVEL = "ERROR"
_REPORT = re.compile(rf"{_LEVEL}\s+(?=\S)")

_CONFIG = struct.Struct("<HI")
_CONFIG_ID = struct.pack("<H", MessageId.CONFIG)
_MOST_BYTES = 64 << 10
"""So much of a configuration tells whose it is."""


def peer_of(config: ConfigFile | ConfigText) -> Peer:
    """Who opens a session with this configuration.

    Gadgetron's external node gets its own ``<configuration>`` element, or a bare XML declaration where a chain has
    none. MRD hosts name a configuration, or send other text: among it whole Gadgetron chains, which a host reads from
    a file (``gadgetron_ismrmrd_client -C``).
    """
    if isinstance(config, ConfigFile):
        return "mrd"
    xml = config.xml[:_MOST_BYTES].strip(b"\0 \t\r\n")
    if _BARE.match(xml):
        return "gadgetron"
    whole = len(config.xml) >= _MOST_BYTES or _END.search(xml)
    return "gadgetron" if _BEGIN.match(xml) and whole and not _CHAIN.search(xml) else "mrd"


def peer_by_first_bytes(first: bytes) -> Peer | None:
    """The same for a session of which nobody has read a message yet; None while more has to come."""
    if first[:2] != _CONFIG_ID[: len(first)]:
        return "mrd"
    if len(first) < _CONFIG.size:
        return None
    length = min(_CONFIG.unpack_from(first)[1], _MOST_BYTES)
    text = first[_CONFIG.size :][:length]
    return peer_of(ConfigText(text)) if len(text) == length else None


def error_message(text: str, peer: Peer) -> Message:
    """The message that tells a peer of a failure; its CLOSE is to follow.

    MRD hosts know no ERROR. They get a TEXT that begins with its level, as other MRD servers write theirs.
    """
    return ErrorText(text) if peer == "gadgetron" else Text(f"{_LEVEL} {text}")


def reported_error(message: Message) -> str | None:
    """What a server's message says of a failure; None for any other message. The other half of `error_message`."""
    if isinstance(message, ErrorText):
        return message.text
    if isinstance(message, Text) and (level := _REPORT.match(message.text)):
        return message.text[level.end() :]
    return None
