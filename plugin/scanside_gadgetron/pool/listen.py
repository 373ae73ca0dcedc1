"""Where a server listens, and which hosts it lets in."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

from scanside.errors import ConfigError

__all__ = ["Address", "Allowed", "keep_alive", "listen", "listen_for_nodes", "places", "remove_socket"]

logger = logging.getLogger(__name__)

Address: TypeAlias = tuple[str, int]
"""Host and port."""

_TRIES = 20
_BACKLOG = 1024
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class Allowed:
    """Tells hosts that may connect from others; this machine always may.

    Args:
        networks: of the hosts that may.
    """

    def __init__(self, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        self._networks = tuple(networks)

    def __contains__(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback or any(address in network for network in self._networks)


def keep_alive(sock: socket.socket) -> None:
    """Notice a host that vanished without a word, which would hold its place for ever."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for every address of a host, all on one port.

    Raises:
        ConfigError: the host is not known, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"there is no host '{host}' to listen on: {error}") from error
    problem: OSError | None = None
    # A free port of one address may be taken on another: then the next is tried.
    for _ in range(_TRIES if port == 0 else 1):
        listeners, problem = _bind_all([(family, address) for family, _, _, _, address in found], port)
        if listeners:
            return listeners
    hint = ""
    if problem is not None and problem.errno == errno.EADDRINUSE:
        hint = "another server runs there already, perhaps of Scanside: end it, or "
    raise ConfigError(
        f"cannot listen on {host}, port {port}: {problem}; {hint}take another port, or 0 for any free one"
    )


def _bind_all(
    addresses: list[tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]], port: int
) -> tuple[list[socket.socket], OSError | None]:
    """Bind all addresses to one port, leaving out families that this machine does not have."""
    problem: OSError | None = None
    with ExitStack() as undo:
        listeners: list[socket.socket] = []
        for family, address in addresses:
            listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], port, *address[2:]))
                listener.listen(_BACKLOG)
            except OSError as error:
                problem = error
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    listener.close()
                    continue
                return [], problem
            port = listener.getsockname()[1]
            listeners.append(listener)
        undo.pop_all()
        return listeners, problem


# The socket at which nodes hand their connections over


def places() -> list[Path]:
    """Where a server of this user listens for nodes, if it is not told otherwise, best place first."""
    folders = [Path(tempfile.gettempdir()) / f"scanside-{os.getuid()}"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        folders.insert(0, Path(runtime) / "scanside")
    return [folder / "pool.sock" for folder in folders]


def listen_for_nodes(path: Path | None) -> tuple[socket.socket, Path] | None:
    """A listening Unix socket in a folder that only this user can enter.

    Args:
        path: where; None for the first of `places` that can be used.

    Returns:
        The socket and where it is; None where another server has the place that was not asked for by name.

    Raises:
        ConfigError: the place that was asked for cannot be used, or another server has it.
    """
    problems = []
    for place in places() if path is None else [path]:
        try:
            if path is None:
                _make_private(place.parent)
            else:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _somebody_listens(place):
                problems.append(f"another server listens at {place}")
                continue
            place.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                listener.bind(str(place))
                place.chmod(0o600)
                listener.listen(_BACKLOG)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            problems.append(f"{place}: {error}")
        else:
            return listener, place
    if path is not None:
        raise ConfigError(
            f"nodes cannot hand over at {path}: {problems[0]}; name another place, or 'off' for none (handover)"
        )
    logger.info("nodes that Gadgetron executes cannot hand over to this server: %s", "; ".join(problems))
    return None


def remove_socket(path: Path) -> None:
    """Remove what `listen_for_nodes` made."""
    with suppress(OSError):
        path.unlink()


def _make_private(folder: Path) -> None:
    """Make a folder, and see that nobody else can put anything into it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} does not belong to this user alone")


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
