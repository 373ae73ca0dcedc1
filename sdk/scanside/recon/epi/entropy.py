"""The phase between echoes of both directions from the image itself, where there are no navigators.

Clare: *Iterative Nyquist ghost correction for single and multi-shot EPI using an entropy measure*, Proc ISMRM
2003:1041. Ghosts spread the signal over more voxels: the phase is right where the entropy of the image is least.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.recon.epi.navigators import places

__all__ = ["phase_of_least_entropy"]

Reals = npt.NDArray[np.float64]

_STEEPEST = 4 * np.pi  # rad over the field of view: echoes apart by two steps of the grid
_CONSTANTS, _SLOPES = 12, 49
_REFINEMENTS = 12
_EMPTY = 1e-3  # of the strongest column's energy: columns with less say nothing


def phase_of_least_entropy(
    forwards: npt.NDArray[np.complexfloating],
    backwards: npt.NDArray[np.complexfloating],
    *,
    slope: bool = True,
) -> Reals:
    """Phase ``(x)`` in rad that reversed lines have more than the others: a constant and a slope along the readout.

    The root sum of squares of the coils is judged. With the constant half a turn off, object and ghost change places
    and the entropy is the same: the constant in the middle of the field of view is taken to lie within ±90°.

    Args:
        forwards: ``(coil, y, x)``, the image of the lines that were read forwards, zeros in place of the others.
        backwards: the same of the reversed lines, after they were turned round.
        slope: look for a slope too.
    """
    # For lines that do not overlap, |forwards + backwards·exp(-iφ)|² needs these two only, whatever φ is.
    both = (np.abs(forwards) ** 2 + np.abs(backwards) ** 2).sum(axis=0, dtype=np.float64)
    mixed = (forwards.astype(np.complex128) * backwards.conj()).sum(axis=0)
    energy = both.sum(axis=0)
    told = energy > _EMPTY * energy.max()
    x = places(len(energy))
    if not told.any():
        return np.zeros_like(x)
    both, mixed = both[:, told], mixed[:, told]

    def entropy(constant: float, steepness: float) -> float:
        turned = mixed * np.exp(1j * (constant + steepness * x[told]))
        power = np.maximum(both + 2 * turned.real, 0)
        share = np.sqrt(power / power.sum()) + 1e-12
        return -float((share * np.log(share)).sum())

    steps = np.array([np.pi / _CONSTANTS, 2 * _STEEPEST / (_SLOPES - 1) if slope else 0.0])
    candidates = [
        (constant, steepness)
        for steepness in (np.linspace(-_STEEPEST, _STEEPEST, _SLOPES) if slope else [0.0])
        for constant in np.arange(_CONSTANTS) * steps[0] - np.pi / 2
    ]
    best = np.array(min(candidates, key=lambda one: entropy(*one)))
    offsets = np.array([(a, b) for a in (0, -1, 1) for b in ((0, -1, 1) if slope else (0,))])
    for _ in range(_REFINEMENTS):
        steps /= 2
        best = min((best + offset * steps for offset in offsets), key=lambda one: entropy(*one))
    constant = (best[0] + np.pi / 2) % np.pi - np.pi / 2
    return np.asarray(constant + best[1] * x)
