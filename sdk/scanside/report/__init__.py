"""Pictures and HTML reports.

Everything here needs the extra ``report`` (Jinja2 and Matplotlib), which is asked for when this package is
imported.
"""

from __future__ import annotations

from importlib.util import find_spec

from scanside.errors import MissingExtra

for _package in ("matplotlib", "jinja2"):
    if find_spec(_package) is None:
        raise MissingExtra(_package, "report", "pictures and reports")

from scanside.report.observations import Observations  # noqa: E402
from scanside.report.page import Page  # noqa: E402
from scanside.report.reports import inspection_report, replay_report  # noqa: E402

__all__ = ["Observations", "Page", "inspection_report", "replay_report"]
