"""Density compensation: how much of k-space each sample stands for.

Weights are areas of k-space in units of ``1 / field of view²`` (in 3-D, volumes): a sample of a full grid has weight
1, and ``Fᴴ W y`` has the intensities of the object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from scanside.errors import ScanError, ShapeError
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.stack import planes_of

__all__ = [
    "acceleration_of",
    "gridded_noise",
    "in_planes",
    "interleaved_density",
    "pipe_menon",
    "with_middle",
    "within_cells",
]

_MIDDLE = 4.0  # cycles per field of view
_AROUND = 3  # so many times as far reaches the grid on which the middle is weighed


def pipe_menon(points: torch.Tensor, shape: Sequence[int], iterations: int = 20) -> torch.Tensor:
    """Weights of any trajectory: ``w ← w / (C w)``, C being a convolution along k-space.

    Pipe, Menon: *Sampling density compensation in MRI: rationale and an iterative numerical solution*, Magn Reson Med
    41:179-186 (1999); C as in Zwart, Johnson, Pipe, Magn Reson Med 67:701-710 (2012): its transform is the overlap of
    two balls that have the field of view's diameter, so that it is positive, and alters nothing within the image.
    Points in planes of a grid along the first axis are weighed plane by plane.

    Args:
        points: ``(n, dimension)`` as `Nufft` takes them.
        shape: of the image.
        iterations: how often; 20 leave a percent or so.

    Returns:
        ``(n,)`` positive, in the precision of `points`.

    Raises:
        ScanError: the weights come to nothing or are no numbers.
    """
    if len(shape) == 3 and (planes := planes_of(points[:, 0], shape[0])) is not None:
        return in_planes(points[:, 1:], planes, lambda plane: pipe_menon(plane, shape[1:], iterations))
    double = [2 * n for n in shape]
    transform = Nufft(points.to(torch.float32), double)
    window = _overlap(double, points.device)
    weights: torch.Tensor = points.new_ones(len(points), dtype=torch.float32)
    for _ in range(iterations):
        image = transform.adjoint(torch.complex(weights, torch.zeros_like(weights)))
        density = transform.forward(image * window).real
        weights = weights / density.clamp_min(torch.finfo(torch.float32).tiny)
    # C's integral over k-space is the window in the middle, 1; and both transforms are scaled.
    weights = weights / float(2 ** len(shape))
    if not bool(weights.isfinite().all()) or not bool((weights > 0).any()):
        raise ScanError("the density compensation of the trajectory is zero or no number: look at its points")
    return weights.to(points.dtype)


def in_planes(
    points: torch.Tensor, planes: torch.Tensor, weigh: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Weights ``(n, …)`` of each plane on its own; where planes are alike, of one of them.

    Args:
        points: ``(n, …, 2)`` within the planes.
        planes: ``(n)`` which each belongs to.
        weigh: from the points of a plane to their weights.
    """
    weights = points.new_empty(points.shape[:-1])
    known: list[tuple[torch.Tensor, torch.Tensor]] = []
    for plane in sorted(set(planes.tolist())):
        here = planes == plane
        found = next((weighed for others, weighed in known if torch.equal(others, points[here])), None)
        if found is None:
            found = weigh(points[here])
            known.append((points[here], found))
        weights[here] = found
    return weights


def interleaved_density(points: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Weights of spokes or spiral arms in a plane, which are turned against each other, whatever the angles.

    A sample stands for the ring between its neighbours along the readout, and for the sector between the neighbouring
    spokes or arms: ``|k| · Δ|k| · Δφ``.
    Where spokes miss the centre, `with_middle` mends the weights about it.

    Args:
        points: ``(spoke or arm, sample, 2)`` in cycles per voxel.
        shape: of the image.

    Returns:
        ``(spoke or arm, sample)``, in the precision of `points`.

    Raises:
        ShapeError: there are not at least two samples in two dimensions.
    """
    if points.ndim != 3 or points.shape[-1] != 2 or points.shape[1] < 2:
        raise ShapeError(f"spokes or arms of a plane must be (arm, sample ≥ 2, 2), got {tuple(points.shape)}")
    ends = points[:, -1]
    radius = points.norm(dim=-1)
    through = bool((points[:, 0] * ends).sum(-1).median() < 0)  # both sides of the centre in one readout
    around = math.pi if through else 2 * math.pi
    angles = torch.atan2(ends[:, 1], ends[:, 0]) % around
    order = angles.argsort()
    gaps = (angles[order].roll(-1) - angles[order]) % around
    if len(angles) == 1:
        gaps = gaps + around
    sector = torch.empty_like(angles)
    sector[order] = (gaps + gaps.roll(1)) / 2
    # Along a spoke through the centre, the radius with a sign runs straight on.
    direction = torch.nn.functional.normalize(ends - points[:, 0], dim=-1)
    along = (points * direction[:, None]).sum(-1) if through else radius
    step = torch.gradient(along, dim=1)[0].abs()
    # In the middle the sum over rings lacks this of the integral (Euler and Maclaurin), on both sides of a spoke.
    middle = step.square() / (6 if through else 12)
    return torch.maximum(along.abs() * step, middle) * sector[:, None] * math.prod(shape)


def with_middle(weights: torch.Tensor, points: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Weights with those of `pipe_menon` in the middle of k-space, of readouts that do not pass its centre.

    About the centre such readouts lie in no rings and sectors; further out, few samples make little difference.

    Args:
        weights: ``(spoke, sample)`` from `interleaved_density`.
        points: ``(spoke, sample, 2)`` along the image's axes in their order, in cycles per voxel.
        shape: of the image.
    """
    reach = [min(_AROUND * _MIDDLE, n / 2) for n in shape]
    cycles = points * points.new_tensor(shape)
    near = (cycles.abs() < points.new_tensor(reach)).all(-1)
    if not bool(near.any()):
        return weights
    grid = [round(2 * one) for one in reach]
    weighed = weights.clone()
    weighed[near] = pipe_menon(cycles[near] / points.new_tensor(grid), grid).to(weights.dtype)
    return torch.where(cycles.norm(dim=-1) < _MIDDLE, weighed, weights)


def within_cells(weights: torch.Tensor, points: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Density weights of readouts, none of which counts for more than the cells of the grid that it runs through.

    Density compensation spreads samples over the gaps between readouts. For data consistency gaps are gaps: with
    these weights ``Fᴴ W F`` has eigenvalues of about 1 where k-space was sampled, and of about 0 where it was not.

    Args:
        weights: ``(readout, sample)``, from this module.
        points: ``(readout, sample, dimension)`` in cycles per voxel.
        shape: of the image.

    Returns:
        ``(readout, sample)``.
    """
    cells = points * points.new_tensor(shape)
    return torch.minimum(weights, torch.gradient(cells, dim=1)[0].norm(dim=-1).to(weights.dtype))


def gridded_noise(weights: torch.Tensor, shape: Sequence[int]) -> float:
    """Standard deviation of the noise in a voxel of ``Fᴴ W y``, where that of samples y is 1.

    Args:
        weights: of all samples, W.
        shape: of the image.
    """
    return math.sqrt(float(weights.double().square().sum()) / math.prod(shape))


def acceleration_of(weights: torch.Tensor, shape: Sequence[int]) -> float:
    """The disc of k-space that an image of a plane resolves, over the part of it that was sampled.

    Args:
        weights: of the samples, from `within_cells`.
        shape: ``(y, x)`` of the image.
    """
    return math.pi / 4 * math.prod(shape) / max(float(weights.sum()), torch.finfo(torch.float32).tiny)


def _overlap(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Overlap of two balls at a distance ``(*shape)``, 1 at none, 0 where it is half the grid or more."""
    axes = [(torch.arange(n, device=device) - n // 2) / (n / 2) for n in shape]
    square = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    distance = square.sqrt().clamp(max=1)
    overlap: torch.Tensor
    if len(shape) == 2:
        overlap = 2 / math.pi * (torch.acos(distance) - distance * (1 - distance.square()).sqrt())
    else:
        overlap = 1 - 1.5 * distance + 0.5 * distance**3
    return overlap
