"""Coil compression: few virtual coils that hold nearly all that many coils received.

The matrices have orthonormal rows, so that white noise stays white, and virtual coils come in the order of the energy
that they hold. They are found in calibration data and applied to all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.resize import crop_or_pad

__all__ = ["CoilCompression", "geometric", "pca"]

_COIL = -4


@dataclass(frozen=True)
class CoilCompression:
    """How coils become virtual coils.

    Attributes:
        matrices: ``(virtual coil, coil)``, the same everywhere, or ``(x, virtual coil, coil)``, one for every
            position along the readout. Rows are orthonormal.
        energy: part of the calibration data's energy that the virtual coils hold, from 0 to 1.
    """

    matrices: torch.Tensor
    energy: float

    @property
    def n_virtual(self) -> int:
        """Number of virtual coils."""
        return int(self.matrices.shape[-2])

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


def pca(calibration: torch.Tensor, n_virtual: int) -> CoilCompression:
    """Principal components of the coils: of all matrices the one that keeps most energy.

    Buehrer et al., *Array compression for MRI with large coil arrays*, MRM 57:1131-1139 (2007); Huang et al., *A
    software channel compression technique for faster reconstruction with many channels*, MRI 26:133-141 (2008).

    Args:
        calibration: ``(*other, coil, k2, k1, k0)`` complex; all frames share one matrix.
        n_virtual: number of virtual coils.

    Raises:
        CalibrationError: the data are zero.
        ShapeError: there are fewer coils than virtual ones.
    """
    _check(calibration, n_virtual)
    by_coil = calibration.movedim(_COIL, 0).flatten(1)
    matrix, energy = _leading(by_coil @ by_coil.mH, n_virtual)
    return CoilCompression(matrix, energy)


def geometric(calibration: torch.Tensor, n_virtual: int, n_x: int) -> CoilCompression:
    """Principal components for every position along the readout, where coils differ less than over the whole image.

    Components are known up to a unitary matrix; it is chosen from position to position, from the middle outwards, so
    that virtual coils go on smoothly, as calibration and parallel imaging need it.

    Zhang, Pauly, Vasanawala, Lustig: *Coil compression for accelerated imaging with Cartesian sampling*, MRM
    69:571-582 (2013).

    Args:
        calibration: ``(*other, coil, k2, k1, k0)`` complex, the centre of the readout in its middle. A short readout
            gives matrices that vary slowly, with little noise.
        n_virtual: number of virtual coils.
        n_x: length of the readout to which the matrices will be applied.

    Raises:
        CalibrationError: the data are zero.
        ShapeError: there are fewer coils than virtual ones.
    """
    _check(calibration, n_virtual)
    hybrid = to_image(crop_or_pad(calibration, (n_x,), (-1,)), (-1,))
    by_coil = hybrid.movedim(_COIL, 0).flatten(1, -2).permute(2, 0, 1)  # (x, coil, rest)
    matrices, energy = _leading(by_coil @ by_coil.mH, n_virtual)
    middle = n_x // 2
    for x in (*range(middle + 1, n_x), *range(middle - 1, -1, -1)):
        neighbour = matrices[x - 1 if x > middle else x + 1]
        left, _, right = torch.linalg.svd(neighbour @ matrices[x].mH)
        matrices[x] = left @ right @ matrices[x]
    return CoilCompression(matrices, energy)


def _check(calibration: torch.Tensor, n_virtual: int) -> None:
    if calibration.ndim < 4 or not 1 <= n_virtual <= calibration.shape[_COIL]:
        raise ShapeError(
            f"calibration data of shape {tuple(calibration.shape)} cannot give {n_virtual} virtual coils: expected "
            "(*other, coil, k2, k1, k0) with at least as many coils"
        )
    if not bool(calibration.any()):
        raise CalibrationError("coil compression found nothing but zeros in the calibration data")


def _leading(covariance: torch.Tensor, n: int) -> tuple[torch.Tensor, float]:
    """The n strongest components ``(*, n, coil)`` of ``(*, coil, coil)``, and their part of the energy."""
    # Raw data are often of the order of 1e-6, and their energy is near the end of single precision.
    values, vectors = torch.linalg.eigh(covariance.to(torch.complex128))
    strongest = vectors[..., -n:].flip(-1).mH
    energy = float(values[..., -n:].clamp_min(0).sum() / values.clamp_min(0).sum())
    return strongest.to(covariance.dtype).contiguous(), energy
