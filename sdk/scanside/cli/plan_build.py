"""``scanside engines build --gpus``: plans of TensorRT-RTX for GPUs that need not be here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.cli.console import console, err, table
from scanside.errors import EngineError

if TYPE_CHECKING:
    from scanside.engines.bundle import Bundle
    from scanside_deploy.plans import Outcome

__all__ = ["build_plans"]


def build_plans(
    bundle: Bundle,
    sizes: Sequence[tuple[int, int]],
    coils: int | None,
    gpus: str | None,
    output: Path,
    *,
    replace: bool,
) -> None:
    """Build the plans of a bundle in some sizes and all its precisions, and list them.

    Args:
        bundle: what they are made of.
        sizes: ``(k1, k0)``.
        coils: that go in; None for the most, up to 8, that the bundle takes.
        gpus: compute capabilities, joined by commas; None for all generations from Ampere on.
        output: folder for the plans.
        replace: plans that are there.

    Raises:
        EngineError: some were refused, after all others were built.
    """
    from rich.markup import escape

    from scanside.engines.plan_record import DEFAULT_TARGETS, check_targets
    from scanside_deploy import plans

    targets = DEFAULT_TARGETS if gpus is None else check_targets([one.strip() for one in gpus.split(",")])

    def outcomes() -> Iterator[Outcome]:
        with err.status("") as status:
            yield from plans.build_plans(
                bundle, sizes, output, targets, n_coils=coils, replace=replace, progress=status.update
            )

    rows = table("plan", "layers", "MB", "seconds", "for GPUs", right=("layers", "MB", "seconds"))
    refused = []
    n_plans = 0
    for one in outcomes():
        n_plans += 1
        if (record := one.record) is None:
            refused.append(one)
            continue
        built = (f"{record.layers:,}", f"{record.size / 1e6:.1f}", f"{record.build_seconds:.0f}")
        rows.add_row(escape(record.name), *built, ", ".join(record.targets))
    if rows.row_count:
        console.print(rows)
        console.print(f"\nThe plans are in {output}", markup=False, soft_wrap=True)
    if refused:
        raise EngineError(f"{len(refused)} of {n_plans} plans were refused: " + "; ".join(map(str, refused)))
