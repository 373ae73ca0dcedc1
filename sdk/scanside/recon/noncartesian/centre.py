"""The centre of k-space on a grid, of samples that lie densely there: what coil maps are calibrated with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from scanside.errors import CalibrationError
from scanside.recon.cg import conjugate_gradient
from scanside.recon.fourier import to_kspace
from scanside.recon.noncartesian.density import pipe_menon
from scanside.recon.noncartesian.stack import normal_of, transform_of

__all__ = ["centre_on_grid"]

_WIDER = 1.5  # the grid that is solved for, against the block: its edges are worse than its middle
_L2 = 1e-3
_FILLED = 0.5  # of the centre; samples on a grid fill 1, and maps are still good with a little more than half
_ITERATIONS = 30


def centre_on_grid(
    samples: torch.Tensor, points: torch.Tensor, shape: Sequence[int], width: int
) -> torch.Tensor:
    """A block of k-space around the centre, as if it had been sampled on the grid of the image.

    The coil images of low resolution that explain the samples there are solved for, one by one.

    Args:
        samples: ``(coil, n)``.
        points: ``(n, dimension)`` along the image's axes, in cycles per voxel.
        shape: of the image along these axes.
        width: of the block along each axis; less where the image is smaller.

    Returns:
        ``(coil, *block)``, in the scaling of an orthonormal transform of the image.

    Raises:
        CalibrationError: fewer samples lie there than the block has places, or with gaps.
    """
    block = [min(width, n) for n in shape]
    grid = [min(n, 2 * math.ceil(_WIDER * width / 2)) for n in shape]
    reach = points.new_tensor([0.5 * g / n for g, n in zip(grid, shape, strict=True)])
    inside = (points.abs() <= reach).all(-1)
    if (n_inside := int(inside.sum())) < math.prod(block):
        raise CalibrationError(
            f"coil maps need a centre of k-space that is fully sampled: {n_inside} samples lie where a grid of "
            f"{' × '.join(map(str, block))} has {math.prod(block)} places; take more readouts for each image, or a "
            "smaller calibration block"
        )
    near = points[inside] * points.new_tensor([n / g for n, g in zip(shape, grid, strict=True)])
    weights = pipe_menon(near, grid)
    if (filled := float(weights.sum()) / math.prod(grid)) < _FILLED:
        raise CalibrationError(
            f"coil maps need a centre of k-space that is fully sampled: the samples fill {100 * filled:.0f} % of it, "
            "as their gaps are wider than the field of view allows; take more readouts for each image, a trajectory "
            "that is denser in the middle, or a smaller calibration block"
        )
    transform = transform_of(near, grid)
    normal = normal_of(transform, weights)
    images = conjugate_gradient(
        lambda image: normal(image) + _L2 * image,
        transform.adjoint(samples[:, inside] * weights),
        tolerance=1e-4,
        max_iterations=_ITERATIONS,
        dims=tuple(range(-len(grid), 0)),
    ).solution
    kspace = to_kspace(images, tuple(range(-len(grid), 0)))
    for dim, (n, g) in enumerate(zip(block, grid, strict=True), start=1):
        kspace = kspace.narrow(dim, g // 2 - n // 2, n)
    return kspace
