"""The node's side of a hand-over: a process that Gadgetron executed passes its connection to a pool on this machine.

The node's process must live until the session is over, as Gadgetron watches it; but it need not load torch, which
takes longer than most reconstructions.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

from scanside.errors import MessageError, PeerSilent, StreamError
from scanside.mrd.messages import ConfigText, HeaderXml
from scanside.mrd.streams import reset_when_closed
from scanside.mrd.writer import encode
from scanside_gadgetron.pool.channel import Channel, HandOver, Over, Refused, Taken, Waits, peer_user
from scanside_gadgetron.pool.listen import places

__all__ = ["VARIABLE", "find_pool", "hand_over"]

logger = logging.getLogger(__name__)

VARIABLE = "SCANSIDE_POOL"
"""Environment variable with the path of a pool's socket, or ``off``."""

_CONNECT_SECONDS = 2.0


def find_pool() -> Channel | None:
    """A channel to the pool that this node may use.

    `VARIABLE` says where it is; whoever sets it answers for whose it is. Without it, a pool of the same user (or of
    root) is looked for in its usual places.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked == "off" or not hasattr(socket, "SOCK_SEQPACKET"):
        return None
    for place in [Path(asked)] if asked else places():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(_CONNECT_SECONDS)
        try:
            sock.connect(str(place))
            owner = peer_user(sock)
        except OSError as error:
            sock.close()
            if asked:
                logger.warning("no pool answers at %s (%s): %s", place, VARIABLE, error)
            continue
        if asked or owner in (os.getuid(), 0):
            sock.settimeout(None)
            return Channel(sock)
        logger.warning("the pool at %s belongs to user %d and gets no scan of this one", place, owner)
        sock.close()
    return None


def hand_over(sock: socket.socket, config: bytes, header: bytes) -> bool:
    """Have a pool serve a connection, and wait until its session is over.

    Args:
        sock: the connection, of which nothing but configuration and header has been read.
        config: what CONFIG held.
        header: what HEADER held.

    Returns:
        Whether a pool took it; if not, the caller still has it.
    """
    pool = find_pool()
    if pool is None:
        return False
    try:
        opening = os.memfd_create("scanside-opening")
        with os.fdopen(opening, "wb") as file:
            file.write(encode(ConfigText(config), HeaderXml(header)))
            file.flush()
            pool.send(HandOver(pid=os.getpid()), sock.fileno(), opening)
        return _wait(pool, sock)
    except (StreamError, MessageError, OSError) as error:
        logger.warning("the pool does not take this scan: %s", error)
        return False
    finally:
        pool.close()


def _wait(pool: Channel, sock: socket.socket) -> bool:
    taken = False
    while True:
        try:
            received = pool.receive()
        except PeerSilent:
            continue
        message = None if received is None else received[0]
        if isinstance(message, Waits):
            logger.info("all workers of the pool are busy: this scan waits, %d before it", message.before)
        elif isinstance(message, Taken):
            logger.info("the pool reconstructs this scan as session %s", message.session)
            taken = True
        elif isinstance(message, Over):
            logger.info("the session is over: %s", message.outcome)
            return True
        elif isinstance(message, Refused):
            logger.warning("the pool does not take this scan: %s", message.why)
            return False
        elif message is None:
            if not taken:
                logger.warning("the pool went away before it took this scan")
                return False
            # What has been sent by then nobody knows: the end must not look like a good one.
            logger.error("the pool died with this scan")
            reset_when_closed(sock)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            return True
