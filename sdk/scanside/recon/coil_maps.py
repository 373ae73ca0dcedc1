"""Coil sensitivity maps from images: Inati's iterative method and Walsh's adaptive one.

Both give maps ``(*other, coil, z, y, x)`` with ``Σ_coil |map|² = 1`` in every voxel that has signal, 0 where
there is none. With whitened coils ``Σ_coil conj(map) · image`` is then the combined image of highest SNR, its
noise the same in every voxel. A map is known up to a phase per voxel, which is chosen so that the principal
component of the coils, as one virtual coil, has zero phase. The combined image keeps the object's phase
relative to that virtual coil.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from scanside.errors import ShapeError
from scanside.recon.filters import apply_window, hann
from scanside.recon.fourier import spatial_dims, to_image

__all__ = ["calibration_images", "inati", "turned_to", "virtual_coil", "walsh", "zero_phase_in"]

_LEAST_SEEN = 0.01  # what a virtual coil sees less of a plane than this, it says nothing about
_COVARIANCE_BYTES = 64 * 2**20


def calibration_images(
    kspace: torch.Tensor, region: tuple[slice, slice], readout: slice = slice(None)
) -> torch.Tensor:
    """Low-resolution coil images from the calibration lines alone, on the full grid.

    A Hann window over the region and over the readout keeps ringing out of the maps.

    Args:
        kspace: ``(*other, coil, k2, k1, k0)`` complex64, the centre of k-space in the middle.
        region: slices along k2 and k1, for instance from `scanside.recon.grappa.calibration_region`.
        readout: slice along k0 that was sampled; by default all of it.

    Returns:
        Images ``(*other, coil, z, y, x)`` of the same size.

    Raises:
        ShapeError: not a k-space tensor, or a region that misses the centre of k-space.
    """
    dims = spatial_dims(kspace)
    windowed = kspace
    for dim, lines in zip((-3, -2, -1), (*region, readout), strict=True):
        if dim in dims:
            n = kspace.shape[dim]
            first, stop, _ = lines.indices(n)
            windowed = apply_window(windowed, hann(n, first, stop - 1), dim)
    return to_image(windowed, dims)


def inati(images: torch.Tensor, kernel: int = 5, iterations: int = 2) -> torch.Tensor:
    """Coil maps by alternating between combined image and smoothed coil images.

    Inati, Hansen, Kellman: *A fast optimal method for coil sensitivity estimation and adaptive coil
    combination for complex images*, ISMRM 2014, abstract 4407. It needs no matrix per voxel.

    Args:
        images: ``(*other, coil, z, y, x)`` complex; 3-D where there is more than one z.
        kernel: edge of the neighbourhood over which maps are taken as constant, in voxels, odd. At the
            borders it continues on the opposite side; along an axis that is shorter it becomes smaller.
        iterations: how often to alternate. On measured data two leave a correlation of 0.99999 with the limit.

    Returns:
        Maps of the same shape.

    Raises:
        ShapeError: not coil images, or an even kernel.
    """
    images, edges = _prepared(images, kernel)
    virtual = virtual_coil(images)
    combined = _combine(images, virtual)
    maps = images
    for _ in range(iterations):
        maps = _unit(_neighbourhood_sum(images * combined.conj().unsqueeze(-4), edges))
        combined = _combine(images, maps)
    return zero_phase_in(virtual, maps)


def walsh(images: torch.Tensor, kernel: int = 7, iterations: int = 3) -> torch.Tensor:
    """Coil maps as the strongest eigenvector of the local coil covariance.

    Walsh, Gmitro, Marcellin: *Adaptive reconstruction of phased array MR imagery*, MRM 43:682-690 (2000). The
    eigenvector comes from power iterations that start at the neighbourhood's mean.

    Args:
        images: ``(*other, coil, z, y, x)`` complex; 3-D where there is more than one z.
        kernel: edge of the neighbourhood in voxels, odd. At the borders it continues on the opposite side; along
            an axis that is shorter it becomes smaller.
        iterations: of the power method.

    Returns:
        Maps of the same shape.

    Raises:
        ShapeError: not coil images, or an even kernel.
    """
    images, edges = _prepared(images, kernel)
    maps = torch.empty_like(images)
    # The covariance is n_coils times larger than the images: it is made for some rows at a time.
    axis = min(edges)
    n, half = images.shape[axis], edges[axis] // 2
    bytes_per_row = images.numel() // n * images.shape[-4] * images.element_size()
    rows = max(_COVARIANCE_BYTES // bytes_per_row, 1)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        with_halo = torch.arange(start - half, stop + half, device=images.device) % n
        block = images.index_select(axis, with_halo)
        pairs = block.unsqueeze(-4) * block.conj().unsqueeze(-5)  # (*other, coil, coil, z, y, x)
        covariance = _neighbourhood_sum(pairs, edges).narrow(axis, half, stop - start)
        vector = _unit(_neighbourhood_sum(block, edges).narrow(axis, half, stop - start))
        for _ in range(iterations):
            vector = _unit((covariance * vector.unsqueeze(-5)).sum(-4))
        maps.narrow(axis, start, stop - start).copy_(vector)
    return zero_phase_in(virtual_coil(images), maps)


def virtual_coil(data: torch.Tensor) -> torch.Tensor:
    """The combination of coils that receives most signal: the first principal component.

    Args:
        data: images or k-space, ``(*other, coil, z, y, x)``.

    Returns:
        Its weights ``(*other, coil, 1, 1, 1)`` of length one, the phase of the strongest coil being zero.
    """
    by_coil = data.flatten(-3)
    vector: torch.Tensor = torch.linalg.eigh(by_coil @ by_coil.mH).eigenvectors[..., -1]
    # Eigenvectors come with any phase; one is chosen so that results repeat.
    strongest = vector.abs().argmax(-1, keepdim=True)
    vector = vector * torch.sgn(vector.gather(-1, strongest)).conj()
    return vector[..., None, None, None]


def zero_phase_in(virtual: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Turn the phase of maps so that a virtual coil sees every voxel with zero phase.

    Args:
        virtual: ``(*other, coil, 1, 1, 1)`` from `virtual_coil`.
        maps: ``(*other, coil, z, y, x)``.
    """
    return maps * torch.sgn(_combine(virtual, maps)).unsqueeze(-4)


def turned_to(
    virtual: torch.Tensor, maps: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of maps turned such that a virtual coil sees the first one alone.

    Where two eigenvalues are 1, which vectors span the plane of both is left to chance, and changes from voxel to
    voxel. With this choice the first is smooth, and the phase of its image is that of the virtual coil's also there.

    Args:
        virtual: ``(*other, coil, 1, 1, 1)`` from `virtual_coil`.
        maps: ``(*other, coil, z, y, x)`` with zero phase in the virtual coil, of length 1.
        second: of the same shape, likewise, and orthogonal to them; zero where one set is enough.

    Returns:
        Both sets; the first is what it was where the second is zero.
    """
    seen, also_seen = (_combine(virtual, one).conj() for one in (maps, second))
    length = (seen.abs().square() + also_seen.abs().square()).sqrt()
    turns = (length > _LEAST_SEEN) & (second != 0).any(-4)
    a = torch.where(turns, seen / length, 1).unsqueeze(-4)
    b = torch.where(turns, also_seen / length, 0).unsqueeze(-4)
    return a * maps + b * second, a.conj() * second - b.conj() * maps


def _prepared(images: torch.Tensor, kernel: int) -> tuple[torch.Tensor, dict[int, int]]:
    """Images scaled to a largest magnitude of 1, and the neighbourhood's edge along each of their spatial axes.

    Over an axis that is shorter than the kernel, as the partitions of a thin slab, maps are not constant: half of it
    is the edge there.
    """
    if images.ndim < 4 or not images.is_complex():
        raise ShapeError(
            f"coil maps need complex images (*other, coil, z, y, x), got {images.dtype} {tuple(images.shape)}"
        )
    if kernel < 1 or kernel % 2 == 0:
        raise ShapeError(
            f"coil map kernel of {kernel} voxels: it must be odd; set coil-maps.kernel to {kernel // 2 * 2 + 1}"
        )
    # Raw data are often of the order of 1e-6; fourth powers of that do not fit into single precision.
    largest = torch.view_as_real(images).abs().amax((-5, -4, -3, -2, -1))[..., None, None, None, None]
    sizes = {dim: images.shape[dim] for dim in spatial_dims(images)}
    edges = {dim: kernel if n >= kernel else (n - 1) // 4 * 2 + 1 for dim, n in sizes.items()}
    return images / largest.clamp_min(torch.finfo(largest.dtype).tiny), edges


def _combine(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return (maps.conj() * images).sum(-4)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors along the coil axis scaled to length one; those of length zero stay zero."""
    # This is several times faster than torch.linalg.vector_norm along a strided complex axis.
    power = (vectors * vectors.conj()).real.sum(-4, keepdim=True)
    return vectors * power.clamp_min(torch.finfo(power.dtype).tiny).rsqrt()


def _neighbourhood_sum(data: torch.Tensor, edges: Mapping[int, int]) -> torch.Tensor:
    """Sum over the voxels around every voxel, ``edges`` along each axis, periodic at the borders."""
    for dim, edge in edges.items():
        n, half = data.shape[dim], edge // 2
        ends = data.narrow(dim, n - half, half), data, data.narrow(dim, 0, half)
        padded = torch.cat(ends, dim)
        total = padded.narrow(dim, 0, n).clone()
        for shift in range(1, edge):
            total += padded.narrow(dim, shift, n)
        data = total
    return data
