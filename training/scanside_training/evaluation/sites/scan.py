"""One scan of another site as the scanner sends it, and the same without noise and with all lines: its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanside.recon.fourier import to_image
from scanside.recon.resize import crop_or_pad
from scanside.recon.scaling import image_scale
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    GivenScan,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
)
from scanside.simulate.geometry import grid_coordinates
from scanside_training.data.resample import Placement, sample_at
from scanside_training.evaluation.sites.arrays import drawn_maps
from scanside_training.evaluation.sites.objects import drawn_object
from scanside_training.evaluation.sites.plan import SitePlan

__all__ = ["site_scan"]

_FINE = 2
"""Object points per pixel along each axis."""

_REACH = 1.5
"""Extent of what is simulated over the field of view: what lies outside is heard, too."""

_OVERSAMPLING = 2

_AIR = 0.05
"""Parts of an object below this share of its bright tissue do not count for its size."""

_FOV_MM = {"knee": 160.0, "body": 400.0, "chest-measured": 360.0}
_HEAD_MM = 230.0
_FILL = {"within": (0.7, 0.88), "to-edge": (1.0, 1.03), "beyond": (1.1, 1.3)}
"""Extent of the object along the phase encoding over the field of view."""

_PATTERNS = {"regular": "equispaced", "one-sided": "random"}
_SPREAD = {"white": 0.0, "unequal": 0.6, "correlated": 0.3}
_CORRELATION = {"white": 0.0, "unequal": 0.0, "correlated": 0.6}


def site_scan(plan: SitePlan, seed: int, root: Path | None) -> tuple[GivenScan, GivenScan]:
    """The scan, and its truth: both with the same noise readouts, so that both are whitened alike.

    Args:
        plan: what is scanned, and how.
        seed: of all that is drawn for it.
        root: folder of all data, for what is measured.

    Raises:
        ConfigError: measured data are not there.
    """
    rng = np.random.default_rng([seed, plan.number])
    object_ = drawn_object(plan.object, root, rng)
    fov_x = _FOV_MM.get(plan.object, _HEAD_MM) * max(plan.columns / plan.lines, 1.0)
    fov = (fov_x * plan.lines / plan.columns, fov_x)
    fine = (2 * round(_REACH * plan.lines * _FINE / 2), 2 * round(_REACH * plan.columns * _FINE / 2))
    step = (fov[0] / plan.lines / _FINE, fov[1] / plan.columns / _FINE)
    image, half = _placed(object_, plan, fov, fine, step, rng)
    span = (fine[0] * step[0], fine[1] * step[1])
    if plan.swapped:  # the array stays where it is, and the axes of the scan change places
        span, half, fine = span[::-1], half[::-1], fine[::-1]
    maps = drawn_maps(plan.array, plan.n_coils, span, half, fine, root, rng)
    maps = maps.mT if plan.swapped else maps
    kspace = _kspace(image, maps, plan, fov, step)
    sampling = SamplingConfig(
        pattern=_PATTERNS.get(plan.pattern, plan.pattern),
        acceleration=(plan.acceleration, 1),
        acs=(plan.acs, 0),
        density_power=float(rng.uniform(1.5, 4)),
        partial_fourier=(0.75 if plan.pattern == "one-sided" else 1.0, 1.0),
        partial_fourier_side="early" if rng.random() < 0.5 else "late",
        oversampling=_OVERSAMPLING,
        seed=int(rng.integers(2**31)),
    )
    noise = NoiseConfig(
        std=1.0,
        neighbour_correlation=_CORRELATION[plan.noise],
        spread=_SPREAD[plan.noise],
        readouts=64,
        seed=int(rng.integers(2**31)),
    )
    config = ScanConfig(
        name=f"other-sites-{plan.number:03d}",
        phantom=PhantomConfig(kind="shepp-logan"),
        coils=CoilConfig(n_coils=plan.n_coils),
        noise=noise,
        sampling=sampling,
        geometry=GeometryConfig(matrix=(plan.columns, plan.lines, 1), fov_mm=(fov[1], fov[0], 4.0)),
    )
    full = config.model_copy(update={"sampling": SamplingConfig(oversampling=_OVERSAMPLING)})
    # Noise has a standard deviation of 1 in all coils together: it is the signal that is scaled.
    covariance = GivenScan(full, kspace).noise.covariance
    signal = float(image_scale(_combined(kspace, covariance, (plan.lines, plan.columns))))
    kspace = np.asarray(kspace * (plan.snr / signal), np.complex64)
    return GivenScan(config, kspace), GivenScan(full, kspace, noisy=False)


def _placed(
    object_: Tensor,
    plan: SitePlan,
    fov: tuple[float, float],
    fine: tuple[int, int],
    step: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Tensor, tuple[float, float]]:
    """The object on the fine grid, as large as its extent along the phase encoding asks; half its extent in mm."""
    image = object_.mT if plan.swapped else object_
    occupied = (image.abs() > _AIR * image_scale(image)).numpy()
    ends = [np.flatnonzero(occupied.any(axis))[[0, -1]] for axis in (1, 0)]
    extent = [float(last - first + 1) for first, last in ends]
    mm = fov[0] * rng.uniform(*_FILL[plan.extent]) / extent[0]
    placement = Placement(
        pixels=(step[0] / mm, step[1] / mm * (1 if rng.random() < 0.5 else -1)),
        angle=float(rng.uniform(-0.1, 0.1)) if plan.extent == "within" else 0.0,
        center=(float(ends[0].mean()), float(ends[1].mean())),
    )
    placed = sample_at(image[None], placement.points(fine))[0]
    return placed, (0.5 * extent[0] * mm, 0.5 * extent[1] * mm)


def _kspace(
    image: Tensor, maps: Tensor, plan: SitePlan, fov: tuple[float, float], step: tuple[float, float]
) -> npt.NDArray[np.complex64]:
    """Encoded k-space ``(coil, 1, k1, k0)`` with readout oversampling; what lies outside folds as it does."""
    rows = _encoding(plan.lines, fov[0], image.shape[0], step[0])
    columns = _encoding(_OVERSAMPLING * plan.columns, _OVERSAMPLING * fov[1], image.shape[1], step[1])
    coils = [rows @ (coil * image) @ columns.mT for coil in maps]
    return torch.stack(coils)[:, None].numpy()


def _encoding(n: int, fov: float, n_points: int, step: float) -> Tensor:
    """``(k, point)`` of one axis."""
    at = grid_coordinates(n_points, n_points * step)
    angle = -2 * np.pi * np.outer(grid_coordinates(n, n / fov), at)
    return torch.from_numpy((np.exp(1j * angle) / np.sqrt(n)).astype(np.complex64))


def _combined(
    kspace: npt.NDArray[np.complex64], covariance: npt.NDArray[np.complex128], matrix: tuple[int, int]
) -> Tensor:
    """Magnitude of the combined image ``(y, x)`` in units of the standard deviation of its noise."""
    whiten = np.linalg.inv(np.linalg.cholesky(covariance / 2)).astype(np.complex64)
    images = crop_or_pad(to_image(torch.from_numpy(kspace[:, 0]), (-2, -1)), matrix)
    white = torch.from_numpy(whiten) @ images.flatten(1)
    combined: Tensor = torch.linalg.vector_norm(white, dim=0)
    return combined.reshape(images.shape[-2:])
