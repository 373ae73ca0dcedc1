"""BART's files, as `scanside.datasets.bart_files` reads and writes them."""

from __future__ import annotations

from scanside.datasets.bart_files import read_cfl, write_cfl

__all__ = ["read_cfl", "write_cfl"]
