"""gadgetron-python as the thing to compare with: a server that runs its example, or reads and drops."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["read_and_drop", "task"]


def read_and_drop(connection: Any) -> None:
    """Let gadgetron-python read every message and forget it."""
    for _ in connection:
        pass


def task(name: str) -> Callable[[Any], None]:
    """What to do with a connection: ``drop`` or ``recon``."""
    if name == "drop":
        return read_and_drop
    from gadgetron.examples.recon_acquisitions import recon_acquisitions

    handler: Callable[[Any], None] = recon_acquisitions
    return handler


def _main(name: str) -> None:
    from gadgetron.external.connection import Connection

    handler = task(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
        sys.stdout.flush()
        while True:
            accepted, _ = listener.accept()
            with Connection(accepted) as connection:
                handler(connection)


if __name__ == "__main__":
    _main(sys.argv[1])
