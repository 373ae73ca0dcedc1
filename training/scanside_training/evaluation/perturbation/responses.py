"""What became of a structure: how much was kept, where it went, how wide it grew, and what appeared elsewhere.

Of complex images the part of a change counts that is in phase with the candidate's own image, which is what changes
its magnitude. All is relative to the candidate's gain, the factor between its image and the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import ConfigError, ScanError
from scanside.metrics import Mask, Real
from scanside_training.evaluation.candidates.classical import line_distance
from scanside_training.evaluation.perturbation.structures import Added

__all__ = ["Measured", "Reading", "measured", "replica_shifts"]

_NEAR = 3.0
"""Pixels around a structure that still count as its place; around larger ones its own radius."""
_SEEN = 0.1
"""Share of a structure that must be kept for its place and width to mean anything."""

Pixels = npt.NDArray[np.float64] | npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Reading:
    """How changes of a candidate's images are read.

    Attributes:
        phase: ``(y, x)`` complex of magnitude 1, that of the image without a structure; None of real images.
        gain: the image over the reference.
    """

    phase: npt.NDArray[np.complex128] | None
    gain: float

    @classmethod
    def of(cls, image: torch.Tensor, reference: Real, roi: Mask) -> Reading:
        """Of a candidate whose image without a structure is known.

        Args:
            image: ``(y, x)``, real or complex.
            reference: ``(y, x)`` magnitude.
            roi: where both are compared.

        Raises:
            ScanError: the image is zero or not finite, so that nothing can be related to it.
        """
        pixels = _pixels(image)
        # The projection on the reference is no smaller where the image is noisy, as the best fit of the image is.
        gain = float((abs(pixels) * reference)[roi].sum() / (reference[roi] ** 2).sum())
        if not (np.isfinite(gain) and gain > 0):
            raise ScanError(f"the image is {gain:g} times the reference: nothing can be related to it")
        return cls(np.exp(1j * np.angle(pixels)) if np.iscomplexobj(pixels) else None, gain)

    def change(self, image: torch.Tensor, without: torch.Tensor) -> Pixels:
        """The difference of two images on the scale of the reference, complex where they are."""
        change: Pixels = (_pixels(image) - _pixels(without)) / self.gain
        return change

    def seen(self, pixels: Pixels) -> Real:
        """The part of pixels that is in phase with the image."""
        return np.asarray(pixels.real if self.phase is None else (pixels * self.phase.conj()).real)

    def value(self, image: torch.Tensor, profile: Real) -> float:
        """What a matched filter finds: the sum of an image in phase times a profile, on the reference's scale."""
        return float((self.seen(_pixels(image)) * profile).sum() / self.gain)


@dataclass(frozen=True)
class Measured:
    """What became of a structure.

    Attributes:
        kept: of its contrast: the response times the structure over the structure's square, 1 for all of it.
        displacement: of the response's centroid, pixels; None where hardly anything was kept.
        blurring: root-mean-square radius of the response less that of the structure, pixels; None as above.
        elsewhere: energy of the change away from the structure over the structure's energy.
        replicas: the part of it where regular undersampling folds the structure to; None where lines are irregular.
    """

    kept: float
    displacement: float | None
    blurring: float | None
    elsewhere: float
    replicas: float | None


def measured(change: Pixels, seen: Real, added: Added, shifts: Sequence[int]) -> Measured:
    """Measure a response.

    Centroid and radius are those of the square of what has the structure's sign near it: what noise and ringing leave
    around it hardly counts then.

    Args:
        change: ``(y, x)``, the difference of the images with and without the structure.
        seen: the part of it in phase with the image.
        added: the structure.
        shifts: pixels along y to its replicas.
    """
    truth = added.amplitude * added.profile
    energy = float((truth**2).sum())
    kept = float((seen * truth).sum()) / energy
    place = (added.structure.y, added.structure.x)
    reach = added.reach + max(_NEAR, added.reach)
    near = _near(seen.shape, place, reach)
    power = np.abs(change) ** 2
    displacement = blurring = None
    if kept > _SEEN:
        own, found = (_moments(np.sign(added.amplitude) * one, near) for one in (truth, seen))
        displacement = float(np.hypot(found[0] - own[0], found[1] - own[1]))
        blurring = found[2] - own[2]
    replicas = None
    if shifts:
        folded = np.any([np.roll(near, shift, axis=0) for shift in shifts], axis=0)
        replicas = float(power[folded & ~near].sum()) / energy
    return Measured(kept, displacement, blurring, float(power[~near].sum()) / energy, replicas)


def replica_shifts(mask: torch.Tensor) -> tuple[int, ...]:
    """Pixels along y from a structure to where regular lines ``(k1,)`` fold it to; none of irregular lines."""
    try:
        distance = line_distance(mask)
    except ConfigError:
        return ()
    return tuple(round(len(mask) * fold / distance) for fold in range(1, distance))


def _near(shape: tuple[int, ...], place: tuple[float, float], reach: float) -> Mask:
    y, x = np.ogrid[: shape[0], : shape[1]]
    near: Mask = (y - place[0]) ** 2 + (x - place[1]) ** 2 <= reach**2
    return near


def _moments(response: Real, near: Mask) -> tuple[float, float, float]:
    """Centroid (y, x) and root-mean-square radius of the square of what is positive near the structure."""
    weights = np.where(near, np.maximum(response, 0), 0) ** 2
    weights = weights / weights.sum()
    y, x = np.ogrid[: weights.shape[0], : weights.shape[1]]
    center = float((weights * y).sum()), float((weights * x).sum())
    square = float((weights * ((y - center[0]) ** 2 + (x - center[1]) ** 2)).sum())
    return *center, square**0.5


def _pixels(image: torch.Tensor) -> Pixels:
    pixels: Pixels = (
        image.detach().cpu().to(torch.complex128 if image.is_complex() else torch.float64).numpy()
    )
    return pixels
