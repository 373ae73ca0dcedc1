"""``scanside replay``."""

from __future__ import annotations

import typer

__all__ = ["replay"]


def replay() -> None:
    """Reconstruct a recorded scan, as it would be at the scanner."""
    raise typer.Exit(1)
