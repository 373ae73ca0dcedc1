"""Removal of readout oversampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from scanside.errors import HeaderError, ShapeError
from scanside.items import Readouts
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.outline import Outline
from scanside.recon.resize import remove_oversampling
from scanside.scan import Scan
from scanside.stage import Expected, Stage, StageConfig
from scanside.stages._lines import different_layout, readout_grid, straighten

__all__ = ["RemoveOversampling"]


class RemoveOversampling(Stage[Readouts, Readouts]):
    """Crops the readout to the field of view of the images.

    The factor is the ratio of encoded to reconstructed field of view. Readouts that were cropped before they
    came here pass unchanged, as do noise readouts, and readouts that are no lines of an image (navigators, prescans)
    and do not fit the encoded matrix. An asymmetric echo stays one: only acquired samples leave.
    """

    Config = StageConfig

    def expect(self, expected: Expected) -> Expected:
        """The readout becomes as long as in the images."""
        n1, n0 = expected.size
        return replace(expected, size=(n1, round(n0 / expected.encoding.oversampling)))

    def foresee(self, outline: Outline) -> Outline:
        """The readout becomes as long as in the images."""
        n1, n0 = outline.size
        encoding = outline.encoding
        return replace(outline, size=(n1, min(n0, round(encoding.encoded.matrix[0] / encoding.oversampling))))

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: Readouts) -> Iterator[Readouts]:
        """Crop one block, or its parts where encoding spaces or kinds of readouts are mixed."""
        headers = item.headers
        if not len(headers):
            return
        noise = flagged(headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)
        aside = flagged(headers["flags"], NOT_IMAGING)
        kind = headers["encoding_space_ref"].astype(np.int64) + ((noise + 2 * aside).astype(np.int64) << 32)
        ends = np.flatnonzero(np.append((kind[1:] != kind[:-1]) | different_layout(headers), True)) + 1
        start = 0
        for end in ends.tolist():
            part = item.select(slice(start, end))
            if aside[start] and not noise[start]:
                with suppress(HeaderError, ShapeError):  # nobody has to be able to place it
                    part = self._cropped(part)
            elif not noise[start]:
                part = self._cropped(part)
            yield part
            start = end

    def _cropped(self, item: Readouts) -> Readouts:
        encoding = self._scan.encoding(int(item.headers["encoding_space_ref"][0]))
        item = straighten(item)
        n, extent_mm = readout_grid(encoding, item)
        factor = extent_mm / encoding.recon.field_of_view_mm[0]
        if round(n / factor) >= n:
            return item
        n_samples, center = item.samples.shape[2], int(item.headers["center_sample"][0])
        samples = remove_oversampling(item.samples, factor, grid=n, center_sample=center)
        middle = samples.shape[2] // 2
        # A side that was acquired to its end stays so, although rounding may say otherwise.
        first = 0 if center == n // 2 else max(0, middle - math.floor(center / factor))
        is_full = n_samples - center == n - n // 2
        last = (
            samples.shape[2]
            if is_full
            else min(samples.shape[2], middle + math.ceil((n_samples - center) / factor))
        )
        cropped = item.with_samples(samples[:, :, first:last])
        cropped.headers["center_sample"] = middle - first
        return cropped
