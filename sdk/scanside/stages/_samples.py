"""What stages do with samples that do not lie on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch

from scanside.errors import NonFiniteError
from scanside.items import Samples
from scanside.recon.noise_level import level_of
from scanside.recon.noncartesian.density import (
    in_planes,
    interleaved_density,
    pipe_menon,
    with_middle,
    within_cells,
)
from scanside.recon.noncartesian.stack import planes_of
from scanside.stages._finite import is_finite

__all__ = ["Density", "cell_weights", "density_of", "flat_points", "noise_of_samples", "require_finite"]

Density: TypeAlias = Literal["auto", "pipe-menon"]

_PAST = 0.05  # steps between samples: a readout that passes the centre so far away passes through it
_ALIKE = 6.0  # steps between samples: gradients that lag behind change no more
_OUTERMOST = 15 / 16  # of the largest distance from the centre


def flat_points(item: Samples) -> torch.Tensor:
    """The points ``(n, dimension)`` along the image's axes in their order, slowest first."""
    return item.points.flip(-1).flatten(0, 1)


def density_of(item: Samples, how: Density) -> torch.Tensor:
    """Density compensation ``(readout, sample)`` of an image's samples."""
    if item.points.shape[-1] == 2:
        return _in_plane(item.points, item.shape, how)
    planes = planes_of(item.points[..., 2], item.shape[0])
    if planes is None or not bool((planes == planes[:, :1]).all()):
        return pipe_menon(flat_points(item), item.shape).reshape(item.points.shape[:2])
    return in_planes(item.points[..., :2], planes[:, 0], lambda plane: _in_plane(plane, item.shape[1:], how))


def _in_plane(points: torch.Tensor, shape: Sequence[int], how: Density) -> torch.Tensor:
    """Density compensation ``(readout, sample)`` of points ``(readout, sample, 2)`` along x and y."""
    if how == "auto" and _are_rotations(points):
        weights = interleaved_density(points, shape)
        return with_middle(weights, points.flip(-1), shape) if _miss_centre(points) else weights
    return pipe_menon(points.flip(-1).flatten(0, 1), shape).reshape(points.shape[:2])


def cell_weights(item: Samples, how: Density) -> torch.Tensor:
    """Weights of data consistency ``(readout, sample)``, see `scanside.recon.noncartesian.density.within_cells`."""
    return within_cells(density_of(item, how), item.points.flip(-1), item.shape)


def noise_of_samples(item: Samples) -> float:
    """Standard deviation of the noise's real part, from the outermost samples, where there is hardly any signal."""
    radius = item.points.norm(dim=-1)
    return float(level_of(item.data[:, radius >= _OUTERMOST * radius.max()]))


def require_finite(image: torch.Tensor, item: Samples) -> None:
    """Raise if an image holds NaN or infinity, naming the readout that brought it.

    Raises:
        NonFiniteError: it does.
    """
    if is_finite(image):
        return
    broken = ~torch.isfinite(item.data).all(-1).all(0).cpu().numpy()
    if not broken.any():
        raise NonFiniteError(
            "NaN or infinite values came out of finite samples: look at trajectory and settings"
        )
    counters = item.headers[0]["scan_counter"][np.asarray(broken)]
    raise NonFiniteError(
        f"{len(counters)} readouts hold NaN or infinite samples, the first with scan counter {int(counters[0])}"
    )


def _are_rotations(points: torch.Tensor) -> bool:
    """Whether readouts of a plane are one curve, turned about the centre, but for gradients that lag behind."""
    radius = points.norm(dim=-1)
    step = float(points.diff(dim=1).norm(dim=-1).max())
    return bool(((radius - radius.median(dim=0).values).abs() <= _ALIKE * step).all())


def _miss_centre(points: torch.Tensor) -> bool:
    """Whether no sample of a readout lies in the centre of k-space, as that of an echo does."""
    step = points.diff(dim=1).norm(dim=-1).amin()
    return bool(points.norm(dim=-1).amin(1).max() > _PAST * step)
