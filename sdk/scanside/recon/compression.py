"""Coil compression: few virtual coils that hold nearly all that many coils received.

The matrices have orthonormal rows, so that white noise stays white, and virtual coils come in the order of the energy
that they hold. They are found in calibration data and applied to all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.resize import crop_or_pad

__all__ = ["ENERGY", "CoilCompression", "geometric", "pca", "weakest_component"]

ENERGY = 0.999
"""The part of the signal's energy that virtual coils should hold: with less, images suffer visibly."""

_COIL = -4


@dataclass(frozen=True)
class CoilCompression:
    """How coils become virtual coils.

    Attributes:
        matrices: ``(virtual coil, coil)``, the same everywhere, or ``(x, virtual coil, coil)``, one for every
            position along the readout. Rows are orthonormal.
        energy: part of the signal's energy in the calibration data that the virtual coils hold, from 0 to 1; what
            noise adds is left out.
    """

    matrices: torch.Tensor
    energy: float

    @property
    def n_virtual(self) -> int:
        """Number of virtual coils."""
        return int(self.matrices.shape[-2])

    def of_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps ``(*other, virtual coil, z, y, x)`` of the virtual coils, from those of the coils.

        What a virtual coil receives is the same combination of what the coils do. Where it holds all of their signal,
        ``Σ_coil |map|²`` stays the same.

        Raises:
            ShapeError: coils or columns are not those of the calibration data.
        """
        by_position = self.matrices.ndim == 3
        if maps.shape[_COIL] != self.matrices.shape[-1] or (
            by_position and maps.shape[-1] != len(self.matrices)
        ):
            raise ShapeError(
                f"maps {tuple(maps.shape)} do not fit a compression of shape {tuple(self.matrices.shape)}"
            )
        matrices = self.matrices if by_position else self.matrices[None]
        columns = maps.movedim(-1, -4).flatten(-2)  # (*other, x, coil, z y)
        virtual = matrices @ columns
        return virtual.reshape(*virtual.shape[:-1], *maps.shape[-3:-1]).movedim(-4, -1).contiguous()

    def of_coils(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps ``(*other, coil, z, y, x)`` of the coils, from those of the virtual coils: the way back.

        For one matrix everywhere.
        """
        coils = self.matrices.mH @ maps.flatten(-3)
        return coils.reshape(*coils.shape[:-1], *maps.shape[-3:])

    def alone(self) -> CoilCompression:
        """With the first position's matrix for all of them."""
        return CoilCompression(self.matrices[0], self.energy)

    def apply(self, kspace: torch.Tensor, lines: torch.Tensor | None = None) -> torch.Tensor:
        """K-space of the virtual coils.

        Args:
            kspace: ``(*other, coil, k2, k1, k0)``; the readout must be whole where matrices differ along it.
            lines: ``(k2, k1)`` bool, outside of which k-space is zero: they are spared.

        Returns:
            ``(*other, virtual coil, k2, k1, k0)``.

        Raises:
            ShapeError: coils or readout are not those of the calibration data.
        """
        n_k0, n_coils = kspace.shape[-1], self.matrices.shape[-1]
        by_position = self.matrices.ndim == 3
        if kspace.ndim < 4 or kspace.shape[_COIL] != n_coils or (by_position and n_k0 != len(self.matrices)):
            along = f" and a readout of {len(self.matrices)}" if by_position else ""
            raise ShapeError(
                f"a coil compression for {n_coils} coils{along} does not fit k-space of shape {tuple(kspace.shape)}"
            )
        sampled = (
            kspace.flatten(-3, -2) if lines is None else kspace[..., lines, :]
        )  # (*other, coil, line, k0)
        if by_position:
            hybrid = to_image(sampled, (-1,)).movedim(-1, 0)  # (x, *other, coil, line)
            matrices = self.matrices.reshape(n_k0, *[1] * (hybrid.ndim - 3), *self.matrices.shape[1:])
            compressed = to_kspace((matrices @ hybrid).movedim(0, -1), (-1,))
        else:
            mixed = self.matrices @ sampled.flatten(-2)
            compressed = mixed.reshape(*mixed.shape[:-1], *sampled.shape[-2:])
        shape = (*kspace.shape[:_COIL], self.n_virtual, *kspace.shape[-3:])
        if lines is None:
            return compressed.reshape(shape)
        whole = compressed.new_zeros(shape)
        whole[..., lines, :] = compressed
        return whole


def pca(
    calibration: torch.Tensor, n_virtual: int | None = None, *, energy: float = ENERGY, noise: float = 0.0
) -> CoilCompression:
    """Principal components of the coils: of all matrices the one that keeps most energy.

    Buehrer et al., *Array compression for MRI with large coil arrays*, MRM 57:1131-1139 (2007); Huang et al., *A
    software channel compression technique for faster reconstruction with many channels*, MRI 26:133-141 (2008).

    Args:
        calibration: ``(*other, coil, k2, k1, k0)`` complex; all frames share one matrix.
        n_virtual: number of virtual coils; None for as few as hold `energy`.
        energy: part of the signal's energy.
        noise: standard deviation of the noise's real part in the data; all coils have the same.

    Raises:
        CalibrationError: the data are zero.
        ShapeError: there are fewer coils than virtual ones.
    """
    _check(calibration, n_virtual)
    by_coil = calibration.movedim(_COIL, 0).flatten(1)
    return _leading(by_coil[None], n_virtual, energy, _noise_energy(calibration, noise)).alone()


def geometric(
    calibration: torch.Tensor,
    n_virtual: int | None,
    n_x: int,
    *,
    energy: float = ENERGY,
    noise: float = 0.0,
) -> CoilCompression:
    """Principal components for every position along the readout, where coils differ less than over the whole image.

    Components are known up to a unitary matrix; it is chosen from position to position, from the middle outwards, so
    that virtual coils go on smoothly, as calibration and parallel imaging need it.

    Zhang, Pauly, Vasanawala, Lustig: *Coil compression for accelerated imaging with Cartesian sampling*, MRM
    69:571-582 (2013).

    Args:
        calibration: ``(*other, coil, k2, k1, k0)`` complex, the centre of the readout in its middle. A short readout
            gives matrices that vary slowly, with little noise.
        n_virtual: number of virtual coils; None for as few as hold `energy`.
        n_x: length of the readout to which the matrices will be applied.
        energy: part of the signal's energy.
        noise: standard deviation of the noise's real part in the data; all coils have the same.

    Raises:
        CalibrationError: the data are zero.
        ShapeError: there are fewer coils than virtual ones.
    """
    _check(calibration, n_virtual)
    hybrid = to_image(crop_or_pad(calibration, (n_x,), (-1,)), (-1,))
    by_coil = hybrid.movedim(_COIL, 0).flatten(1, -2).permute(2, 0, 1)  # (x, coil, rest)
    found = _leading(by_coil, n_virtual, energy, _noise_energy(calibration, noise))
    matrices = found.matrices
    middle = n_x // 2
    for x in (*range(middle + 1, n_x), *range(middle - 1, -1, -1)):
        neighbour = matrices[x - 1 if x > middle else x + 1]
        left, _, right = torch.linalg.svd(neighbour @ matrices[x].mH)
        matrices[x] = left @ right @ matrices[x]
    return found


def weakest_component(calibration: torch.Tensor) -> float:
    """The standard deviation of the real part of what the weakest combination of coils receives.

    Noise is no stronger than that: where there are more coils than the signal has components, it is all there is.
    What the weakest of many components has less than their mean is made up for (Marchenko, Pastur, Mat Sb
    1967;72:507).

    Args:
        calibration: ``(*other, coil, k2, k1, k0)`` complex.
    """
    by_coil = calibration.movedim(_COIL, 0).flatten(1).to(torch.complex128)
    n_coils, n_samples = by_coil.shape
    weakest = float(torch.linalg.eigvalsh(by_coil @ by_coil.mH)[0].clamp_min(0))
    fluctuation = 1 - math.sqrt(min(n_coils / n_samples, 0.25))
    return math.sqrt(weakest / (2 * n_samples)) / fluctuation


def _check(calibration: torch.Tensor, n_virtual: int | None) -> None:
    if calibration.ndim < 4 or not 1 <= (n_virtual or 1) <= calibration.shape[_COIL]:
        raise ShapeError(
            f"calibration data of shape {tuple(calibration.shape)} cannot give {n_virtual} virtual coils: expected "
            "(*other, coil, k2, k1, k0) with at least as many coils"
        )
    if not bool(calibration.any()):
        raise CalibrationError("coil compression found nothing but zeros in the calibration data")


def _leading(hybrid: torch.Tensor, n: int | None, energy: float, noise_energy: float) -> CoilCompression:
    """The n strongest components of ``(x, coil, sample)``, or as many as hold an energy at all positions together.

    Args:
        hybrid: calibration data.
        n: how many; None for as few as hold `energy`.
        energy: part of the signal's.
        noise_energy: what noise adds to the energy of one coil, at all positions together.
    """
    # Raw data are often of the order of 1e-6, and their energy is near the end of single precision.
    values, vectors = torch.linalg.eigh((hybrid @ hybrid.mH).to(torch.complex128))
    n_coils, n_samples = hybrid.shape[-2:]
    kept = torch.arange(n_coils + 1)
    without = torch.cat((torch.zeros(1).double(), values.clamp_min(0).sum(0).cumsum(0).cpu())).flip(0)
    # The strongest components take more than their share of the noise: one of all samples' for each of them.
    of_noise = noise_energy * (n_coils - kept) * (1 - kept / n_samples).clamp_min(0)
    lost = (without - of_noise).clamp_min(0)
    share = lost / lost[0] if lost[0] > 0 else torch.ones_like(lost)
    share[n_coils] = 0
    if n is None:
        n = max(int((share > 1 - energy).sum()), 1)
    strongest = vectors[..., -n:].flip(-1).mH.to(hybrid.dtype).contiguous()
    return CoilCompression(strongest, 1 - float(share[n]))


def _noise_energy(calibration: torch.Tensor, noise: float) -> float:
    """What noise adds to the energy of each coil."""
    return 2 * noise**2 * calibration.numel() / calibration.shape[_COIL]
