"""Thousands of files on the cores of this machine, or on the machines of a Ray cluster.

`run_many` hands tasks to the workers of a pool, each of which loads what it needs once and then takes one task after
another. A worker that dies costs the task that it had in hand, which another one tries once more; it never costs the
run. Two pools do the same work: `LocalPool` with processes of this machine, `RayPool` with actors of a cluster::

    for result in run_many(tasks, make_worker, LocalPool(4)):
        ...

`scanside.many.replays.replay_many` reconstructs files on top of it, `scanside evaluate` compares reconstructions.
"""

from __future__ import annotations

from scanside.many.choice import pool_for
from scanside.many.cluster import RayPool
from scanside.many.journal import Journal
from scanside.many.local import LocalPool
from scanside.many.run import Crew, Pool, Report, run_many
from scanside.many.work import Answer, MakeWorker, Result, Task, Worker

__all__ = [
    "Answer",
    "Crew",
    "Journal",
    "LocalPool",
    "MakeWorker",
    "Pool",
    "RayPool",
    "Report",
    "Result",
    "Task",
    "Worker",
    "pool_for",
    "run_many",
]
