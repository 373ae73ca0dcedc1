"""How often the self-check of learned images decides as the truth does.

The images have to be there whatever it decides: candidates are pipelines with ``engine.worse: warn``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scanside_training.evaluation.floor import FloorConfig
from scanside_training.evaluation.scores import Score

__all__ = ["MATTERS_DB", "Decisions", "decisions"]

MATTERS_DB = 0.5
"""Images that differ by less, PSNR over the whole image, count neither as rightly nor as wrongly decided."""

_NOTHING = "worse than nothing"


@dataclass(frozen=True)
class Decisions:
    """Of one learned candidate.

    Attributes:
        learned: its name.
        n_checked: images that were checked.
        n_differ: those of them that differ from the classical one that matters by `MATTERS_DB` or more.
        n_right: of these, those of which the better one would have gone out.
        wrong: names of the other scans.
        n_behind: images that would not have gone out.
    """

    learned: str
    n_checked: int
    n_differ: int
    n_right: int
    wrong: tuple[str, ...]
    n_behind: int


def decisions(scores: Iterable[Score], config: FloorConfig) -> list[Decisions]:
    """Compare what checks say with the truth, for each learned candidate that has any.

    A check compares with one classical reconstruction, which it names: that of the candidate of the same name. Where
    it finds the image worse than nothing, the first classical candidate goes out, which is thought to need no maps.
    """
    by_case: dict[str, dict[str, Score]] = {}
    for one in scores:
        by_case.setdefault(one.case, {})[one.candidate] = one
    found = []
    for name in config.learned:
        n_checked = n_differ = n_right = n_behind = 0
        wrong = []
        for case, made in by_case.items():
            word, _, against, *_ = (
                (*made[name].told.get("check", ()), "", "", "") if name in made else [""] * 3
            )
            rival = made.get(config.classical[0] if word == _NOTHING else against)
            if word in ("", "none") or rival is None or "fallback" in made[name].told:
                continue
            difference = made[name].values["psnr"] - rival.values["psnr"]
            behind = word in ("worse", _NOTHING)
            n_checked, n_behind = n_checked + 1, n_behind + behind
            if abs(difference) >= MATTERS_DB:
                right = behind == (difference < 0)
                n_differ, n_right = n_differ + 1, n_right + right
                wrong += [] if right else [case]
        if n_checked:
            found.append(Decisions(name, n_checked, n_differ, n_right, tuple(wrong), n_behind))
    return found
