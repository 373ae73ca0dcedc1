"""A learned reconstruction beside the classical one: looked at in the background, or sent as a series of its own.

`Shadow` sends the classical images and compares the learned ones with them aside; `SideBySide` sends both. In both
the first branch makes what it would make alone, to the byte, and nothing that happens in the second changes or
ends the scan.
"""

from __future__ import annotations

from scanside.shadow.comparison import Comparison, compare
from scanside.shadow.side_by_side import SideBySide
from scanside.shadow.stage import Shadow
from scanside.shadow.store import ComparisonStore

__all__ = ["Comparison", "ComparisonStore", "Shadow", "SideBySide", "compare"]
