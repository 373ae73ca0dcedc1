"""What is in a raw file, and what looks wrong with it.

::

    found = inspect_file("scan.h5")
    found.n_readouts
    found.encodings[0].sampling.describe()
    [finding for finding in found.findings]
"""

from __future__ import annotations

from scanside.agreement import Finding
from scanside.inspection.as_json import as_dict
from scanside.inspection.describe import contents, counter_rows, encoding_facts, facts, statements
from scanside.inspection.inspect import Inspection, inspect_file
from scanside.inspection.orientation import describe_orientation, direction_letters
from scanside.inspection.outline import outline_of
from scanside.inspection.pattern import AxisBand, SamplingPattern
from scanside.inspection.survey import Collector, CounterRange, EncodingSurvey, NoiseSurvey, Survey

__all__ = [
    "AxisBand",
    "Collector",
    "CounterRange",
    "EncodingSurvey",
    "Finding",
    "Inspection",
    "NoiseSurvey",
    "SamplingPattern",
    "Survey",
    "as_dict",
    "contents",
    "counter_rows",
    "describe_orientation",
    "direction_letters",
    "encoding_facts",
    "facts",
    "inspect_file",
    "outline_of",
    "statements",
]
