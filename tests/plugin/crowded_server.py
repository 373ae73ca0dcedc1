"""A server of few descriptors, for `test_crowd`: says where it is and ends when its input does."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from scanside_gadgetron.monitor.config import MonitorConfig
from scanside_gadgetron.monitor.logs import setup_logging
from scanside_gadgetron.server import Server
from scanside_gadgetron.settings import ServerConfig


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    setup_logging()
    monitor = MonitorConfig(port=0, folder=Path(sys.argv[2]))
    config = ServerConfig(port=0, workers=1, queue=4, handover="off", monitor=monitor)
    with Server(config, (sys.executable, sys.argv[1])) as server:
        sys.stdout.write(f"{server.port} {server.monitor_url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
