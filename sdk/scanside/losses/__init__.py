"""Lines that should have come and did not: nothing that a scanner measured is lost in silence.

What was planned is not told by a stream. `judge` concludes it for the lines of one k-space from what the header
promises (`Plan`) and what the stream tells besides; `losses_of` looks at k-space with the headers of its lines, and
`recorded_losses` at all readouts of a recording.
"""

from scanside.losses.counters import ScanCounters
from scanside.losses.judge import Doubt, Plan
from scanside.losses.kspace import FIRST, LAST, Found, Marks, losses_of, lost_of_block, sorted_losses
from scanside.losses.recorded import recorded_calibration, recorded_losses
from scanside.losses.regular import filled, lattice_gaps
from scanside.losses.undersampling import with_left_out

__all__ = [
    "FIRST",
    "LAST",
    "Doubt",
    "Found",
    "Marks",
    "Plan",
    "ScanCounters",
    "filled",
    "lattice_gaps",
    "losses_of",
    "lost_of_block",
    "recorded_calibration",
    "recorded_losses",
    "sorted_losses",
    "with_left_out",
]
