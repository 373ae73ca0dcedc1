"""How well an observer who knows a structure, its place and the anatomy tells it from its absence.

The non-prewhitening matched filter sums an image times the structure that was added. Of its values λ with (1) and
without (0) the structure over realisations of noise, the detectability is

    ``d' = (mean λ₁ − mean λ₀) / sqrt((var λ₁ + var λ₀) / 2)``

and the area under the ROC curve the share of pairs with ``λ₁ > λ₀``. The filter is the structure itself and not the
mean difference of the same images, which would find their noise again. Barrett, Myers, *Foundations of Image
Science*, 2004, chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import mannwhitneyu

__all__ = ["area_under_roc", "d_prime"]


def d_prime(present: Sequence[float], absent: Sequence[float]) -> float:
    """The detectability d′ of an observer with these values; infinite where nothing varies but the structure."""
    difference = float(np.mean(present) - np.mean(absent))
    spread = float(np.sqrt((np.var(present, ddof=1) + np.var(absent, ddof=1)) / 2))
    if not spread:
        return float(np.sign(difference) * np.inf) if difference else 0.0
    return difference / spread


def area_under_roc(present: Sequence[float], absent: Sequence[float]) -> float:
    """The share of pairs in which the value with the structure is the larger one; ties count half."""
    statistic = mannwhitneyu(present, absent).statistic
    return float(statistic) / (len(present) * len(absent))
