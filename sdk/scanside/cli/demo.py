"""``scanside demo``."""

from __future__ import annotations

import typer

__all__ = ["demo"]


def demo() -> None:
    """Simulate a scan, reconstruct it and write a report."""
    raise typer.Exit(1)
