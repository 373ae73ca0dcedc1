"""Scanside: stages and pipelines that reconstruct MRI raw data as it streams off the scanner.

Research use only; not a medical device.
"""

from scanside._version import __version__
from scanside.context import Context
from scanside.errors import ScansideError
from scanside.items import Image, Item, KSpace, Readouts, Waveform
from scanside.pipeline import Pipeline, PipelineRun
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig

__all__ = [
    "Context",
    "Image",
    "Item",
    "KSpace",
    "Pipeline",
    "PipelineRun",
    "Readouts",
    "Scan",
    "ScanEnd",
    "ScansideError",
    "Stage",
    "StageConfig",
    "Waveform",
    "__version__",
]
