"""Delays of the gradients against the samples of spokes, from the places where spokes cross.

Where gradients lag behind, a spoke does not pass the centre of k-space when it is thought to, and two spokes cross
elsewhere along each of them. There both must have measured the same. As in RING, the delay along a spoke of
direction n is ``D n``, with a symmetric matrix D that is the same for all spokes; here D is fitted to all crossings
at once.

Rosenzweig, Holme, Uecker: *Simple auto-calibrated gradient delay estimation from few spokes using Radial
Intersections (RING)*, Magn Reson Med 81:1898-1906 (2019). The matrix: Moussavi, Untenberger, Uecker, Frahm, Magn
Reson Med 71:308-312 (2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import CalibrationError, ShapeError

__all__ = ["Delays", "delayed", "is_spokes", "spoke_delays"]

Values = npt.NDArray[np.complex128]
Reals = npt.NDArray[np.float64]

_FEWEST = 5  # spokes
_MOST = 64  # spokes that are looked at
_PARTNERS = 8  # of each spoke, those that cross it most nearly at right angles
_STEEP = 0.5  # sine of the least angle between spokes whose crossing counts
_LARGEST = 4.0  # samples
_STEP = 0.5  # of the search for a beginning, in samples
_FINE = 4  # places of a spoke in every sample, for that search
_SPREAD = 0.05  # least singular value, against the largest, of a set of angles that tells all of D
_AGREE = 0.25  # of the signal at the crossings may differ
_CERTAIN = 0.1  # samples: largest standard error
_ITERATIONS = 20
_SMALL = 1e-4  # samples: steps that end the iterations
_STRAIGHT = 1e-3  # cycles per voxel
_SHORTEST = 8  # samples


@dataclass(frozen=True)
class Delays:
    """By how many samples the gradients of a plane lag behind.

    Attributes:
        x: gradient along x.
        y: gradient along y.
        xy: what a gradient along x lags for one along y, and the other way round.
        error: largest standard error of the three.
        disagreement: share of the signal at the crossings in which spokes differ: 0 to 1.
    """

    x: float
    y: float
    xy: float
    error: float = 0.0
    disagreement: float = 0.0


def is_spokes(points: torch.Tensor) -> bool:
    """Whether readouts ``(spoke, sample, 2)`` are straight, at equal steps, and pass the centre closely."""
    if points.ndim != 3 or points.shape[-1] != 2 or points.shape[1] < _SHORTEST:
        return False
    n = points.shape[1]
    number = torch.arange(n, device=points.device)[:, None] - n // 2
    steps = _steps(points)
    away = points - points[:, n // 2 : n // 2 + 1] - steps * number
    # The ends may have been held at the edge of k-space.
    straight = bool((away[:, n // 4 : n - n // 4].abs() <= _STRAIGHT).all())
    through = bool(((points[:, 0] * points[:, -1]).sum(-1) < 0).all())
    return (
        straight
        and through
        and bool((points.norm(dim=-1).amin(1) <= _LARGEST * steps.norm(dim=-1)[:, 0]).all())
    )


def spoke_delays(samples: torch.Tensor, points: torch.Tensor) -> Delays:
    """The delays of spokes through the centre of a plane.

    Args:
        samples: ``(coil, spoke, sample)``.
        points: ``(spoke, sample, 2)`` where they are thought to lie, in any unit along each axis.

    Raises:
        CalibrationError: they cannot be told: too few spokes, angles that do not spread, spokes that do not agree
            with any delays up to four samples, or noise.
        ShapeError: samples and points do not fit.
    """
    if samples.shape[1:] != points.shape[:2] or points.shape[-1] != 2:
        raise ShapeError(
            "spokes need samples (coil, spoke, sample) and points (spoke, sample, 2), got "
            f"{tuple(samples.shape)} and {tuple(points.shape)}"
        )
    chosen = torch.linspace(0, points.shape[0] - 1, min(len(points), _MOST)).round().long()
    spokes = _Spokes.of(samples[:, chosen.to(samples.device)], points[chosen.to(points.device)])
    if not spokes.spectrum.any():
        raise CalibrationError("the spokes hold no signal")
    crossings = _Crossings.of(spokes)
    start = _search(spokes, crossings)
    found, error = _refine(spokes, crossings, start)
    disagreement = spokes.disagreement(crossings, found)
    if not disagreement <= _AGREE:
        raise CalibrationError(
            f"spokes differ in {100 * disagreement:.0f} % of the signal where they cross, with the best delays "
            f"({_text(found)} samples) too, expected at most {100 * _AGREE:.0f} %: noise, motion, or another "
            "trajectory"
        )
    if not error <= _CERTAIN:
        raise CalibrationError(
            f"they are uncertain by more than {_CERTAIN:g} samples: the spokes are too few or too noisy, or lie "
            "elsewhere"
        )
    if np.abs(found).max() > _LARGEST:
        raise CalibrationError(
            f"they come to {_text(found)} samples, and more than {_LARGEST:g} are not trusted: look at the sample at "
            "which the trajectory passes the centre"
        )
    x, y, xy = (float(one) for one in found)
    return Delays(x, y, xy, error, disagreement)


def delayed(points: torch.Tensor, delays: Delays) -> torch.Tensor:
    """Where samples lie with gradients that lag behind, ``(readout, sample, 2 or 3)`` within ±0.5 cycles per voxel.

    Args:
        points: of readouts at equal steps along each, where they are thought to lie.
        delays: of the first two dimensions.
    """
    lag = points.new_tensor([[delays.x, delays.xy], [delays.xy, delays.y]])
    moved = points.clone()
    moved[..., :2] -= _steps(points)[..., :2] @ lag
    return moved.clamp(-0.5, 0.5)


def _steps(points: torch.Tensor) -> torch.Tensor:
    """From one sample to the next, ``(readout, 1, dimension)``, in the middle of readouts."""
    n = points.shape[1]
    return (points[:, n - n // 4 - 1, None] - points[:, n // 4, None]) / (n - n // 4 - 1 - n // 4)


@dataclass(frozen=True)
class _Spokes:
    """Spokes as functions of the place along them, in samples from where they are thought to pass the centre.

    Attributes:
        steps: ``(spoke, 2)`` from one sample to the next; about 1 long.
        feet: ``(spoke, 2)`` where they are thought to pass the centre, in the same unit.
        spectrum: ``(coil, spoke, n)``.
        frequencies: ``(n)`` radians per sample.
        centres: ``(spoke)`` sample number of the foot.
    """

    steps: Reals
    feet: Reals
    spectrum: Values
    frequencies: Reals
    centres: Reals

    @classmethod
    def of(cls, samples: torch.Tensor, points: torch.Tensor) -> _Spokes:
        n = points.shape[1]
        steps = _steps(points)[:, 0].double().cpu().numpy()
        middle = points[:, n // 2].double().cpu().numpy()
        past = (middle * steps).sum(1) / np.square(steps).sum(1)
        length = np.linalg.norm(steps, axis=1).mean()
        return cls(
            steps / length,
            (middle - past[:, None] * steps) / length,
            np.fft.fft(samples.cpu().numpy().astype(np.complex128)) / n,
            np.asarray(2 * np.pi * np.fft.fftfreq(n), np.float64),
            np.asarray(n // 2 - past, np.float64),
        )

    def at(self, which: npt.NDArray[np.int64], places: Reals) -> tuple[Values, Values]:
        """Values and slopes ``(coil, m)`` of spokes `which` ``(m)`` at places ``(m)``."""
        turns = np.exp(1j * np.outer(places + self.centres[which], self.frequencies))
        spectrum = self.spectrum[:, which]
        return (
            np.einsum("cmn,mn->cm", spectrum, turns),
            np.einsum("cmn,mn->cm", spectrum, turns * (1j * self.frequencies)),
        )

    def disagreement(self, crossings: _Crossings, delays: Reals) -> float:
        """Share of the signal at the crossings in which the spokes differ."""
        (one, at_one), (other, at_other) = crossings.sides(delays)
        return _differ(self.at(one, at_one)[0], self.at(other, at_other)[0])


@dataclass(frozen=True)
class _Crossings:
    """Pairs of spokes that cross.

    Attributes:
        spokes: ``(m, 2)`` their numbers.
        places: ``(m, 2)`` of the crossing along each without delays, in samples.
        rates: ``(m, 2, 3)`` by how much these places move with delays (x, y, xy) of 1.
    """

    spokes: npt.NDArray[np.int64]
    places: Reals
    rates: Reals

    @classmethod
    def of(cls, spokes: _Spokes) -> _Crossings:
        steps = spokes.steps
        along = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        sine = np.abs(along[:, 0, None] * along[:, 1] - along[:, 1, None] * along[:, 0])
        pairs = sorted(
            {
                (min(i, int(j)), max(i, int(j)))
                for i in range(len(steps))
                for j in np.argsort(-sine[i], kind="stable")[:_PARTNERS]
                if sine[i, j] >= _STEEP
            }
        )
        if len(steps) < _FEWEST or len(pairs) < _FEWEST:
            raise CalibrationError(
                f"{len(steps)} spokes have {len(pairs)} crossings at 30° or more, expected at least {_FEWEST} of both"
            )
        numbers = np.array(pairs, np.int64)
        one, other = numbers.T
        # They cross at a and b: foot + a·step − D step of the one is the same of the other.
        apart, nothing = steps[one] - steps[other], np.zeros(len(pairs))
        rows = [[apart[:, 0], nothing, apart[:, 1]], [nothing, apart[:, 1], apart[:, 0]]]
        right = np.moveaxis(np.array(rows), -1, 0)
        offset = (spokes.feet[other] - spokes.feet[one])[..., None]
        solved = np.linalg.solve(
            np.stack([steps[one], -steps[other]], axis=-1), np.concatenate([right, offset], axis=-1)
        )
        values = np.linalg.svd(solved[..., :3].reshape(-1, 3), compute_uv=False)
        if values[-1] < _SPREAD * values[0]:
            raise CalibrationError(
                "the spokes' angles do not spread far enough to tell the delays of both axes"
            )
        return cls(numbers, solved[..., 3], solved[..., :3])

    def sides(self, delays: Reals) -> list[tuple[npt.NDArray[np.int64], Reals]]:
        """Of the one and the other spoke of each crossing: its number, and the place along it."""
        places = self.places + self.rates @ delays
        return [(self.spokes[:, side], places[:, side]) for side in (0, 1)]


def _search(spokes: _Spokes, crossings: _Crossings) -> Reals:
    """The delays of a grid with which spokes agree best: the way down to the best begins there."""
    along = np.arange(-_LARGEST, _LARGEST + _STEP, _STEP)
    oblique = along[np.abs(along) <= _LARGEST / 2]
    reach = np.ceil(np.abs(crossings.places).max() + _LARGEST * np.abs(crossings.rates).sum(-1).max())
    places = np.arange(-reach, reach + 1 / _FINE, 1 / _FINE)
    table = np.stack(
        [
            spokes.spectrum[:, i] @ np.exp(1j * np.outer(spokes.frequencies, places + centre))
            for i, centre in enumerate(spokes.centres)
        ],
        axis=1,
    )
    best, least = np.zeros(3), np.inf
    for delays in np.stack(np.meshgrid(along, along, oblique), -1).reshape(-1, 3):
        one, other = (
            table[:, which, np.rint((at - places[0]) * _FINE).astype(int)]
            for which, at in crossings.sides(delays)
        )
        if (differ := _differ(one, other)) < least:
            best, least = delays, differ
    return best


def _refine(spokes: _Spokes, crossings: _Crossings, delays: Reals) -> tuple[Reals, float]:
    """Least squares of the differences at the crossings by Gauss and Newton, and the largest standard error."""
    first, second = crossings.rates[:, 0], crossings.rates[:, 1]
    for _ in range(_ITERATIONS):
        (one, slope_one), (other, slope_other) = (
            spokes.at(which, at) for which, at in crossings.sides(delays)
        )
        change = slope_one[..., None] * first - slope_other[..., None] * second
        jacobian, misfit = change.reshape(-1, 3), (one - other).ravel()
        normal = (jacobian.conj().T @ jacobian).real
        step = np.linalg.lstsq(normal, -(jacobian.conj().T @ misfit).real, rcond=None)[0]
        delays = delays + step
        if np.abs(step).max() < _SMALL or np.abs(delays).max() > 2 * _LARGEST:
            break
    # The slopes hold noise too, which tells nothing of the delays: half of the differences' comes from each spoke.
    power = float(np.vdot(misfit, misfit).real) / len(misfit)
    noise = (
        len(one) * power / 2 * float((spokes.frequencies**2).mean()) * (first.T @ first + second.T @ second)
    )
    known, axes = np.linalg.eigh(normal - noise)
    if known[0] <= 0:
        return delays, np.inf
    # The crossings of one spoke share its noise: spokes count, not crossings.
    shared = 2 * len(crossings.spokes) / len(spokes.steps)
    error = np.sqrt(((axes**2) @ (1 / known)).max() * power / 2 * shared)
    return delays, float(error)


def _differ(one: Values, other: Values) -> float:
    power = float((np.abs(one) ** 2).sum() + (np.abs(other) ** 2).sum())
    return float((np.abs(one - other) ** 2).sum()) / power if power > 0 else np.inf


def _text(delays: Reals) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(("x", "y", "xy"), delays, strict=True))
