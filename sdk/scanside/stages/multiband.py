"""Slices that were read out at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field, field_validator

from scanside.errors import ConfigError, ShapeError
from scanside.items import KSpace
from scanside.mrd.header import Encoding, Limit, Multiband
from scanside.outline import Outline
from scanside.recon import slice_grappa
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._blips import Blips, blips_of, ramp
from scanside.stages._calibration import CalibrationCache, calibration_region_of, sampled_readout
from scanside.stages._lattice import Lattice, check_lattice, lattice_gaps_of
from scanside.stages._single_band import without_references

__all__ = ["SeparateSlices"]

_LEAKS = 0.1  # of a slice that comes out in another, by the references, is told
_SINGLE_IMAGES = (
    "stage 'multiband' separates slices of single images: leave accumulate.together empty, and separate no "
    "volumes"
)


@dataclass(frozen=True)
class _Learned:
    """What separates the slices of one readout slice.

    Attributes:
        weights: of slice-GRAPPA.
        blips: phases of the slices.
        references: of single slices, without those phases, ``(slice, coil, 1, k1, k0)``.
    """

    weights: slice_grappa.SliceWeights
    blips: Blips
    references: torch.Tensor


class SeparateSlices(Stage[KSpace, KSpace]):
    """Makes k-space of single slices of lines that hold several (multiband), by split slice-GRAPPA.

    `accumulate` brings such lines with the single-band references of all their slices. Each slice goes on with its
    own counter, position and reference, and its blips' phase is taken off: it lies at its place, and the stages
    behind see what they would have seen had it been acquired alone. In-plane acceleration is theirs to undo.

    Whether the references carry the phase of the blips is told from the lines themselves: references with the right
    phases add up to them. Vendors differ there. References without it tell the shift, too; where they carry it, the
    header has to (``deltaKz`` in cycles per mm with ``dZ`` in mm), or the settings. References that fit neither are
    those of another blip pattern, and refused.

    The meta attribute ``ScansideMultiband`` tells how many slices were separated, and how much of one comes out in
    another by the references, noise included. K-space of single slices passes unchanged.

    Cauley et al.: Interslice leakage artifact reduction technique for simultaneous multislice acquisitions, Magn
    Reson Med 2014;72:93. Setsompop et al.: Blipped-controlled aliasing in parallel imaging for simultaneous
    multislice echo planar imaging, Magn Reson Med 2012;67:1210.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            kernel_k0: samples of the kernel along the readout, odd.
            kernel_k1: acquired lines that the kernel reads along k1, odd.
            regularization: Tikhonov weight relative to the mean eigenvalue of the normal matrix.
            shift: by how much a slice lies further on than the one before it in the same readout, as a part of the
                undersampled field of view, where the header's is wrong or missing: 0.5 for half of it, 0 for none.
        """

        kernel_k0: int = Field(5, ge=1)
        kernel_k1: int = Field(5, ge=1)
        regularization: float = Field(1e-4, ge=0)
        shift: float | None = Field(None, ge=-1, le=1)

        @field_validator("kernel_k0", "kernel_k1")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError("must be odd, so that the kernel has a middle")
            return value

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Several slices at once by the header, lines in its steps, and references; single slices leave it."""
        multiband, lines = outline.encoding.multiband, outline.lines
        if multiband is None:
            return outline.doubted(
                "the header tells of no slices that were read out at once, so that stage 'multiband' leaves the "
                "lines as they are: take another pipeline"
            )
        if outline.calibration is None and not outline.calibrated_elsewhere:
            return outline.refused(without_references(multiband))
        if lines is None or lines.shape[1] > 1 or outline.window is not None:
            return outline.refused(_SINGLE_IMAGES)
        try:
            for sampled in lines:
                check_lattice(sampled, Lattice((outline.encoding.acceleration[0], 1)))
        except ShapeError as error:
            return outline.refused(str(error))
        return replace(outline, encoding=_of_single_slices(outline.encoding, multiband.factor))

    def open(self, scan: Scan) -> None:
        """A new scan: no weights are known."""
        self._scan = scan
        self._cache: CalibrationCache[_Learned] = CalibrationCache()
        scan.corrected_by.add("multiband")

    def process(self, item: KSpace) -> Iterator[KSpace]:
        """Separate the slices."""
        multiband = item.encoding.multiband
        if multiband is None:
            yield item
            return
        if item.reference is None or item.reference.other[:1] != ("slice",):
            raise ConfigError(
                f"slice {item.counters.get('slice', 0)} holds {multiband.factor} slices, and has no references of "
                "each: stage 'multiband' belongs right behind 'accumulate', which collects them"
            )
        if item.other or item.data.shape[-3] > 1:
            raise ConfigError(_SINGLE_IMAGES)
        r = item.encoding.acceleration[0]
        sampled, lattice = item.mask.cpu().numpy(), Lattice((r, 1))
        check_lattice(sampled, lattice, complete=item.incomplete is None)
        # Lines that were lost count as zeros: their images have artefacts, and say why.
        planned = item.mask | torch.from_numpy(lattice_gaps_of(sampled, lattice)).to(item.mask.device)
        learned = self._cache.get(item, lambda: self._learn(item, multiband))
        together = slice_grappa.separate(learned.weights, item.data, planned)
        given = together.abs().amax((1, 2, 4)) > 0
        n_k1 = item.data.shape[-2]
        for band, kspace in enumerate(together):
            turned = kspace * ramp(-learned.blips.cycles[band], n_k1, n_k1 // 2, kspace)
            yield self._slice(item, learned, band, turned, given.any(0))

    def close(self) -> None:
        """Forget the weights."""
        self._cache = CalibrationCache()

    def _learn(self, item: KSpace, multiband: Multiband) -> _Learned:
        references = item.reference
        assert references is not None
        r = item.encoding.acceleration[0]
        source, (_, lines) = calibration_region_of(item, "the separation of slices", at_center=False)
        readout = sampled_readout(source, at_center=False)
        block = source.data[..., lines, readout]
        assert source.ranges is not None
        center = source.ranges[1].center - lines.start
        first = item.data.shape[-2] // 2 - center  # row of the block's first line
        rows = slice(first, first + block.shape[-2])
        number = item.counters.get("slice", 0)
        blips = blips_of(
            item.data[..., rows, readout],
            item.mask[0, rows],
            block,
            center,
            acceleration=r,
            announced=self._announced(multiband, number),
            where=f"slice {number}",
        )
        turns = torch.stack([ramp(cycles, block.shape[-2], center, block) for cycles in blips.missing])
        kernel = (self.config.kernel_k0, self.config.kernel_k1)
        weights = slice_grappa.calibrate(block * turns[:, None, None], r, kernel, self.config.regularization)
        if weights.worst_leakage > _LEAKS:
            self._scan.warn(
                f"slice {number}: {100 * weights.worst_leakage:.0f} % of a slice comes out in another that was "
                "read out with it, by the references: the coils tell them apart badly; a smaller multiband factor, "
                "another shift, or slices further apart leak less"
            )
        n_lines = source.data.shape[-2]
        back = torch.stack(
            [
                ramp(missing - cycles, n_lines, source.ranges[1].center, block)
                for missing, cycles in zip(blips.missing, blips.cycles, strict=True)
            ]
        )
        return _Learned(weights, blips, source.data * back[:, None, None])

    def _announced(self, multiband: Multiband, number: int) -> tuple[float, ...] | None:
        """Phase of each slice that it gains from one acquired line to the next, in cycles; None where nobody says."""
        if self.config.shift is not None:
            return tuple(band * self.config.shift for band in range(multiband.factor))
        offsets = multiband.offsets_mm(number)
        if offsets is None or multiband.delta_kz is None:
            return None
        return tuple(multiband.delta_kz * offset for offset in offsets)

    def _slice(
        self, item: KSpace, learned: _Learned, band: int, kspace: torch.Tensor, given: torch.Tensor
    ) -> KSpace:
        """One of the slices, as if it had been acquired alone."""
        assert item.reference is not None
        headers, counters = item.headers.copy(), dict(item.counters)
        of_slice = item.reference.headers[band]
        known = of_slice[of_slice["version"] > 0][0]
        counters["slice"] = int(known["idx"]["slice"])
        acquired = headers["version"] > 0
        for name in ("position", "read_dir", "phase_dir", "slice_dir"):
            headers[name][acquired] = known[name]
        headers["idx"]["slice"][acquired] = counters["slice"]
        mask = item.mask & given[None]  # without lines between those of the lattice
        headers[~mask.cpu().numpy()] = np.zeros((), headers.dtype)
        reference = item.reference.replace(
            data=learned.references[band],
            mask=item.reference.mask[band],
            headers=of_slice,
            other=item.reference.other[1:],
            counters=counters,
        )
        meta = item.meta.copy()
        meta["ScansideMultiband"] = [
            str(len(learned.references)),
            f"{100 * learned.weights.worst_leakage:.2g} % of a slice come out in another, by the references and "
            "with their noise",
        ]
        return item.replace(
            data=kspace,
            mask=mask,
            headers=headers,
            counters=counters,
            reference=reference,
            encoding=_of_single_slices(item.encoding, len(learned.references)),
            meta=meta,
        )


def _of_single_slices(encoding: Encoding, factor: int) -> Encoding:
    """The encoding space that single slices would have."""
    limits = dict(encoding.limits)
    if "slice" in limits:
        limits["slice"] = Limit(0, limits["slice"].n * factor - 1, 0)
    return replace(encoding, multiband=None, limits=limits)
