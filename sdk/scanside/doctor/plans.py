"""Installed plans: accepted here, waiting for it, or of no use on this machine, and why."""

from __future__ import annotations

from scanside.doctor.check import Check, Status
from scanside.engines.plan_states import PlanState, State, plan_states
from scanside.errors import CacheUnusable

__all__ = ["check_plans"]

_STATUS: dict[State, Status] = {
    "accepted": "ok",
    "refused": "problem",
    "waiting": "missing",
    "unusable": "missing",
    "damaged": "problem",
}


def check_plans() -> list[Check]:
    """Look at all installed plans; nothing where there are none."""
    try:
        return [_check(one) for one in plan_states()]
    except CacheUnusable as error:
        return [Check("plans", "problem", str(error), "chmod 700 it, or name another folder")]


def _check(one: PlanState) -> Check:
    signed = f"signed by {one.signer}" if one.signer else "not signed"
    words = {
        "accepted": f"installed, {signed}; accepted {one.why}",
        "refused": f"installed, {signed}; refused here: {one.why}",
        "waiting": f"installed, {signed}; {one.why}",
        "unusable": f"installed, {signed}; of no use here: {one.why}",
        "damaged": one.why,
    }
    return Check(f"plan {one.name}", _STATUS[one.state], words[one.state], one.advice)
