"""Which trial trains next, and how far: asynchronous successive halving.

Li et al., *A system for massively parallel hyperparameter tuning*, MLSys (2020), algorithm 2. Decisions hang on what
was told alone and not on the clock, so that telling the same again leads to the same place.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Halving"]


class Halving:
    """Trials on their way through rungs.

    Args:
        n_trials: how many there are.
        rungs: steps of each rung, rising; with a single one every trial is trained to the end.
        reduction: one of so many goes on from each rung.
    """

    def __init__(self, n_trials: int, rungs: Sequence[int], reduction: int) -> None:
        self.rungs = tuple(rungs)
        self._n_trials = n_trials
        self._reduction = reduction
        self._n_begun = 0
        self._values: list[dict[int, float]] = [{} for _ in rungs]
        self._promoted: list[set[int]] = [set() for _ in rungs]

    def next(self) -> tuple[int, int] | None:
        """The trial to train on and its next rung: the best that may go on, from the highest rung; else a new one."""
        for rung in reversed(range(len(self.rungs) - 1)):
            values = self._values[rung]
            best = sorted(values, key=lambda trial: (-values[trial], trial))[: len(values) // self._reduction]
            for trial in best:
                if trial not in self._promoted[rung] and values[trial] > float("-inf"):
                    self._promoted[rung].add(trial)
                    return trial, rung + 1
        if self._n_begun == self._n_trials:
            return None
        self._n_begun += 1
        return self._n_begun - 1, 0

    def tell(self, trial: int, rung: int, value: float) -> None:
        """How good a trial is at a rung: higher is better, and minus infinity is a trial that failed."""
        self._values[rung][trial] = value

    def steps(self, rung: int) -> int:
        """Steps from the rung before to this one."""
        return self.rungs[rung] - (self.rungs[rung - 1] if rung else 0)

    @property
    def n_steps(self) -> int:
        """Steps of all trials together, if none overtakes another on a rung."""
        return sum(
            self._n_trials // self._reduction**rung * self.steps(rung) for rung in range(len(self.rungs))
        )
