"""Recorded scans sent through pipelines as a scanner sends them."""

from scanside.replay.conversation import configuration
from scanside.replay.result import Progress, ReplayResult, Via
from scanside.replay.run import replay
from scanside.replay.undersampling import Regular

__all__ = ["Progress", "Regular", "ReplayResult", "Via", "configuration", "replay"]
