"""Parallel imaging and compressed sensing in one: what BART calls ``pics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from scanside.errors import ConfigError, ShapeError
from scanside.recon.compressed_sensing.descent import Descent
from scanside.recon.compressed_sensing.fista import fista
from scanside.recon.compressed_sensing.primal_dual import primal_dual
from scanside.recon.compressed_sensing.shrinkage import WaveletShrinkage
from scanside.recon.compressed_sensing.total_variation import TotalVariation
from scanside.recon.wavelet import Wavelet, WaveletName, levels_for, wavelet_filter

__all__ = ["Penalties", "image_wavelet", "penalty", "pics"]


@dataclass(frozen=True)
class Penalties:
    """Weights of what is added to ``½ |A x − y|²``, in the unit of the image.

    Attributes:
        wavelet: of the sum of the magnitudes of wavelet coefficients.
        tv: of total variation in space.
        temporal_tv: of total variation along the first axis, time.

    Raises:
        ConfigError: all of them are 0, which is SENSE; or one is negative, or no number.
    """

    wavelet: float = 0.0
    tv: float = 0.0
    temporal_tv: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.wavelet, self.tv, self.temporal_tv)
        if not all(weight >= 0 for weight in weights):
            raise ConfigError(f"weights of penalties must be 0 or more, got {self}")
        if not any(weights):
            raise ConfigError("compressed sensing needs a penalty, and all weights are 0: this is SENSE")


def image_wavelet(size: Sequence[int], name: WaveletName, *, film: bool = False) -> Wavelet:
    """The transform of images ``(*, *size)``: every axis is halved as long as 8 voxels are left.

    Films have few frames: time is halved as long as what is left is no shorter than the filter.

    Args:
        size: of the image ``(z, y, x)``, or of a film ``(time, z, y, x)``.
        name: which wavelet.
        film: whether the first axis is time.

    Raises:
        ShapeError: no axis in space is long enough.
    """
    in_space = Wavelet(size[1:] if film else size, name)
    if not any(in_space.levels):
        raise ShapeError(
            f"a wavelet does not fit the matrix (z, y, x) of {in_space.size}: it halves axes of 16 voxels or more, "
            "and there is none; take total variation, or leave 'pics' for 'sense'"
        )
    if not film:
        return in_space
    in_time = levels_for(size[0], len(wavelet_filter(name)))
    return Wavelet(size, name, [in_time, *in_space.levels])


def pics(
    normal: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    penalties: Penalties,
    *,
    wavelet: Wavelet | None,
    film: bool = False,
    shifts: int = 1,
    lipschitz: float = 1.0,
    tolerance: float,
    max_iterations: int,
) -> Descent:
    """Minimise ``½ |A x − y|² + wavelet |W x|₁ + tv TV(x) + temporal_tv TV_t(x)``.

    With wavelets alone by FISTA, else by primal-dual splitting, which takes more iterations.

    A wavelet transform sees edges best at some places, which leaves blocks. With several `shifts` every step takes
    the mean of what becomes of the image moved around by so many distances, `Wavelet.shifts`. This is the proximal
    map of a function next to the mean of their penalties: Yu, *Better approximation and faster algorithm using the
    proximal average*, NIPS 26:458-466 (2013). BART takes another distance at random in every step, which is faster
    and does not converge.

    What an image was continued by so that the wavelet fits, see `Wavelet`, is unknown like the image, and not seen by
    A: it becomes what is sparsest.

    Args:
        normal: ``Aᴴ A`` on images ``(*, z, y, x)`` or films ``(time, z, y, x)``.
        right: ``Aᴴ y``.
        penalties: the weights. They are those of BART's ``pics -w1``, where data are taken as they are; without
            ``-w``, BART divides data by a scale of its own.
        wavelet: from `image_wavelet`; None where its weight is 0.
        film: whether the first axis is time.
        shifts: see above; a power of 2.
        lipschitz: at least the largest eigenvalue of ``Aᴴ A``.
        tolerance: stop when x changes by less than this part of itself.
        max_iterations: stop then at the latest.
    """
    continued = wavelet if wavelet is not None and wavelet.shape != wavelet.size else None
    variations = _variations(penalties, right.shape, film, continued)
    if continued is not None:
        inside = normal

        def normal(image: torch.Tensor) -> torch.Tensor:
            return continued.continued(inside(continued.cut(image).contiguous()))

        right = continued.continued(right)
    prox = None if wavelet is None else WaveletShrinkage(penalties.wavelet, wavelet, shifts)
    if variations or prox is None:
        result = primal_dual(
            normal,
            right,
            prox,
            variations,
            lipschitz=lipschitz,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
    else:
        result = fista(
            normal, right, prox, lipschitz=lipschitz, tolerance=tolerance, max_iterations=max_iterations
        )
    if continued is None:
        return result
    return Descent(continued.cut(result.solution).contiguous(), result.changes, result.converged)


def penalty(
    image: torch.Tensor, penalties: Penalties, wavelet: Wavelet | None = None, *, film: bool = False
) -> float:
    """What `pics` with one shift adds to ``½ |A x − y|²``, with zeros where images are continued."""
    value = sum(one.value(image) for one in _variations(penalties, image.shape, film, None))
    if wavelet is not None:
        axes = tuple(range(-len(wavelet.shape), 0))
        coefficients = wavelet.forward(wavelet.continued(image).roll(wavelet.shifts(1)[0], axes))
        value += penalties.wavelet * float(coefficients.abs().double().sum())
    return value


class _Cut(TotalVariation):
    """Total variation of an image that was continued for its wavelet, within its own size."""

    def __init__(self, weight: float, axes: Sequence[int], wavelet: Wavelet) -> None:
        super().__init__(weight, axes)
        self._wavelet = wavelet

    def differences(self, image: torch.Tensor) -> torch.Tensor:
        return super().differences(self._wavelet.cut(image))

    def adjoint(self, differences: torch.Tensor) -> torch.Tensor:
        return self._wavelet.continued(super().adjoint(differences))


def _variations(
    penalties: Penalties, shape: Sequence[int], film: bool, continued: Wavelet | None
) -> list[TotalVariation]:
    in_space = [axis for axis in (-3, -2, -1) if shape[axis] > 1]
    wanted = [(penalties.tv, in_space)]
    if penalties.temporal_tv:
        if not film or shape[0] < 2:
            raise ConfigError("total variation along time needs a film of two frames or more")
        wanted.append((penalties.temporal_tv, [-len(shape)]))
    return [
        TotalVariation(weight, axes) if continued is None else _Cut(weight, axes, continued)
        for weight, axes in wanted
        if weight and axes
    ]
