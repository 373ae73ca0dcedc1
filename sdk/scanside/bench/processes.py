"""What Linux tells of a server's processes from outside: nothing that the server says of itself."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Family", "Footprint"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Footprint:
    """What a server and its workers take.

    Attributes:
        server: its resident bytes.
        workers: those of all workers together.
        descriptors: that are open.
        processes: how many there are, those that have ended and not been buried included.
    """

    server: int
    workers: int
    descriptors: int
    processes: int


@dataclass(frozen=True)
class Family:
    """A server and the processes that it started.

    Attributes:
        pid: of the server.
    """

    pid: int

    @property
    def children(self) -> list[int]:
        """Its workers."""
        # Linux lists a child under the thread that started it.
        found: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with suppress(OSError):  # a thread may end meanwhile
                found += [int(pid) for pid in task.read_text(encoding="ascii").split()]
        return found

    def footprint(self) -> Footprint:
        """What all of them take now."""
        workers = self.children
        return Footprint(
            _resident_bytes(self.pid),
            sum(_resident_bytes(pid) for pid in workers),
            sum(len(_descriptors(pid)) for pid in (self.pid, *workers)),
            1 + len(workers),
        )

    def cpu_seconds(self) -> float:
        """Processor time that all of them have taken."""
        return sum(_cpu_seconds(pid) for pid in (self.pid, *self.children))

    def holder(self, connection: socket.socket) -> int | None:
        """The worker that holds the other end of a connection over IPv4, or None."""
        inode = _peer_inode(connection)
        if inode is None:
            return None
        return next((pid for pid in self.children if f"socket:[{inode}]" in _descriptors(pid)), None)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        return 0


def _descriptors(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.append(str(entry.readlink()))
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def _peer_inode(connection: socket.socket) -> str | None:
    """The kernel's number of a connection's other end, where that is on this machine."""
    ours, theirs = _address(connection.getsockname()), _address(connection.getpeername())
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] == theirs and fields[2] == ours:
            return fields[9]
    return None


def _address(address: tuple[str, int]) -> str:
    host, port = address
    number = int.from_bytes(socket.inet_aton(host), "little")
    return f"{number:08X}:{port:04X}"
