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
from scanside_gadgetron.server import Address, serve
from scanside_gadgetron.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve; gives the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    own = Settings.from_environment()
    settings = Settings(
        options.device or own.device,
        options.noise_store or own.noise_store,
        options.pipelines or own.pipelines,
    )
    try:
        serve(
            options.host,
            options.port,
            pipeline=options.pipeline,
            max_sessions=options.max_sessions,
            settings=settings,
            on_ready=_say_where,
        )
    except ScansideError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _say_where(addresses: list[Address]) -> None:
    hosts = [host for host, _ in addresses]
    sys.stdout.write(json.dumps({"hosts": hosts, "port": addresses[0][1]}) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scanside_gadgetron")
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve", help="listen for Gadgetron's <connect> and for MRD hosts")
    serving.add_argument("--host", default="127.0.0.1", help="address or name to listen on (%(default)s)")
    serving.add_argument("--port", type=int, default=9002, help="0 takes any free one (%(default)s)")
    serving.add_argument(
        "--pipeline", default=DEFAULT_PIPELINE, help="of sessions that ask for none (%(default)s)"
    )
    serving.add_argument("--max-sessions", type=int, default=2, help="how many run at once (%(default)s)")
    serving.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    serving.add_argument("--noise-store", type=Path, help="folder that keeps noise covariances")
    serving.add_argument("--pipelines", type=Path, help="folder of your own pipelines")
    serving.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
