"""SPIRiT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from pydantic import Field, field_validator

from scanside.errors import CalibrationError
from scanside.items import KSpace
from scanside.mrd.meta import Meta
from scanside.outline import Outline
from scanside.recon import spirit
from scanside.recon.combine import root_sum_of_squares
from scanside.recon.compressed_sensing.pics import image_wavelet
from scanside.recon.fourier import spatial_dims, to_image, to_kspace
from scanside.recon.partial_fourier import sampled_band
from scanside.recon.wavelet import WaveletName
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._calibration import (
    CalibrationCache,
    calibration_block,
    calibration_found,
    foreseen_calibration,
)
from scanside.stages._films import check_film
from scanside.stages._finite import check_finite
from scanside.stages._sparsity import brightness

__all__ = ["Spirit"]


class Spirit(Stage[KSpace, KSpace]):
    """Fills missing lines so that every sample is what its neighbours in all coils say, for any undersampling.

    Kernels are learned from the calibration lines. With `wavelet`, the images of the coils are sparse besides,
    jointly: those of a film in time, too, which a window of frames before it gives. Acquired lines stay as they are,
    and nothing is filled beyond the acquired band: partial Fourier stays what it is. The meta attribute
    ``SpiritIterations`` tells how many it took; what has not converged is told as a warning.

    Lustig, Pauly, Magn Reson Med 2010;64:457. Murphy et al., IEEE Trans Med Imaging 2012;31:1250. Xue et al., Magn
    Reson Med 2015;73:1015.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            kernel_k0: samples that a kernel reads along the readout, odd.
            kernel_k1: along k1, odd.
            kernel_k2: along k2, odd; of slices one.
            regularization: Tikhonov weight of the calibration, relative to the mean eigenvalue.
            l2: Tikhonov weight of the missing lines, beside ‖(G − 1) k‖²: without it noise grows where gaps are wide.
            wavelet: weight of the wavelet coefficients of the coils' images, relative to their brightness; 0 is
                SPIRiT itself, by conjugate gradients.
            family: which wavelet.
            consistency: with `wavelet`, weight of the kernels beside that of the acquired lines.
            tolerance: residual, or with `wavelet` change of the images, at which it stops.
            max_iterations: where it stops anyway.
        """

        kernel_k0: int = Field(5, ge=1)
        kernel_k1: int = Field(5, ge=1)
        kernel_k2: int = Field(5, ge=1)
        regularization: float = Field(1e-3, gt=0)
        l2: float = Field(0.003, ge=0)
        wavelet: float = Field(0.0, ge=0)
        family: WaveletName = "db2"
        consistency: float = Field(1.0, gt=0)
        tolerance: float = Field(2e-3, gt=0, lt=1)
        max_iterations: int = Field(100, ge=1)

        @field_validator("kernel_k0", "kernel_k1", "kernel_k2")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError("must be odd, so that the kernel has a middle")
            return value

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Calibration lines that suffice for the kernels; the lines between others are filled."""
        if outline.lines is None:
            return outline
        missing = _missing(torch.from_numpy(outline.lines)).numpy()
        if not missing.any():
            return outline
        try:
            block = foreseen_calibration(outline, "SPIRiT", at_center=False)
            if block is not None:
                spirit.check_amount((outline.n_coils, *block, outline.size[1]), self._kernel)
        except CalibrationError as error:
            return outline.refused(str(error))
        return replace(outline, lines=outline.lines | missing)

    @property
    def _kernel(self) -> tuple[int, int, int]:
        return self.config.kernel_k0, self.config.kernel_k1, self.config.kernel_k2

    def open(self, scan: Scan) -> None:
        """A new scan: no kernels are known."""
        self._scan = scan
        self._kernels: CalibrationCache[torch.Tensor] = CalibrationCache()

    def close(self) -> None:
        """Forget the kernels."""
        self._kernels = CalibrationCache()

    def process(self, item: KSpace) -> Iterator[KSpace]:
        """Fill the missing lines of a k-space."""
        missing = _missing(item.mask)
        if not bool(missing.any()):
            yield item
            return
        kernels = self._kernels.get(item, lambda: self._calibrate(item))
        n2, n1, n0 = item.data.shape[-3:]
        consistency = spirit.SelfConsistency(kernels, (n2, n1, n0))
        meta = item.meta.copy()
        find = self._sparse if self.config.wavelet else self._linear
        found = find(consistency, item, missing, meta)
        check_finite(found, item, item.reference)
        yield item.replace(data=torch.where(missing[..., None, :, :, None], found, item.data), meta=meta)

    def _calibrate(self, item: KSpace) -> torch.Tensor:
        block = calibration_block(item, "SPIRiT", at_center=False)
        # Frames that calibrate together have the same coils: their lines are averaged.
        block = block.reshape(-1, *block.shape[-4:]).mean(0)
        try:
            return spirit.calibrate(block, self._kernel, self.config.regularization)
        except CalibrationError as error:
            raise CalibrationError(f"{error}{calibration_found(item)}") from None

    def _linear(
        self, consistency: spirit.SelfConsistency, item: KSpace, missing: torch.Tensor, meta: Meta
    ) -> torch.Tensor:
        result = spirit.fill(
            consistency,
            item.data,
            missing,
            l2=self.config.l2,
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        meta["SpiritIterations"] = [str(result.iterations)]
        if not bool(result.converged.all()):
            self._tell_early_stop(result.iterations)
        return result.solution

    def _sparse(
        self, consistency: spirit.SelfConsistency, item: KSpace, missing: torch.Tensor, meta: Meta
    ) -> torch.Tensor:
        film = bool(item.other)
        if film:
            check_film(item, "SPIRiT with wavelets")
        dims = spatial_dims(item.data)
        begin = to_image(item.data, dims)
        check_finite(begin, item, item.reference)
        size = (*item.data.shape[:-4], *item.data.shape[-3:])
        result = spirit.fill_sparse(
            consistency,
            item.data,
            missing,
            wavelet=image_wavelet(size, self.config.family, film=film),
            weight=self.config.wavelet * brightness(root_sum_of_squares(begin), film=film),
            consistency_weight=self.config.consistency,
            tolerance=self.config.tolerance,
            max_iterations=self.config.max_iterations,
        )
        meta["SpiritIterations"] = [str(result.iterations)]
        if not result.converged:
            self._tell_early_stop(result.iterations)
        return to_kspace(result.solution, dims)

    def _tell_early_stop(self, iterations: int) -> None:
        self._scan.warn(
            f"SPIRiT stopped after {iterations} iterations before it reached the tolerance "
            f"{self.config.tolerance:g}: raise spirit.max_iterations or spirit.tolerance"
        )


def _missing(mask: torch.Tensor) -> torch.Tensor:
    """The lines ``(*other, k2, k1)`` that were not acquired, within the band that was in any frame."""
    inside = torch.zeros_like(mask)
    if not bool(mask.any()):
        return inside
    k2, k1 = sampled_band(mask, -2), sampled_band(mask)
    inside[..., k2[0] : k2[1] + 1, k1[0] : k1[1] + 1] = True
    return inside & ~mask
