"""How strongly an image is held down where the acquired lines say little: more, the noisier they are."""

from __future__ import annotations

from scanside.items import KSpace
from scanside.recon.columns import on_grid
from scanside.stages._signal import noise_of_item, snr_of

__all__ = ["NoiseWeight"]

_MOST = 1.0
"""From here on the image is the zero-filled one, but for its scale."""

_ALIKE = 2.0


class NoiseWeight:
    """λ of ``‖A x − y‖² + λ ‖x‖²``: the larger of a fixed weight and ``factor / SNR²``.

    ``1 / factor`` is the energy that a voxel is thought to have, bright tissue being 1. Calibration lines tell the
    SNR before the others have come, so that what takes long can be begun; their weight holds if it is within a factor
    of 2 of that of all lines. So the weight of a k-space does not depend on what came before it.

    Args:
        least: the fixed weight.
        factor: λ SNR²; 0 for the fixed weight alone.
    """

    def __init__(self, least: float, factor: float) -> None:
        self._least, self._factor = least, factor
        self._early: tuple[KSpace, float] | None = None

    def of(self, item: KSpace) -> float:
        """For the images of a slice; of a slab, the fixed weight."""
        if not self._factor or item.data.shape[-3] > 1:
            return self._least
        own = self._told_by(item)
        if item.reference is None:
            return own
        early = self.early(item.reference)
        return early if own / _ALIKE <= early <= own * _ALIKE else own

    def early(self, reference: KSpace) -> float:
        """What the calibration lines say."""
        if not self._factor or reference.data.shape[-3] > 1:
            return self._least
        if self._early is None or self._early[0] is not reference:
            self._early = reference, self._told_by(reference)
        return self._early[1]

    def close(self) -> None:
        """Forget the calibration lines."""
        self._early = None

    def _told_by(self, item: KSpace) -> float:
        snr = snr_of(item, noise_of_item(item)) if bool(item.mask.any()) else None
        weight = 0.0 if snr is None else min(self._factor / snr**2, _MOST)
        return on_grid(weight) if weight > self._least else self._least
