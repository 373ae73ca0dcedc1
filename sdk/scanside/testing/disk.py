"""Raw files of a round phantom whose size, signal, noise, ghost and slope are known in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.readouts import Readouts, Waveform
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)

__all__ = ["disk_kspace", "write_disk_scan"]

_OVERSAMPLING = 2
_N_COILS = 4


def write_disk_scan(
    path: Path,
    *,
    n: int = 96,
    fov_mm: float = 240.0,
    diameter_mm: float = 170.0,
    noise: float = 0.02,
    noise_scan: Literal["none", "embedded"] = "embedded",
    repetitions: int = 2,
    ghost: float = 0.0,
    slope: float = 0.0,
    stretch: float = 1.0,
) -> None:
    """Write the scan of a disk of signal 1 in the middle of the field of view, by four coils of equal sensitivity.

    Args:
        path: an ISMRMRD HDF5 file.
        n: matrix along x and y, fully sampled.
        fov_mm: field of view along x and y.
        diameter_mm: of the disk.
        noise: standard deviation of the real and of the imaginary part of the combined image's voxels.
        noise_scan: noise readouts, at the start of the scan or none.
        repetitions: images that differ in noise only.
        ghost: odd lines are weaker by this share; a ghost of half of it lies half a field of view away.
        slope: the signal is ``1 + slope · x / radius``.
        stretch: the header's field of view along x is larger by this factor than the true one.
    """
    scan = simulate(
        ScanConfig(
            name="disk",
            coils=CoilConfig(n_coils=_N_COILS, model="uniform"),
            noise=NoiseConfig(std=noise, neighbour_correlation=0.0, spread=0.0, scan=noise_scan, readouts=64),
            sampling=SamplingConfig(oversampling=_OVERSAMPLING),
            geometry=GeometryConfig(matrix=(n, n, 1), fov_mm=(fov_mm * stretch, fov_mm, 5.0)),
            dynamics=DynamicsConfig(repetitions=repetitions),
        )
    )
    kspace = disk_kspace(n, fov_mm, diameter_mm, slope)
    kspace[1::2] *= 1 - ghost
    with Hdf5Writer(path, scan.header_xml) as writer:
        for block in _blocks(scan, kspace):
            writer.write(block)


def disk_kspace(n: int, fov_mm: float, diameter_mm: float, slope: float = 0.0) -> npt.NDArray[np.complex64]:
    """K-space ``(k1, k0)`` of a disk, without oversampling along k1 and with it along k0.

    The Fourier transform of a disk of radius a is a J1(2π a k) / k; the slope adds its derivative along kx. A Hamming
    window keeps the edge where it is and takes the ringing away that would lie beside it.

    Args:
        n: matrix.
        fov_mm: field of view along k1; that along k0 is larger by the oversampling.
        diameter_mm: of the disk.
        slope: the signal is ``1 + slope · x / radius``.
    """
    radius, n_k0 = diameter_mm / 2, _OVERSAMPLING * n
    ky = (np.arange(n) - n // 2)[:, None] / fov_mm
    kx = (np.arange(n_k0) - n_k0 // 2)[None] / (_OVERSAMPLING * fov_mm)
    k = np.hypot(ky, kx)
    center = k == 0
    k[center] = 1.0  # divided by below; its value is set apart
    j0, j1 = (
        bessel(torch.from_numpy(2 * np.pi * radius * k)).numpy()
        for bessel in (torch.special.bessel_j0, torch.special.bessel_j1)
    )
    j2 = j1 / (np.pi * radius * k) - j0
    flat = np.where(center, np.pi * radius**2, radius * j1 / k)
    along_kx = np.where(center, 0, -2 * np.pi * radius**2 * j2 * kx / k**2)
    transform = flat + slope / radius * 1j / (2 * np.pi) * along_kx
    k[center] = 0.0
    window = 0.54 + 0.46 * np.cos(np.pi * np.minimum(k * 2 * fov_mm / n, 1))
    pixel_mm2 = (fov_mm / n) ** 2
    return np.asarray(window * transform / pixel_mm2 / np.sqrt(n * n_k0), dtype=np.complex64)


def _blocks(scan: SimulatedScan, kspace: npt.NDArray[np.complex64]) -> Iterator[Readouts | Waveform]:
    """The simulated scan with the disk's samples in the place of its own."""
    coils = np.exp(2j * np.pi * np.arange(_N_COILS) / _N_COILS) / np.sqrt(_N_COILS)
    generator = np.random.default_rng(7)
    for block in scan.items():
        if (
            isinstance(block, Waveform)
            or flagged(block.headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT).any()
        ):
            yield block
            continue
        lines = kspace[block.headers["idx"]["kspace_encode_step_1"]]
        drawn = scan.noise.draw(generator, len(lines), lines.shape[-1])
        yield Readouts(block.headers, (lines[:, None] * coils[:, None] + drawn).astype(np.complex64))
