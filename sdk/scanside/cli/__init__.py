"""The ``scanside`` command."""

from __future__ import annotations

import sys

from scanside.errors import MissingExtra
from scanside.threads import sleep_soon

__all__ = ["main"]


def main() -> None:
    """Run the command line; says what to install when the packages that it needs are not there."""
    sleep_soon()
    try:
        from scanside.cli.app import app
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.stderr.write(f"{MissingExtra(error.name, 'cli', 'the command line')}\n")
        raise SystemExit(1) from None
    app()
