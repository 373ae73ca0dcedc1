"""A worker whose pipelines need no torch, and do what the name they are asked for by says."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from scanside.context import Context
from scanside.errors import PipelineError
from scanside.items import Readouts
from scanside.noise_store import NoiseStore
from scanside.pipeline import Pipeline
from scanside.serving import PipelinePool
from scanside.stage import Stage
from scanside_gadgetron.pool.channel import Begin
from scanside_gadgetron.pool.worker import main

SCRATCH = Path(os.environ.get("SCANSIDE_TEST_SCRATCH", "."))


class Act(Stage[Readouts, Readouts]):
    """Gives what it takes, after it has done what its name says."""

    kept: ClassVar[list[bytearray]] = []

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.n_sent = 0

    def prepare(self, context: Context) -> None:
        if self.what == "builds" and context.builds_engines:
            (SCRATCH / f"builds.{os.getpid()}.came").touch()
            while not (SCRATCH / "builds.open").exists():
                time.sleep(0.01)

    def process(self, item: Readouts) -> Iterator[Readouts]:
        if self.what.startswith("gate"):
            # Says that it came, and waits until it may go on.
            (SCRATCH / f"{self.what}.{os.getpid()}.came").touch()
            while not (SCRATCH / f"{self.what}.open").exists():
                time.sleep(0.01)
        elif self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "hang":
            time.sleep(1000)
        elif self.what == "freeze":
            ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock: no other thread runs
        elif self.what == "grow" and not self.kept:
            self.kept.append(bytearray(os.urandom(1) * (300 << 20)))
        elif self.what in ("flood", "die-while-sending"):
            if self.what != "flood":
                threading.Thread(target=self.die_when_stuck, daemon=True).start()
            for self.n_sent in range(10_000):
                yield item.copy()
        yield item

    def die_when_stuck(self) -> None:
        """Die when nothing more is taken: then a message is half sent, on however busy a machine.

        A machine that stood still for a while looks the same once, not several times in a row.
        """
        before, n_same = -1, 0
        while n_same < 5:
            n_same = n_same + 1 if self.n_sent == before else 0
            before = self.n_sent
            time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)


def load(name: str, settings: object) -> Pipeline:
    if name == "unknown" or (SCRATCH / "broken").exists():
        raise PipelineError(f"'{name}' is broken")
    if (SCRATCH / "dies-at-start").exists():
        os._exit(7)
    return Pipeline([Act(name)], labels=["act"], name=name)


def make_pipelines(begin: Begin) -> PipelinePool:
    return PipelinePool(Context("cpu", NoiseStore()), load=load)


if __name__ == "__main__":
    main(make_pipelines)
    if (SCRATCH / "slow-end").exists():
        time.sleep(1)
