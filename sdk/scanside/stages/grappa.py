"""GRAPPA."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator

from scanside.errors import CalibrationError, ShapeError
from scanside.items import KSpace
from scanside.losses import filled, lattice_gaps
from scanside.mrd.header import REORDERING_SHIFT, Encoding
from scanside.outline import Outline
from scanside.recon import grappa
from scanside.recon.fourier import to_image, to_kspace
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._calibration import (
    CalibrationCache,
    calibration_block,
    calibration_found,
    foreseen_calibration,
)
from scanside.stages._lattice import (
    Lattice,
    check_lattice,
    describe_sampled,
    lattice_gaps_of,
    lattice_of,
    shifted_lattice_of,
)

__all__ = ["Grappa"]

_LARGEST = 9  # acceleration of a shifted lattice that is looked for
_PLANNED = 16  # more than this part of an axis that stays empty at its ends is told


class Grappa(Stage[KSpace, KSpace]):
    """Fills the lines that regular undersampling left out, with weights learned from the calibration lines.

    Acquired lines stay as they are. The weights are learned anew for every k-space that brings calibration
    lines of its own, and once for all that share separate ones. Where `accumulate` has found that lines were lost,
    these count as zeros: their image has artefacts, and says why.

    Where calibration lines are too few for the kernel, a smaller one is taken, and the operator told. The few
    partitions of a thin slab that is not accelerated along k2 are transformed first, and each has weights of its own.

    Fully sampled data pass unchanged. Where the header announces no acceleration but lines form a lattice all the
    same, its spacing is taken (the operator was told where k-space was made); irregular sampling is an error.

    A lattice of a volume that is shifted along k2 from one of its k1 lines to the next (CAIPIRINHA) is told from the
    lines, since the standard's header has no place for it. Where a user parameter ReorderingShift3D names another
    shift, the operator is told, and the lines count.

    Griswold et al.: Generalized autocalibrating partially parallel acquisitions (GRAPPA), Magn Reson Med
    2002;47:1202. Breuer et al.: Controlled aliasing in volumetric parallel imaging (2D CAIPIRINHA), Magn Reson Med
    2006;55:549.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            kernel_k0: samples of the kernel along the readout, odd.
            kernel_k1: acquired lines that the kernel reads along k1.
            kernel_k2: acquired partitions that the kernel reads along k2, in 3-D; a slab is thin that holds fewer
                than twice as many.
            regularization: Tikhonov weight relative to the mean eigenvalue of the normal matrix.
            acceleration: (R1, R2) where the header's is wrong or missing; (1, 1) leaves lines that are missing zero.
            shift: lines along k2 by which the lattice moves from one of its k1 lines to the next, where it is not to
                be told from the lines.
        """

        kernel_k0: int = Field(5, ge=1)
        kernel_k1: int = Field(4, ge=1)
        kernel_k2: int = Field(4, ge=1)
        regularization: float = Field(5e-4, ge=0)
        acceleration: tuple[int, int] | None = None
        shift: int | None = Field(None, ge=0)

        @field_validator("kernel_k0")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError("must be odd, so that the kernel has a middle")
            return value

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Lines in regular steps, and calibration lines that suffice for a kernel; the lines between are filled."""
        masks = outline.lines
        if masks is None:
            return outline
        try:
            acceleration = self._acceleration_of(outline.encoding, masks, complete=True)
            if acceleration == (1, 1):
                return outline
            lattice = self._lattice_of(masks, acceleration, complete=True) or Lattice(acceleration)
            for sampled in masks:
                check_lattice(sampled, lattice)
            block = foreseen_calibration(outline, "GRAPPA", at_center=False)
            if block is not None:
                calibrating = masks[:1] if outline.calibration is None else outline.calibration[None]
                thin = self._fills_slices(masks, calibrating, acceleration)
                shape = (outline.n_coils, 1 if thin else block[0], block[1], outline.size[1])
                wanted = (self.config.kernel_k0, self.config.kernel_k1, self.config.kernel_k2)
                grappa.fitting_kernel(torch.empty(shape, device="meta"), acceleration, wanted, lattice.shift)
        except (CalibrationError, ShapeError) as error:
            return outline.refused(str(error))
        return replace(outline, lines=np.stack([filled(filled(sampled)) for sampled in masks]))

    def open(self, scan: Scan) -> None:
        """A new scan: no weights are known."""
        self._scan = scan
        self._caches: dict[bool, CalibrationCache[grappa.GrappaWeights]]
        self._caches = {thin: CalibrationCache() for thin in (False, True)}

    def process(self, item: KSpace) -> Iterator[KSpace]:
        """Fill the missing lines."""
        masks = item.mask.reshape(-1, *item.mask.shape[-2:]).cpu().numpy()
        acceleration = self._acceleration(item, masks)
        if acceleration == (1, 1):
            yield item
            return
        lattice = self._lattice(item, masks, acceleration)
        for sampled in masks:
            if sampled.any():
                check_lattice(sampled, lattice, complete=item.incomplete is None)
        self._tell_open_ends(masks, lattice)
        thin = self._is_thin(item, masks, lattice.acceleration)
        weights = self._weights(item, lattice, thin=thin)
        if thin:
            slices = item.replace(data=_slices(item.data), mask=item.mask[..., :1, :])
            filled = _slab(self._fill(slices, weights))
            filled = torch.where(item.mask[..., None, :, :, None], item.data, filled)
        else:
            filled = self._fill(item, weights)
        yield item.replace(data=filled)

    def close(self) -> None:
        """Forget the weights."""
        self._caches = {}

    def weights_of(self, item: KSpace) -> grappa.GrappaWeights | None:
        """The weights by which the missing lines of a k-space are filled; None where none are filled.

        Raises:
            ShapeError: it is a thin slab, whose slices have weights of their own.
        """
        masks = item.mask.reshape(-1, *item.mask.shape[-2:]).cpu().numpy()
        acceleration = self._acceleration(item, masks)
        if acceleration == (1, 1):
            return None
        if self._is_thin(item, masks, acceleration):
            raise ShapeError(
                f"a slab of {item.data.shape[-3]} partitions is filled slice by slice, with weights of each slice"
            )
        return self._weights(item, self._lattice(item, masks, acceleration), thin=False)

    def _weights(self, item: KSpace, lattice: Lattice, *, thin: bool) -> grappa.GrappaWeights:
        return self._caches[thin].get(item, lambda: self._calibrate(item, lattice, thin=thin))

    def _acceleration(self, item: KSpace, masks: npt.NDArray[np.bool_]) -> tuple[int, int]:
        found = self._acceleration_of(item.encoding, masks, complete=item.incomplete is None)
        announced = self.config.acceleration or item.encoding.acceleration != (1, 1)
        sampled = next((mask for mask in masks if mask.any()), None)
        if announced or sampled is None or found != (1, 1) or item.incomplete is not None:
            return found
        if n_missing := int(lattice_gaps(sampled, (1, 1)).sum()):
            self._scan.warn(
                f"{n_missing} lines are missing, not in regular steps, and stay zero; pipeline 'sense' does without "
                f"them: sampled are {describe_sampled(sampled)}"
            )
        return found

    def _acceleration_of(
        self, encoding: Encoding, masks: npt.NDArray[np.bool_], *, complete: bool
    ) -> tuple[int, int]:
        """That of the settings, of the header, or of the lines ``(frame, k2, k1)``, in this order."""
        announced = self.config.acceleration or encoding.acceleration
        sampled = next((mask for mask in masks if mask.any()), None)
        if announced != (1, 1) or self.config.acceleration or sampled is None:
            return announced
        found = lattice_of(sampled, complete=complete)
        if found is None and (shifted := _shifted(sampled)) is not None:
            return shifted.acceleration
        if found is None:
            raise ShapeError(
                "the header announces no acceleration, but lines are missing, and not in regular steps; sampled are "
                f"{describe_sampled(sampled)}: GRAPPA cannot fill them, use pipeline 'sense' for irregular sampling"
            )
        return found

    def _lattice(self, item: KSpace, masks: npt.NDArray[np.bool_], acceleration: tuple[int, int]) -> Lattice:
        """That of `_lattice_of`, or without one the header's; tells where the header names another shift."""
        found = self._lattice_of(masks, acceleration, complete=item.incomplete is None)
        named = self._scan.header.user_parameters.get(REORDERING_SHIFT)
        asked = self.config.shift is not None
        if found is not None and not asked and named is not None and named != found.shift:
            self._scan.warn(
                f"the header's user parameter {REORDERING_SHIFT} is {named}, but the lines form a lattice of "
                f"{found.acceleration[0]} x {found.acceleration[1]} that is shifted by {found.shift} along k2: the "
                "lines count; have the converter write what was acquired"
            )
        return found or Lattice(acceleration)

    def _lattice_of(
        self, masks: npt.NDArray[np.bool_], acceleration: tuple[int, int], *, complete: bool
    ) -> Lattice | None:
        """The lattice with the shift of the settings, or the one that lines ``(frame, k2, k1)`` of a volume show."""
        if self.config.shift is not None:
            if self.config.shift >= acceleration[1]:
                raise ShapeError(
                    f"grappa.shift is {self.config.shift}, but of every {acceleration[1]} lines along k2 one was "
                    f"acquired: a lattice can be shifted by 0 to {acceleration[1] - 1}"
                )
            return Lattice(acceleration, self.config.shift)
        sampled = next((mask for mask in masks if mask.any()), None)
        if sampled is None or len(sampled) == 1:
            return None
        return shifted_lattice_of(sampled, acceleration, complete=complete)

    def _tell_open_ends(self, masks: npt.NDArray[np.bool_], lattice: Lattice) -> None:
        """Tell that a good part of a short axis stays empty: nothing is filled beyond the outermost lattice line."""
        r1, r2 = lattice.acceleration
        for axis, r in ((2, r1), (1, math.gcd(r2, lattice.shift))):
            n_lines = masks[0].sum(axis=2 - axis)
            n, first = len(n_lines), max(range(r), key=lambda offset: int(n_lines[offset::r].sum()))
            lines = first + r * np.flatnonzero(n_lines[first::r])
            if r == 1 or not len(lines):
                continue
            below, above = int(lines[0]), n - 1 - int(lines[-1])
            if max(below, above) < r and below + above > n / _PLANNED:  # further out, it is partial Fourier
                self._scan.warn(
                    f"GRAPPA fills lines between acquired ones only: at the ends of k{3 - axis}, {below + above} of "
                    f"{n} stay zero, which costs resolution; pipeline 'sense' does without"
                )

    def _is_thin(self, item: KSpace, masks: npt.NDArray[np.bool_], acceleration: tuple[int, int]) -> bool:
        source = item.reference or item
        calibrating = source.mask.reshape(-1, *source.mask.shape[-2:]).cpu().numpy()
        return self._fills_slices(masks, calibrating, acceleration)

    def _fills_slices(
        self,
        masks: npt.NDArray[np.bool_],
        calibrating: npt.NDArray[np.bool_],
        acceleration: tuple[int, int],
    ) -> bool:
        """Whether there are few partitions, and all of them with the same lines, those for calibration too."""
        n2 = masks.shape[-2]
        if not 1 < n2 < 2 * self.config.kernel_k2 or acceleration[1] > 1 or calibrating.shape[-2] != n2:
            return False
        return all(bool((lines == lines[:, :1]).all()) for lines in (masks, calibrating))

    def _calibrate(self, item: KSpace, lattice: Lattice, *, thin: bool) -> grappa.GrappaWeights:
        acceleration, shift = lattice
        wanted = (self.config.kernel_k0, self.config.kernel_k1, self.config.kernel_k2)
        block = calibration_block(item, "GRAPPA", at_center=False)
        if thin:
            block = _with_signal(_slices(block))
        try:
            kernel = grappa.fitting_kernel(block, acceleration, wanted, shift)
            weights = grappa.calibrate(block, acceleration, kernel, self.config.regularization, shift)
        except CalibrationError as error:
            raise CalibrationError(f"{error}{calibration_found(item)}") from None
        n2, n1 = block.shape[-3:-1]
        more_could_come = n2 < item.data.shape[-3] and not thin
        if kernel[:2] != wanted[:2] or (kernel[2] < wanted[2] and more_could_come):
            self._scan.warn(
                f"the calibration block of {n1} k1 x {n2} k2 lines is too small for the GRAPPA kernel {wanted} "
                f"(k0, k1, k2) with {item.n_coils} coils: {kernel} is taken; the image may be less exact"
            )
        return weights

    def _fill(self, item: KSpace, weights: grappa.GrappaWeights) -> torch.Tensor:
        masks = item.mask.reshape(-1, *item.mask.shape[-2:])
        if item.incomplete is not None:
            masks = _without_gaps(masks, Lattice(weights.acceleration, weights.shift))
        if bool((masks == masks[0]).all()):
            return grappa.apply(weights, item.data, masks[0])
        # Frames that were sampled differently (for example interleaved in time) are filled one by one.
        n_other = len(item.other)
        data = item.data.reshape(len(masks), *item.data.shape[n_other:])
        values = weights.values
        values = values.reshape(-1, *values.shape[values.ndim - (data.ndim - 3) :])
        if len(values) not in (1, len(masks)):
            raise ShapeError(
                f"GRAPPA weights of {len(values)} frames do not fit {len(masks)} frames with different "
                "sampling: give every frame its calibration lines, or all the same"
            )
        per_frame = [replace(weights, values=v) for v in values.expand(len(masks), *values.shape[1:])]
        filled = [grappa.apply(w, d, m) for w, d, m in zip(per_frame, data, masks, strict=True)]
        return torch.stack(filled).reshape(item.data.shape)


def _shifted(sampled: npt.NDArray[np.bool_]) -> Lattice | None:
    """The shifted lattice, of those that are usual, that lines form of which nothing was announced."""
    for total in range(2, _LARGEST + 1) if len(sampled) > 1 else ():
        if (found := shifted_lattice_of(sampled, (1, total))) is not None:
            return found
    return None


def _slices(kspace: torch.Tensor) -> torch.Tensor:
    """A slab ``(*other, coil, k2, k1, k0)`` as slices ``(*other, z, coil, 1, k1, k0)``."""
    return to_image(kspace, (-3,)).transpose(-4, -3).unsqueeze(-3)


def _with_signal(slices: torch.Tensor) -> torch.Tensor:
    """`_slices` of which those without any signal, beyond the object, are the strongest one of their slab."""
    power = slices.abs().square().sum((-4, -3, -2, -1), keepdim=True)
    strongest = torch.take_along_dim(slices, power.argmax(-5, keepdim=True), -5)
    return torch.where(power > 0, slices, strongest)


def _slab(slices: torch.Tensor) -> torch.Tensor:
    """The way back from `_slices`."""
    return to_kspace(slices.squeeze(-3).transpose(-4, -3), (-3,))


def _without_gaps(masks: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """The masks ``(frame, k2, k1)`` with the lines that were lost counted as sampled."""
    gaps = [lattice_gaps_of(mask, lattice) if mask.any() else ~mask for mask in masks.cpu().numpy()]
    return masks | torch.from_numpy(np.stack(gaps)).to(masks.device)
