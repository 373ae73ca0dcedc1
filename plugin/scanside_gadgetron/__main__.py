"""``python -m scanside_gadgetron serve``: the server without the command line's extra packages.

One line on standard output says, as JSON, where it listens; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from scanside.errors import ScansideError
from scanside.serving import DEFAULT_PIPELINE
from scanside.texts import indented
from scanside_gadgetron.monitor.logs import setup_logging
from scanside_gadgetron.server import Server, serve
from scanside_gadgetron.settings import ServerConfig, Settings


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve; gives the exit status."""
    options = vars(_parser().parse_args(arguments))
    setup_logging(level=options.pop("log_level").upper())
    own = Settings.from_environment()
    path = options.pop("config")
    given = {
        "devices": None if options["device"] is None else (options["device"],),
        **{name: value for name, value in options.items() if name != "device"},
    }

    def read() -> ServerConfig:
        return ServerConfig.load(path, own, **given)

    try:
        config = read()
        setup_logging(as_json=config.log == "json", level=logging.getLogger("scanside_gadgetron").level)
        serve(config, read_again=read, on_ready=_say_where)
    except ScansideError as error:
        sys.stderr.write(f"error: {indented(str(error))}\n")
        return 1
    return 0


def _say_where(server: Server) -> None:
    hosts = [host for host, _ in server.addresses]
    said = {"hosts": hosts, "port": server.port, "monitor": server.monitor_url}
    sys.stdout.write(json.dumps({name: value for name, value in said.items() if value is not None}) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scanside_gadgetron")
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve", help="listen for Gadgetron's <connect> and for MRD hosts")
    serving.add_argument("--config", type=Path, help="YAML file with all settings; options go before it")
    serving.add_argument("--host", help="address or name to listen on (127.0.0.1)")
    serving.add_argument("--port", type=int, help="0 takes any free one (9002)")
    serving.add_argument("--handover", help="Unix socket for nodes, auto or off (auto)")
    serving.add_argument("--pipeline", help=f"of sessions that ask for none ({DEFAULT_PIPELINE})")
    serving.add_argument("--workers", type=int, help="how many sessions run at once (2)")
    serving.add_argument("--threads", type=int, help="of each worker (this machine's cores, shared)")
    serving.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    serving.add_argument("--noise-store", type=Path, help="folder that keeps noise covariances")
    serving.add_argument("--pipelines", type=Path, help="folder of your own pipelines")
    serving.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
