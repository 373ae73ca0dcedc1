"""The weekly check with a phantom: signal to noise, geometry, ghosting, uniformity, and the network's agreement.

The measures are those of NEMA MS 1-2008 (signal-to-noise ratio), NEMA MS 3-2008 (uniformity), the American College
of Radiology's phantom test guidance (geometry, percent-signal ghosting, uniformity) and AAPM report 100 (acceptance
testing and quality assurance of MRI), on images that Scanside reconstructs from the raw data of the phantom's scan.
"""

from __future__ import annotations

from scanside.qa.check import check
from scanside.qa.limits import Limits
from scanside.qa.result import QaResult
from scanside.qa.store import QaStore
from scanside.qa.verdict import Verdict

__all__ = ["Limits", "QaResult", "QaStore", "Verdict", "check"]
