"""Recorded scans sent through pipelines as a scanner sends them."""

from scanside.replay.conversation import configuration
from scanside.replay.result import Progress, ReplayResult, Via
from scanside.replay.run import replay

__all__ = ["Progress", "ReplayResult", "Via", "configuration", "replay"]
