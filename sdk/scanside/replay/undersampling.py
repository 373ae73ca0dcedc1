"""Regular undersampling of a scan that was fully sampled, as an accelerated protocol would have acquired it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError
from scanside.mrd.dtypes import IMAGE_COUNTERS, Headers
from scanside.mrd.header import MrdHeader
from scanside.simulate import SamplingConfig
from scanside.simulate.sampling import Band, sampling_pattern

__all__ = ["Regular"]


@dataclass(frozen=True)
class Regular:
    """Every R-th line, the centre of k-space among them, and calibration lines about the centre.

    Attributes:
        acceleration: R, at least 2.
        acs: how many lines about the centre are kept; 24 is what fastMRI and CMRxRecon have at R = 4.

    Raises:
        ValueError: one of them is too small.
    """

    acceleration: int
    acs: int = 24

    def __post_init__(self) -> None:
        if self.acceleration < 2 or self.acs < 0:
            raise ValueError(
                f"undersampling takes an acceleration from 2 and calibration lines from 0, got {self.acceleration} "
                f"and {self.acs}"
            )

    def mask(self, lines: Headers, header: MrdHeader) -> npt.NDArray[np.bool_]:
        """Which lines to keep, by their kspace_encode_step_1.

        Args:
            lines: headers ``(n,)`` of all lines of images.
            header: the scan's; it says which line is the centre.

        Raises:
            ShapeError: lines are missing already, are counted beyond the matrix, or have several encoding spaces.
        """
        spaces = np.unique(lines["encoding_space_ref"])
        if len(spaces) != 1:
            raise ShapeError(
                f"regular undersampling needs a scan with lines of one encoding space, this one has {len(spaces)}: "
                "give a mask"
            )
        counters = lines["idx"]["kspace_encode_step_1"].astype(np.intp)
        first, last = int(counters.min()), int(counters.max())
        _check_full(lines, counters, last - first + 1)
        encoding = header.encoding(int(spaces[0]))
        n, center = encoding.encoded.matrix[1], encoding.limit("kspace_encode_step_1").center
        offset = n // 2 - center
        if not 0 <= first + offset <= last + offset < n:
            raise ShapeError(
                f"kspace_encode_step_1 goes from {first} to {last} with the centre {center}, and the header encodes "
                f"{n} lines: correct its encodingLimits, or give a mask"
            )
        span = (first + offset, last + offset + 1)
        config = SamplingConfig(acceleration=(self.acceleration, 1), acs=(self.acs, 0))
        kept, _ = sampling_pattern(config, (Band(n, *span, span), Band(1, 0, 1, (0, 1))))
        mask = np.zeros(last + 1, np.bool_)
        mask[kept.k1 - offset] = True
        return mask


def _check_full(lines: Headers, counters: npt.NDArray[np.intp], n: int) -> None:
    """Refuse a scan of which an image lacks lines that another has, or that lie between others."""
    counted = (*IMAGE_COUNTERS, "average", "kspace_encode_step_2")
    keys = np.stack([lines["idx"][name] for name in counted], axis=1)
    images, number = np.unique(keys, axis=0, return_inverse=True)
    seen = np.zeros((len(images), n), np.bool_)
    seen[number.ravel(), counters - counters.min()] = True
    if not seen.all():
        fewest = int(seen.sum(1).min())
        raise ShapeError(
            f"the scan is not fully sampled: an image has {fewest} of {n} lines; only a fully sampled one can be "
            "undersampled regularly, others by a mask"
        )
