"""Plans of TensorRT-RTX for every bundle that is found, in every precision: ``python -m scanside_deploy.plans``.

Shows that the real builder takes what Scanside ships; ``make plans`` makes the environment that it needs, which has
no GPU. Of each bundle, the first of its sizes is built.

Exit status: 0 if all plans were built, 1 if one was refused, 2 if none can be built here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles, find_bundle
from scanside.engines.manifest import Precision
from scanside.engines.plans import DEFAULT_TARGETS, PlanRecord, build_plan_folder
from scanside.errors import BackendUnavailable, EngineError, ScansideError

__all__ = ["Outcome", "build_plans", "main"]

_MOST_COILS = 8  # more are compressed


@dataclass(frozen=True)
class Outcome:
    """What became of one plan.

    Attributes:
        bundle: its name.
        shape: ``(k1, k0)``.
        precision: of the graph.
        record: of the plan; None where it was refused.
        refusal: why.
    """

    bundle: str
    shape: tuple[int, int]
    precision: Precision
    record: PlanRecord | None
    refusal: str = ""

    def __str__(self) -> str:
        start = f"{self.bundle:<20} {'×'.join(map(str, self.shape))}  {self.precision}"
        if self.record is None:
            return f"{start}  refused: {self.refusal}"
        record = self.record
        return (
            f"{start}  {record.layers:>6} layers  {record.size / 1e6:6.1f} MB  {record.build_seconds:6.1f} s  "
            f"for {', '.join(record.targets)}"
        )


def build_plans(
    names: Sequence[str],
    output: Path,
    targets: Sequence[str] = DEFAULT_TARGETS,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Build the plans of bundles, one after the other.

    Args:
        names: of the bundles.
        output: folder for the plans; those that are there are replaced.
        targets: compute capabilities of the GPUs that they are for.
        progress: is told what is being done.

    Raises:
        BackendUnavailable: this machine lacks what building takes; says what.
        ScansideError: a bundle is not what it should be.
    """
    for name in names:
        bundle = Bundle.open(find_bundle(name))
        shapes = bundle.manifest.shapes
        source = BundleSource(bundle, shapes.buckets[0], shapes.coils_for(_MOST_COILS))
        for precision in sorted(bundle.manifest.precisions, reverse=True):  # fp32 first
            try:
                _, record = build_plan_folder(
                    source, precision, output, targets, replace=True, progress=progress
                )
            except BackendUnavailable:
                raise
            except EngineError as error:
                yield Outcome(name, source.shape, precision, None, str(error))
            else:
                yield Outcome(name, source.shape, precision, record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build them and write a line for each."""
    parser = argparse.ArgumentParser(prog="python -m scanside_deploy.plans", description=__doc__)
    parser.add_argument("bundles", nargs="*", help="names of bundles; by default all that are found")
    parser.add_argument(
        "-o", "--output", type=Path, help="folder for the plans, which are kept; not by default"
    )
    parser.add_argument("--gpus", default=",".join(DEFAULT_TARGETS), help="compute capabilities: %(default)s")
    options = parser.parse_args(arguments)
    n_plans = n_refused = 0
    where = (
        nullcontext(options.output)
        if options.output
        else tempfile.TemporaryDirectory(prefix="scanside-plans-")
    )
    try:
        with where as folder:
            names = options.bundles or list(available_bundles())
            for outcome in build_plans(names, Path(folder), options.gpus.split(",")):
                n_plans += outcome.record is not None
                n_refused += outcome.record is None
                _say(str(outcome))
    except ScansideError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _say(f"{n_plans} plans, {n_refused} refused")
    return 1 if n_refused else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
