"""K-space filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field

from scanside.items import AxisRange, KSpace
from scanside.recon.filters import apply_window, gaussian, hann, tukey
from scanside.stage import Stage, StageConfig

__all__ = ["KSpaceFilter"]

Window = Literal["none", "gaussian", "hann", "tukey"]


class KSpaceFilter(Stage[KSpace, KSpace]):
    """Multiplies k-space with a window over its sampled range, against ringing and noise.

    The value at the centre of k-space stays as it is, and so does the mean of the image.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            k0: window along the readout.
            k1: window along the phase-encoding direction.
            k2: window along the partition direction, in 3-D.
            sigma: of the Gaussian window exp(−(sigma·x)²/2), where x runs from −1 to 1 over the sampled range.
            taper: width of the slopes of the Tukey window, from 0 (none) to 1 (Hann).
        """

        k0: Window = "gaussian"
        k1: Window = "gaussian"
        k2: Window = "gaussian"
        sigma: float = Field(1.0, ge=0)
        taper: float = Field(0.5, ge=0, le=1)

    config: Config

    def process(self, item: KSpace) -> Iterator[KSpace]:
        """Filter one k-space."""
        data = item.data
        kinds = (self.config.k0, self.config.k1, self.config.k2)
        for axis, kind in enumerate(kinds):
            n = data.shape[-1 - axis]
            if kind == "none" or n == 1:
                continue
            sampled = item.ranges[axis] if item.ranges is not None else AxisRange(0, n - 1, n // 2)
            data = apply_window(data, self._window(kind, n, sampled), -1 - axis)
        yield item.replace(data=data)

    def _window(self, kind: Window, n: int, sampled: AxisRange) -> torch.Tensor:
        if kind == "gaussian":
            return gaussian(n, sampled.first, sampled.last, sigma=self.config.sigma)
        if kind == "hann":
            return hann(n, sampled.first, sampled.last)
        return tukey(n, sampled.first, sampled.last, taper=self.config.taper)
