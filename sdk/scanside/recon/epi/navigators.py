"""Phases of echoes from navigators: three or more echoes of the central line, forwards and backwards in turn.

Heid: *Robust EPI phase correction*, Proc ISMRM 1997:2014. Phases are fitted along the readout in the image domain,
over all coils.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError

__all__ = ["B0Model", "EchoPhases", "PhaseModel", "phases_of_navigators", "places"]

PhaseModel: TypeAlias = Literal["none", "mean", "linear", "polynomial"]
B0Model: TypeAlias = Literal["none", "mean", "linear"]

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EchoPhases:
    """What the phases of echoes depend on, along the readout.

    Attributes:
        odd_even: ``(x)``, phase in rad that reversed echoes have more than the others.
        per_echo: ``(x)``, phase in rad that echoes gain from one to the next.
    """

    odd_even: Reals
    per_echo: Reals

    def correction(
        self, backwards: npt.NDArray[np.bool_], echo: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.complex64]:
        """Factors ``(n, x)`` for echoes by their direction and their number in the train.

        Half of the phase between both directions goes to each.
        """
        half = np.where(backwards, 0.5, -0.5)[:, None] * self.odd_even
        return np.asarray(np.exp(-1j * (half + echo[:, None] * self.per_echo)), dtype=np.complex64)


def places(n: int) -> Reals:
    """Places ``(x)`` along the readout, in fields of view from the centre."""
    return np.asarray((np.arange(n) - n // 2) / n)


def phases_of_navigators(
    navigators: npt.NDArray[np.complexfloating],
    *,
    first_backwards: bool,
    odd_even: PhaseModel = "polynomial",
    per_echo: B0Model = "mean",
    order: int = 4,
) -> EchoPhases:
    """Phases of the echoes that follow some navigators.

    The phase between navigators two apart, which have one direction, is twice that from echo to echo. With it both
    are brought to the time of the one between them, and the phase of that one against them is that between the
    directions. The polynomial is fitted to what a straight line leaves, weighted by magnitude.

    Args:
        navigators: ``(n, coil, x)``, transformed along the readout, after reversed ones were turned round.
        first_backwards: whether the first one was reversed; directions alternate.
        odd_even: what is fitted to the phase between both directions.
        per_echo: what is fitted to the phase from echo to echo.
        order: of the polynomial.

    Raises:
        ShapeError: there are fewer than three.
    """
    n = len(navigators)
    if n < 3:
        raise ShapeError(f"phases need three navigators or more, got {n}")
    echoes = navigators.astype(np.complex128)
    between = np.einsum("ncx,ncx->x", echoes[:-2].conj(), echoes[2:])
    gained = _fitted(between, per_echo) / 2
    turn = np.exp(1j * gained)
    against = np.zeros(echoes.shape[2], np.complex128)
    for first in range(n - 2):
        before, middle, after = echoes[first : first + 3]
        product = ((before * turn + after / turn).conj() * middle).sum(axis=0)
        # The middle one of a triple is reversed if the first is not.
        is_backwards = (first % 2 == 0) != first_backwards
        against += product if is_backwards else product.conj()
    return EchoPhases(_fitted(against, odd_even, order), gained)


def _fitted(product: npt.NDArray[np.complex128], model: PhaseModel, order: int = 1) -> Reals:
    """A smooth phase ``(x)`` of complex values ``(x)``, which count by their magnitude."""
    x = places(len(product))
    if model == "none":
        return np.zeros_like(x)
    slope = 0.0
    if model != "mean":
        slope = float(np.angle(np.vdot(product[:-1], product[1:]))) * len(x)
    straight = product * np.exp(-1j * slope * x)
    constant = float(np.angle(straight.sum()))
    phase = constant + slope * x
    if model == "polynomial":
        rest = np.angle(straight * np.exp(-1j * constant))
        # Powers of the distance in half fields of view, where they stay apart numerically.
        powers = np.vander(2 * x, order + 1)
        weight = np.sqrt(np.abs(product))
        fit = np.linalg.lstsq(powers * weight[:, None], rest * weight, rcond=None)[0]
        phase = phase + powers @ fit
    return np.asarray(phase)
