"""Scanside in a Gadgetron chain and as an MRD server.

* `reconstruct` is the target of ``<execute type="python" name="scanside_gadgetron" target="reconstruct"/>``.
* `serve` listens for ``<connect>`` and for MRD hosts, and for nodes that hand over, with a pool of warm workers.

Importing this package loads no torch: a chain's other nodes do not wait for it, and an installation without it can
still say what is missing.
"""

from __future__ import annotations

from scanside_gadgetron.node import reconstruct
from scanside_gadgetron.server import Server, serve
from scanside_gadgetron.settings import ServerConfig

__all__ = ["Server", "ServerConfig", "reconstruct", "serve"]
