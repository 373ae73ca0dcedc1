"""Coil compression as a stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from scanside.errors import CalibrationError, ConfigError
from scanside.items import AxisRange, Calibration, KSpace
from scanside.mrd.dtypes import Headers
from scanside.recon.compression import CoilCompression, geometric, pca
from scanside.recon.resize import crop_or_pad
from scanside.scan import Scan
from scanside.stage import Expected, Stage, StageConfig
from scanside.stages._calibration import CalibrationCache, calibration_block
from scanside.stages._finite import check_finite

__all__ = ["CompressCoils"]


class CompressCoils(Stage[Calibration | KSpace, Calibration | KSpace]):
    """Replaces many coils by few virtual ones that hold nearly all of the signal.

    Image and calibration lines are compressed alike, by a matrix that the calibration lines give (or the fully
    sampled middle of k-space). It keeps white noise white: put the stage behind the one that prewhitens. K-space of
    no more coils than asked for passes unchanged. The meta attribute ``ScansideCoilCompression`` tells method, coil
    counts and the part of the calibration lines' energy that was kept.

    Buehrer et al., Magn Reson Med 2007;57:1131. Zhang et al., Magn Reson Med 2013;69:571.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            n_coils: number of virtual coils.
            method: ``pca``: one matrix for all, principal components; ``geometric``: one for every position along the
                readout, which needs fewer coils where they lie along it, and whole readouts.
            calibration: largest edge of the block that the matrix is found in, in samples.
            energy: less than this part of the energy being kept is told to the operator.
        """

        n_coils: int = Field(8, ge=1)
        method: Literal["pca", "geometric"] = "pca"
        calibration: int = Field(24, ge=2)
        energy: float = Field(0.95, ge=0, le=1)

    config: Config

    def expect(self, expected: Expected) -> Expected:
        """As many coils as asked for, or fewer."""
        n_coils = self.config.n_coils
        return replace(expected, n_coils=min(n_coils, expected.n_coils or n_coils))

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is known of its coils."""
        self._scan = scan
        self._cache: CalibrationCache[tuple[CoilCompression, KSpace | None]] = CalibrationCache()

    def process(self, item: Calibration | KSpace) -> Iterator[Calibration | KSpace]:
        """Compress one k-space, or the calibration lines that come before it."""
        kspace = item.kspace if isinstance(item, Calibration) else item
        if kspace.n_coils <= self.config.n_coils:
            yield item
            return
        if isinstance(item, Calibration):
            with suppress(CalibrationError):  # raised again with the whole k-space, unless more lines come
                _, reference = self._compression(kspace)
                data = kspace.data.narrow(-4, 0, self.config.n_coils)
                yield item.replace(data=data, reference=reference)
            return
        yield self._compressed(kspace)

    def close(self) -> None:
        """Forget the coils."""
        self._cache = CalibrationCache()

    def _compressed(self, item: KSpace) -> KSpace:
        if item.coil_maps is not None:
            raise ConfigError(
                "the coils of this k-space have maps already, which would not fit virtual coils: put "
                "'coil-compression' before 'coil-maps'"
            )
        compression, reference = self._compression(item)
        meta = item.meta.copy()
        told = f"{compression.energy:.4f} of the energy"
        meta["ScansideCoilCompression"] = [
            self._method(item),
            f"{item.n_coils} coils to {compression.n_virtual}",
            told,
        ]
        if compression.energy < self.config.energy:
            self._scan.warn(
                f"{compression.n_virtual} virtual coils keep {told} of {item.n_coils} coils: raise "
                "coil-compression.n_coils, or use method 'geometric'"
            )
        return item.replace(
            data=_applied(compression, item),
            headers=_with_channels(item.headers, compression.n_virtual),
            reference=reference,
            meta=meta,
        )

    def _compression(self, item: KSpace) -> tuple[CoilCompression, KSpace | None]:
        """The compression for an item, and its calibration lines compressed: the same object for the same lines."""
        return self._cache.get(item, lambda: self._found(item))

    def _found(self, item: KSpace) -> tuple[CoilCompression, KSpace | None]:
        block = calibration_block(item, "coil compression")
        edge = self.config.calibration
        block = crop_or_pad(block, [min(n, edge) for n in block.shape[-3:]], (-3, -2, -1))
        check_finite(block, item.reference or item)
        if self._method(item) == "geometric":
            compression = geometric(block, self.config.n_coils, item.data.shape[-1])
        else:
            compression = pca(block, self.config.n_coils)
        reference = item.reference
        if reference is not None:
            reference = reference.replace(
                data=_applied(compression, reference),
                headers=_with_channels(reference.headers, compression.n_virtual),
            )
        return compression, reference

    def _method(self, item: KSpace) -> str:
        """The method of the settings, unless echoes are asymmetric: their samples cannot tell positions apart."""
        ranges = (item.reference or item).ranges
        if self.config.method == "geometric" and not _whole(ranges, item.data.shape[-1]):
            self._scan.warn(
                "the readout was not sampled as a whole (asymmetric echo): coils are compressed by 'pca', since "
                "'geometric' compression needs all of its samples"
            )
            return "pca"
        return self.config.method


def _applied(compression: CoilCompression, item: KSpace) -> torch.Tensor:
    lines = item.mask.reshape(-1, *item.mask.shape[-2:]).any(0)
    return compression.apply(item.data, lines)


def _whole(ranges: tuple[AxisRange, AxisRange, AxisRange] | None, n_k0: int) -> bool:
    return ranges is None or (ranges[0].first == 0 and ranges[0].last == n_k0 - 1)


def _with_channels(headers: Headers, n: int) -> Headers:
    changed = headers.copy()
    changed["active_channels"][headers["version"] > 0] = n
    return changed
