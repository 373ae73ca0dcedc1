"""Engines for the demonstration: those that are ready, else the first that is built quickly.

``python -m scanside.demo.engines PIPELINE:K1xK0:COILS`` has one ready.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scanside.errors import ScansideError

if TYPE_CHECKING:
    from scanside.engines.backends.base import Precision
    from scanside.engines.build import BundleSource
    from scanside.engines.choice import Choice
    from scanside.simulate import ScanConfig

__all__ = ["QUICK", "QUICK_UNROLLED", "Wanted", "built_beside", "quick_choice"]

QUICK: tuple[tuple[str, Precision], ...] = (
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("eager", "bf16"),
    ("eager", "fp32"),
)
"""Engines that are built in seconds, in the order in which they are tried, the fastest first as a rule."""

QUICK_UNROLLED = QUICK[-2:]
"""Where many steps of data consistency are unrolled, and make every check a long one: those accepted at once."""


@dataclass(frozen=True)
class Wanted:
    """What an engine is for.

    Attributes:
        pipeline: a learned one.
        size: ``(k1, k0)`` of the images.
        n_coils: of the data.
    """

    pipeline: str
    size: tuple[int, int]
    n_coils: int

    @classmethod
    def of(cls, pipeline: str, config: ScanConfig) -> Wanted:
        """For a simulated scan."""
        matrix = config.geometry.matrix
        return cls(pipeline, (matrix[1], matrix[0]), config.coils.n_coils)

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """From ``str()`` of it."""
        pipeline, size, n_coils = text.split(":")
        k1, k0 = size.split("x")
        return cls(pipeline, (int(k1), int(k0)), int(n_coils))

    def __str__(self) -> str:
        return f"{self.pipeline}:{self.size[0]}x{self.size[1]}:{self.n_coils}"

    def source(self) -> BundleSource:
        """The bundle in the engine's shape.

        Raises:
            ScansideError: the bundle cannot be opened, or takes no such images.
        """
        from scanside.engines.build import BundleSource
        from scanside.engines.bundle import Bundle
        from scanside.engines.catalog import find_bundle
        from scanside.engines.shapes import fit
        from scanside.pipeline import Pipeline
        from scanside.stages.engine import RunEngine

        (stage,) = (one for one in Pipeline.load(self.pipeline).stages if isinstance(one, RunEngine))
        bundle = Bundle.open(find_bundle(stage.config.bundles[0]))
        shapes = bundle.manifest.shapes
        bucket = fit(bundle.manifest.lowering, shapes, *self.size).bucket
        return BundleSource(bundle, bucket, None if shapes.coils is None else self.n_coils)


@contextmanager
def built_beside(wanted: Sequence[Wanted]) -> Iterator[None]:
    """Have missing engines built by processes beside this one, one for each.

    Whoever needs one of them waits until it is there; what they could not build fails once more where it is told.
    """
    missing = [one for one in wanted if not _ready(one)]
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, n_processors // max(1, len(missing)))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(one)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in missing
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _ready(wanted: Wanted) -> bool:
    from scanside.engines.backends import NAMES
    from scanside.engines.build import Workshop
    from scanside.engines.cache import EngineCache

    try:
        found = Workshop(wanted.source(), EngineCache()).candidates(NAMES, build=False)
    except ScansideError:
        return True  # there will be none, and it is told where it is looked for
    return any(one.accepted for one in found)


def quick_choice(wanted: Wanted, on_step: Callable[[str], None]) -> Choice:
    """The fastest of the engines that were accepted here already; where there is none, the first of `QUICK`.

    Judging an engine takes longer than building it, so that only as many are built as are needed to have one.

    Raises:
        ScansideError: the bundle cannot be opened, or takes no such images.
    """
    from scanside.engines.backends import NAMES
    from scanside.engines.build import Workshop
    from scanside.engines.cache import EngineCache
    from scanside.engines.choice import Candidate, rank
    from scanside.engines.times import Runners, Timekeeper

    def tell(step: str) -> None:
        on_step(f"engine for {wanted.pipeline}: {step}")

    tell("looking for it")
    source, cache = wanted.source(), EngineCache()
    workshop = Workshop(source, cache, tell)
    built = workshop.candidates([name for name in NAMES if name != "eager"], build=False)
    found = {(one.backend, one.precision): one for one in built}
    long = source.bundle.manifest.task == "unrolled" and source.form == "principal"
    for name, precision in QUICK_UNROLLED if long else QUICK:
        if any(one.accepted for one in found.values()):
            break
        (one,) = workshop.candidates((name,), precision)
        found[name, precision] = one
    found.setdefault(
        ("eager", "fp32"), Candidate("eager", "fp32", reason="not needed: it is the slow reference")
    )
    candidates = list(found.values())
    return rank(candidates, Timekeeper(Runners(source), cache, tell).times(candidates, measure=True))


def main() -> None:
    """Have an engine ready."""
    with suppress(ScansideError):
        quick_choice(Wanted.parse(sys.argv[1]), lambda _: None)


if __name__ == "__main__":
    main()
