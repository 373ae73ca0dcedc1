"""Engines for the demonstration: those that are ready, else the first that is built quickly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scanside.engines.backends.base import Precision
    from scanside.engines.choice import Choice

__all__ = ["QUICK", "QUICK_UNROLLED", "quick_choice"]

QUICK: tuple[tuple[str, Precision], ...] = (
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("eager", "bf16"),
    ("eager", "fp32"),
)
"""Engines that are built in seconds, in the order in which they are tried, the fastest first as a rule."""

QUICK_UNROLLED = QUICK[-2:]
"""Of unrolled networks, whose many steps of data consistency make every check a long one: those accepted at once."""


def quick_choice(
    pipeline: str, size: tuple[int, int], n_coils: int, on_step: Callable[[str], None]
) -> Choice:
    """The fastest of the engines that were accepted here already; where there is none, the first of `QUICK`.

    Judging an engine takes longer than building it, so that only as many are built as are needed to have one.

    Raises:
        ScansideError: the bundle cannot be opened, or takes no such images.
    """
    from scanside.engines.backends import NAMES
    from scanside.engines.build import BundleSource, Workshop
    from scanside.engines.bundle import Bundle
    from scanside.engines.cache import EngineCache
    from scanside.engines.catalog import find_bundle
    from scanside.engines.choice import Candidate, rank
    from scanside.engines.shapes import fit
    from scanside.engines.times import Runners, Timekeeper
    from scanside.pipeline import Pipeline
    from scanside.stages.engine import RunEngine

    (stage,) = (one for one in Pipeline.load(pipeline).stages if isinstance(one, RunEngine))
    bundle = Bundle.open(find_bundle(stage.config.bundles[0]))
    shapes = bundle.manifest.shapes
    bucket = fit(bundle.manifest.lowering, shapes, *size).bucket
    source = BundleSource(bundle, bucket, None if shapes.coils is None else n_coils)
    cache = EngineCache()

    def tell(step: str) -> None:
        on_step(f"engine for {pipeline}: {step}")

    workshop = Workshop(source, cache, tell)
    built = workshop.candidates([name for name in NAMES if name != "eager"], build=False)
    found = {(one.backend, one.precision): one for one in built}
    for name, precision in QUICK_UNROLLED if bundle.manifest.task == "unrolled" else QUICK:
        if any(one.accepted for one in found.values()):
            break
        (one,) = workshop.candidates((name,), precision)
        found[name, precision] = one
    found.setdefault(
        ("eager", "fp32"), Candidate("eager", "fp32", reason="not needed: it is the slow reference")
    )
    candidates = list(found.values())
    return rank(candidates, Timekeeper(Runners(source), cache, tell).times(candidates, measure=True))
