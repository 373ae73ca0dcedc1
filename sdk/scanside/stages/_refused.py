"""Why a network's image is not taken, on the way to the classical one."""

from __future__ import annotations

from scanside.engines.verdicts import Why
from scanside.stages._self_check import Verdict

__all__ = ["Refused"]


class Refused(Exception):
    """A network's image is not to be had, or not to be used.

    Args:
        why: in one word.
        text: the same for an operator.
        verdict: where it is one of the self-check.
    """

    def __init__(self, why: Why, text: str, verdict: Verdict | None = None) -> None:
        super().__init__(text)
        self.why = why
        self.verdict = verdict
