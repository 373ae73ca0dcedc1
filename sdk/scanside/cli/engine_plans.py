"""Plans of TensorRT-RTX in the commands of ``scanside engines``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanside.cli.console import console, err, print_json, table

if TYPE_CHECKING:
    from rich.table import Table

    from scanside.engines.plan_states import PlanState
    from scanside.engines.plan_store import Plan
    from scanside.engines.trust import TrustPolicy

__all__ = ["install_plans", "plan_table", "plans_here", "print_plan", "states_as_json"]

_COLOURS = {"accepted": "green", "refused": "red", "damaged": "red", "waiting": "yellow", "unusable": "dim"}


def install_plans(folders: Sequence[Path], policy: TrustPolicy) -> None:
    """Install plans, and say of each what this machine makes of it."""
    from rich.markup import escape

    from scanside.engines.plan_states import plan_states
    from scanside.engines.plan_store import PlanStore

    store = PlanStore()
    installed = [store.install(folder, policy).folder for folder in folders]
    for one in plan_states():
        if one.stored.folder in installed:
            advice = f"\n  [dim]→[/] {escape(one.advice)}" if one.advice else ""
            console.print(
                f"[bold]{escape(one.name)}[/] is installed in {escape(str(one.stored.folder))}\n"
                f"  [{_COLOURS[one.state]}]{one.state}[/]: {escape(one.why)}{advice}",
                soft_wrap=True,
            )


def plans_here() -> list[PlanState]:
    """Installed plans; where the engine cache is of no use, why, on standard error, and none."""
    from scanside.engines.plan_states import plan_states
    from scanside.errors import CacheUnusable

    try:
        return plan_states()
    except CacheUnusable as error:
        err.print(f"plans are not listed: {error}", markup=False, soft_wrap=True)
        return []


def plan_table(plans: Sequence[PlanState]) -> Table:
    """Installed plans, one a row: what was built, and what this machine makes of it."""
    from rich.markup import escape

    rows = table(
        "plan",
        "for GPUs",
        "layers",
        "MB",
        "built with",
        "signed by",
        "on this machine",
        title="\nPlans that are installed",
        right=("layers", "MB"),
    )
    for one in plans:
        here = f"[{_COLOURS[one.state]}]{one.state}[/] {escape(one.why)}"
        if one.advice:
            here += f"\n[dim]→[/] {escape(one.advice)}"
        record = one.stored.record
        built = [""] * 4
        if record is not None:
            built = [
                ", ".join(record.targets),
                str(record.layers),
                f"{record.size / 1e6:.1f}",
                escape(_library(record.versions)),
            ]
        rows.add_row(
            f"[bold]{escape(one.name)}[/]",
            *built,
            escape(str(one.signer)) if one.signer else "[dim]no one[/]",
            here,
        )
    return rows


def states_as_json(plans: Sequence[PlanState]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [
        {
            "name": one.name,
            "folder": str(one.stored.folder),
            "state": one.state,
            "why": one.why,
            "advice": one.advice,
            "signer": str(one.signer) if one.signer else None,
            "record": one.stored.record.model_dump(mode="json") if one.stored.record else None,
        }
        for one in plans
    ]


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """What a plan says of itself, wherever it lies."""
    from rich.markup import escape

    record = plan.record
    if as_json:
        print_json({"folder": str(plan.folder), **record.model_dump(mode="json")})
        return
    facts = {
        "made of": f"{record.bundle} {record.version}, network in {record.precision}"
        + (f", form '{record.form}'" if record.form else ""),
        "for GPUs": f"compute capability {', '.join(record.targets)}; {record.platform}",
        "size (k1×k0)": f"{record.shape[0]}×{record.shape[1]}"
        + (f", {record.n_coils} coils" if record.n_coils else ""),
        "inputs": "; ".join(f"{one.name} {tuple(one.shape)}" for one in record.inputs),
        "output": str(tuple(record.output)),
        "layers": f"{record.layers:,}, {record.size / 1e6:.1f} MB",
        "built": f"{record.created:%Y-%m-%d} in {record.build_seconds:.0f} s with "
        + ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
        "signed by": str(plan.signer) if plan.signer else "no one",
        "weights": record.weights_sha256,
        "record": plan.sha256,
    }
    console.print(
        f"[bold]{escape(record.name)}[/]  plan of {record.backend}, built; whether it may run, each GPU decides"
    )
    console.print(f"[dim]{escape(str(plan.folder))}[/]\n", soft_wrap=True)
    rows = table("", "")
    rows.show_header = False
    for name, value in facts.items():
        rows.add_row(f"[bold]{name}[/]", escape(value))
    console.print(rows)


def _library(versions: dict[str, str]) -> str:
    """The library's own version, by the name of its package."""
    return next(
        (f"RTX {version}" for name, version in versions.items() if "rtx" in name and "torch" not in name), ""
    )
