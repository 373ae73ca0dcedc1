"""A demonstration from end to end: simulate accelerated scans, reconstruct them in a Gadgetron node, compare.

One scan shows the classical pipelines, the other the learned ones beside them. Nothing is trained.
"""

from __future__ import annotations

from scanside.demo.compare import SliceResult
from scanside.demo.result import DemoResult, LearnedResult, MethodResult
from scanside.demo.run import run_demo

__all__ = ["DemoResult", "LearnedResult", "MethodResult", "SliceResult", "run_demo"]
