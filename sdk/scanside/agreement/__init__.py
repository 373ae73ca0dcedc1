"""Whether what the readouts of a scan say agrees with what its header says.

The one place where both are compared: `scanside inspect` and every pipeline (in a replay, in a node, behind a server)
ask it, so that all of them tell the same::

    comparison = Comparison(header)
    for block in source:
        block = comparison.take(block)
        for finding in comparison.news():
            print(finding)

Each module beside this one holds one comparison. A new one is a class with the methods of `scanside.agreement.check`
and a line in `scanside.agreement.space`.
"""

from __future__ import annotations

from scanside.agreement.comparison import Comparison
from scanside.agreement.finding import Finding, Level
from scanside.agreement.phase_center import PhaseCenter, phase_center

__all__ = ["Comparison", "Finding", "Level", "PhaseCenter", "phase_center"]
