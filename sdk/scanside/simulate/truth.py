"""What a simulated scan would show if nothing stood in the way: the measure of every reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError

__all__ = ["Truth"]


@dataclass(frozen=True)
class Truth:
    """Truth of a scan, on the grid of the reconstructed image.

    Attributes:
        images: complex64 ``(contrast, phase, repetition, set, slice, z, y, x)``: the object with its phase, band
            limited to the encoded k-space (with reduced phase resolution: to the lines that the protocol asks for; of
            trajectories that turn: to their disc or ball),
            without coils and noise. What partial Fourier and an asymmetric echo leave out is in it. Intensities are
            those of the phantom. An axis along which nothing changes has length one; `image` knows.
        maps: complex64 ``(slice, coil, z, y, x)`` coil sensitivities.
        mask: bool ``(slice, z, y, x)`` where tissue is, at the first echo and the first state of the beat.
        affines: float64 ``(slice, 4, 4)``: index (x, y, z, 1) of a slice's or slab's image to LPS in mm. Voxel
            ``n // 2`` of every axis lies at the position in the headers, x runs along ``read_dir``, y along
            ``phase_dir``, z along ``slice_dir``.
        affine: float64 ``(4, 4)`` of the whole: index (x, y, slice, 1) for 2-D slices, (x, y, z, 1) of the first
            slab in 3-D.
        covariance: complex128 ``(coil, coil)`` noise covariance ``E[n n^H]`` of imaging samples.
        off_resonance_hz: float32 ``(slice, z, y, x)``, zero unless it is simulated. In the images it has no phase:
            they are those of the centre of k-space.
    """

    images: npt.NDArray[np.complex64]
    maps: npt.NDArray[np.complex64]
    mask: npt.NDArray[np.bool_]
    affines: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.complex128]
    off_resonance_hz: npt.NDArray[np.float32]

    def image(
        self, slice_: int = 0, *, contrast: int = 0, phase: int = 0, repetition: int = 0, set_: int = 0
    ) -> npt.NDArray[np.complex64]:
        """Image ``(z, y, x)`` of the counters that an image header has."""
        counters = (contrast, phase, repetition, set_)
        index = tuple(0 if n == 1 else at for at, n in zip(counters, self.images.shape[:4], strict=True))
        found: npt.NDArray[np.complex64] = self.images[(*index, slice_)]
        return found

    def save(self, path: str | Path) -> None:
        """Write everything to a NumPy ``.npz`` archive, one array for every attribute."""
        with Path(path).open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: str | Path) -> Truth:
        """Read what `save` wrote.

        Raises:
            FileFormatError: an array is missing: the file holds no truth.
            OSError: the file cannot be read.
        """
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in cls.__dataclass_fields__ if name not in archive]
            if missing:
                raise FileFormatError(
                    f"{path} is not a simulated scan's truth, or one of an earlier version: it lacks "
                    f"{', '.join(missing)}; simulate the scan again"
                )
            return cls(**{name: archive[name] for name in cls.__dataclass_fields__})
