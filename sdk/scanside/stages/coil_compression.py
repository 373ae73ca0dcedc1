"""Coil compression as a stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from pydantic import Field

from scanside.errors import CalibrationError
from scanside.items import Calibration, KSpace
from scanside.outline import Outline
from scanside.recon.compression import ENERGY, CoilCompression
from scanside.scan import Scan
from scanside.stage import Expected, Stage, StageConfig
from scanside.stages._calibration import CalibrationCache
from scanside.stages._virtual_coils import (
    EDGE,
    Method,
    compressed,
    find_compression,
    method_for,
    reference_of_virtual_coils,
    without_samples,
)

__all__ = ["CompressCoils"]


class CompressCoils(Stage[Calibration | KSpace, Calibration | KSpace]):
    """Replaces many coils by few virtual ones that hold nearly all of the signal.

    Image and calibration lines, and maps where there are any, are compressed alike, by matrices that the calibration
    lines give (or the fully sampled middle of k-space). They keep white noise white: put the stage behind the one
    that prewhitens. K-space of no more coils than asked for passes unchanged. The meta attribute
    ``ScansideCoilCompression`` tells method, coil counts and the part of the signal's energy in the calibration lines
    that was kept, ``ScansideCoilCompressionLoss`` the part that was lost.

    Buehrer et al., Magn Reson Med 2007;57:1131. Zhang et al., Magn Reson Med 2013;69:571.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            n_coils: number of virtual coils, neither more nor fewer, as engines ask for; None for as few as keep
                `energy`.
            method: ``geometric``: a matrix for every position along the readout; it needs whole readouts, and ``pca``
                is taken where echoes are asymmetric. ``pca``: one matrix for all, principal components, which need
                more coils for the same energy.
            calibration: largest edge of the block that the matrices are found in, in samples.
            energy: part of the signal's energy that virtual coils are to keep; less being kept by `n_coils` is told
                to the operator.
        """

        n_coils: int | None = Field(None, ge=1)
        method: Literal["pca", "geometric"] = "geometric"
        calibration: int = Field(EDGE, ge=2)
        energy: float = Field(ENERGY, ge=0, le=1)

    config: Config

    def expect(self, expected: Expected) -> Expected:
        """As many coils as asked for, or fewer."""
        n_coils = self.config.n_coils
        if n_coils is None:
            return replace(expected, n_coils=None)
        return replace(expected, n_coils=min(n_coils, expected.n_coils or n_coils))

    def foresee(self, outline: Outline) -> Outline:
        """As many coils as asked for, or fewer."""
        return replace(outline, n_coils=min(self.config.n_coils or outline.n_coils, outline.n_coils))

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is known of its coils."""
        self._scan = scan
        self._cache: CalibrationCache[tuple[CoilCompression, KSpace | None]] = CalibrationCache()

    def process(self, item: Calibration | KSpace) -> Iterator[Calibration | KSpace]:
        """Compress one k-space, or the calibration lines that come before it."""
        kspace = item.kspace if isinstance(item, Calibration) else item
        if kspace.n_coils <= (self.config.n_coils or 1):
            yield item
            return
        if isinstance(item, Calibration):
            with suppress(CalibrationError):  # raised again with the whole k-space, unless more lines come
                compression, reference = self._compression(kspace)
                yield Calibration(
                    without_samples(compression, kspace).replace(reference=reference), item.lines
                )
            return
        compression, reference = self._compression(kspace)
        self._tell(kspace, compression)
        yield compressed(compression, kspace, self._method(kspace)).replace(reference=reference)

    def close(self) -> None:
        """Forget the coils."""
        self._cache = CalibrationCache()

    def _tell(self, item: KSpace, compression: CoilCompression) -> None:
        """What makes the virtual coils worse than was asked for."""
        method = self._method(item)
        if "method" in self.config.model_fields_set and method != self.config.method:
            self._scan.warn(
                "the readout was not sampled as a whole (asymmetric echo): coils are compressed by 'pca', since "
                "'geometric' compression needs all of its samples"
            )
        if compression.energy < self.config.energy:
            better = ", or use method 'geometric'" if self.config.method == "pca" else ""
            self._scan.warn(
                f"{compression.n_virtual} virtual coils keep {compression.energy:.4f} of the energy of "
                f"{item.n_coils} coils: leave coil-compression.n_coils out or raise it{better}"
            )

    def _compression(self, item: KSpace) -> tuple[CoilCompression, KSpace | None]:
        """The compression for an item, and its calibration lines compressed: the same object for the same lines."""
        return self._cache.get(item, lambda: self._found(item))

    def _found(self, item: KSpace) -> tuple[CoilCompression, KSpace | None]:
        config = self.config
        compression = find_compression(
            item, config.n_coils, self._method(item), edge=config.calibration, energy=config.energy
        )
        return compression, reference_of_virtual_coils(compression, item)

    def _method(self, item: KSpace) -> Method:
        return "pca" if self.config.method == "pca" else method_for(item)
