"""A scan of k-space that comes from elsewhere: of another object, of other coils, or measured."""

from __future__ import annotations

from functools import cached_property
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError, ShapeError
from scanside.simulate.config import ScanConfig
from scanside.simulate.scan import SimulatedScan
from scanside.simulate.signal import Frame

__all__ = ["GivenScan"]


class GivenScan(SimulatedScan):
    """Readouts, headers and noise of a simulated scan, whose lines are taken from a k-space that is given.

    Args:
        config: the scan; what it says of the phantom and of the places of the coils holds for nothing but the
            correlation of their noise.
        kspace: complex64 ``(coil, k2, k1, k0)``, the encoded k-space with oversampling, which every frame has.
        noisy: whether imaging readouts have noise; noise readouts always do.

    Raises:
        ShapeError: the k-space is not that of the configuration.
    """

    def __init__(self, config: ScanConfig, kspace: npt.NDArray[np.complex64], *, noisy: bool = True) -> None:
        super().__init__(config)
        wanted = (config.coils.n_coils, *self.grid.encoded_matrix[::-1])
        if kspace.shape != wanted:
            raise ShapeError(
                f"the k-space is {kspace.shape}, and the scan encodes {wanted} (coil, k2, k1, k0)"
            )
        self._given = kspace
        self._noisy = noisy

    @cached_property
    def truth(self) -> NoReturn:
        """Not known here: whoever gives the k-space knows it.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a scan of given k-space does not know its truth")

    def _noise_of_lines(
        self, rng: np.random.Generator, n: int, n_samples: int
    ) -> npt.NDArray[np.complex64] | float:
        return super()._noise_of_lines(rng, n, n_samples) if self._noisy else 0.0

    def _kspace(self, frame: Frame) -> npt.NDArray[np.complex64]:
        return self._given
