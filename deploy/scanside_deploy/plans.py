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
from functools import partial
from pathlib import Path

from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles, find_bundle
from scanside.engines.manifest import FormName, Precision
from scanside.engines.plan_record import DEFAULT_TARGETS, PlanRecord
from scanside.engines.plans import build_plan_folder
from scanside.errors import BackendUnavailable, EngineError, ScansideError

__all__ = ["Outcome", "build_plans", "main"]

_MOST_COILS = 8  # more are compressed


@dataclass(frozen=True)
class Outcome:
    """What became of one plan.

    Attributes:
        bundle: its name.
        shape: ``(k1, k0)``.
        form: of the network: its exact one where it has one of this size.
        precision: of the graph.
        record: of the plan; None where it was refused.
        refusal: why.
    """

    bundle: str
    shape: tuple[int, int]
    form: FormName
    precision: Precision
    record: PlanRecord | None
    refusal: str = ""

    def __str__(self) -> str:
        size = "×".join(map(str, self.shape))
        start = f"{self.bundle:<20} {size}  {self.form:<9}  {self.precision}"
        if self.record is None:
            return f"{start}  refused: {self.refusal}"
        record = self.record
        return (
            f"{start}  {record.layers:>6} layers  {record.size / 1e6:6.1f} MB  {record.build_seconds:6.1f} s  "
            f"for {', '.join(record.targets)}"
        )


def build_plans(
    bundle: Bundle,
    sizes: Sequence[tuple[int, int]],
    output: Path,
    targets: Sequence[str] = DEFAULT_TARGETS,
    *,
    n_coils: int | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Build the plans of a bundle in all its precisions, one after the other.

    Args:
        bundle: what they are made of.
        sizes: ``(k1, k0)`` of the plans.
        output: folder for the plans.
        targets: compute capabilities of the GPUs that they are for.
        n_coils: that go in; by default the most, up to 8, that the bundle takes.
        replace: plans that are there.
        progress: is told what is being done.

    Raises:
        BackendUnavailable: this machine lacks what building takes; says what.
        ConfigError: a target is no compute capability.
        FileExistsError: a plan is there, and it is not to be replaced.
        ShapeError: the bundle does not take that many coils.
    """
    shapes = bundle.manifest.shapes
    coils = n_coils or shapes.coils_for(_MOST_COILS)
    for size in sizes:
        source = BundleSource(bundle, size, coils)
        for precision in sorted(bundle.manifest.form(source.form).graphs, reverse=True):  # fp32 first
            record, refusal = None, ""
            try:
                _, record = build_plan_folder(
                    source,
                    precision,
                    output,
                    targets,
                    replace=replace,
                    progress=partial(_tell, progress, f"{bundle.name} {size[0]}×{size[1]} {precision}"),
                )
            except EngineError as error:
                if isinstance(error, BackendUnavailable):
                    raise
                refusal = str(error)
            yield Outcome(bundle.name, size, source.form, precision, record, refusal)


def _tell(progress: Callable[[str], None], which: str, text: str) -> None:
    progress(f"{which}: {text}")


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
            for name in options.bundles or available_bundles():
                bundle = Bundle.open(find_bundle(name))
                sizes = bundle.manifest.shapes.buckets[:1]
                targets = options.gpus.split(",")
                for outcome in build_plans(bundle, sizes, Path(folder), targets, replace=True):
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
