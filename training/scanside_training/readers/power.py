"""How likely a study is to show non-inferiority, before it is done: by playing it many times.

Every played study draws its differences from what the form assumes and is tested as the real one will be, see
`scanside_training.readers.differences`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scanside_training.readers.differences import LEVEL, standard_error
from scanside_training.readers.form import Noninferiority, PowerConfig, Scored
from scanside_training.readers.study import ReaderStudy

__all__ = ["Power", "estimate_power", "noninferiority_power"]

_STUDIES = 4000


@dataclass(frozen=True)
class Power:
    """An estimate for one question.

    Attributes:
        question: its name.
        control: what methods are held against.
        margin: how much worse is not worse yet.
        n_readers: readers.
        n_subjects: subjects.
        power: share of studies that would show it; None of fewer than two subjects, which show nothing.
    """

    question: str
    control: str
    margin: float
    n_readers: int
    n_subjects: int
    power: float | None

    @property
    def text(self) -> str:
        """In words."""
        if self.power is None:
            return f"{self.question}: no power, as all cases are of one subject and subjects are counted"
        return (
            f"{self.question}: {100 * self.power:.0f} % power to show that a method is no worse than {self.control} "
            f"by {self.margin:g} ({self.n_readers} reader(s), {self.n_subjects} subjects)"
        )


def estimate_power(study: ReaderStudy) -> list[Power]:
    """The power of each question whose form says what is assumed."""
    n_readers = len(study.form.readers)
    n_subjects = len({one.subject for one in study.document.cases.values()})
    found = []
    for one in study.form.questions:
        wanted: Noninferiority | None = one.noninferiority if isinstance(one, Scored) else None
        if wanted and wanted.power:
            power = (
                noninferiority_power(wanted.power, wanted.margin, n_readers, n_subjects)
                if n_subjects > 1
                else None
            )
            found.append(Power(one.name, wanted.control, wanted.margin, n_readers, n_subjects, power))
    return found


def noninferiority_power(assumed: PowerConfig, margin: float, n_readers: int, n_subjects: int) -> float:
    """Share of played studies whose interval lies above ``−margin``.

    Args:
        assumed: spread and true difference.
        margin: above 0.
        n_readers: 1 or more.
        n_subjects: 2 or more.
    """
    lots = np.random.default_rng(0)
    differences = (
        assumed.effect
        + assumed.sd_readers * lots.standard_normal((_STUDIES, n_readers, 1))
        + assumed.sd_cases * lots.standard_normal((_STUDIES, 1, n_subjects))
        + assumed.sd * lots.standard_normal((_STUDIES, n_readers, n_subjects))
    )
    error, freedom = standard_error(differences)
    low = differences.mean((1, 2)) - stats.t.ppf(1 - LEVEL, freedom) * error
    return float((low > -margin).mean())
