"""Tasks that need no truth: of the lines of a scan some are kept from the network, and its image is judged by them.

Yaman et al., *Self-supervised learning of physics-guided reconstruction neural networks without fully sampled
reference data*, MRM 84:3172-3191 (2020): of the acquired samples, disjoint sets serve data consistency and loss. Here
whole lines are held out, as networks with exact data consistency take whole lines alone. A network may be tuned to
one scan, a third set of whose lines says when to stop: Yaman et al., *Zero-shot self-supervised learning for MRI
reconstruction*, ICLR 2022.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import noise_level
from scanside.recon.resize import crop_or_pad
from scanside_training.data.calibration import on_grid
from scanside_training.data.measured_scan import grid_of
from scanside_training.data.scanned import Scan, ScannedSlice
from scanside_training.data.settings import FloatRange
from scanside_training.data.simulation import (
    Drawn,
    Sample,
    TaskConfig,
    real_pairs,
)
from scanside_training.data.slices import scanned, unrolled_sample

__all__ = ["RecordedScans", "SelfSupervisedTask"]


class _HoldsOut(TaskConfig):
    """What the tasks share."""

    held_out: FloatRange = (0.2, 0.5)
    """Share of the acquired lines that the network does not get, drawn for every sample."""
    central: int = Field(default=8, ge=1)
    """Lines around the centre that it always gets."""
    apart: float = Field(default=0.0, ge=0, lt=1)
    """Share of the acquired lines that no training gets or is judged by, always the same ones of a scan: validations
    judge by them, and may be of the slices in training (``split: {shared: all}``)."""

    @property
    def keeps_lines_apart(self) -> bool:
        """See `TaskConfig.keeps_lines_apart`."""
        return self.apart > 0

    @model_validator(mode="after")
    def _some(self) -> _HoldsOut:
        if not 0 < self.held_out[0] <= self.held_out[1] < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}")
        return self

    def _of(self, drawn: Drawn, scan: Scan) -> Sample:
        """A sample of a scan whose target may be anything that its image is to be shown beside."""
        config, rng = drawn.config, drawn.rng
        acquired = scan.mask[:, 0].bool()
        # Always the same generator: the lines hang on those that were acquired, and on nothing else.
        apart = self._some_of(acquired, self.apart, np.random.default_rng(0))
        trained = acquired & ~apart
        judged = drawn.judging and self.keeps_lines_apart
        held_out = apart if judged else self._some_of(trained, rng.uniform(*self.held_out), rng)
        kept = trained & ~held_out
        sample, columns = unrolled_sample(config, scan.only(kept), rng)
        lines = scan.hybrid[..., columns] * held_out[:, None]
        return {
            **sample,
            "held_out": held_out[:, None].float(),
            "lines": real_pairs(lines / sample["scale"]),
        }

    def _some_of(self, lines: Tensor, share: float, rng: np.random.Generator) -> Tensor:
        """A share of lines ``(k1,)``, at least one where it is above 0, none of them around the centre."""
        centre = len(lines) // 2
        free = lines.clone()
        free[max(centre - self.central // 2, 0) : centre + (self.central + 1) // 2] = False
        candidates = torch.nonzero(free).flatten().numpy()
        n = min(max(round(share * int(lines.sum())), share > 0), len(candidates))
        chosen = torch.zeros_like(lines)
        chosen[rng.choice(candidates, n, replace=False)] = True
        return chosen


class SelfSupervisedTask(_HoldsOut):
    """As ``unrolled``, without truth: the loss is that of the lines that the network did not get (``held-out``).

    ``target`` is in the samples for the figures of a validation alone.
    """

    kind: Literal["self-supervised"] = "self-supervised"

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice."""
        return self._of(drawn, scanned(pixels, drawn))


class RecordedScans(_HoldsOut):
    """The same for scans that were recorded undersampled: nothing is simulated.

    Of the simulation only ``readout_crop`` counts; sizes, coils, lines and noise are those of the recording. The
    figures of a validation compare with the image of all lines, zero-filled.
    """

    takes: ClassVar = "scans"

    kind: Literal["recorded-scans"] = "recorded-scans"

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """A slice ``(2, coil, k1, k0)``: k-space, 0 where nothing was acquired, and coil maps."""
        config = drawn.config
        kspace, maps = pixels
        grid = grid_of(config, kspace.shape[-2], kspace.shape[-1])
        hybrid = crop_or_pad(to_image(kspace, (-1,)), grid)
        maps = crop_or_pad(on_grid(maps, (grid[0], maps.shape[-1])), grid)
        lines = (hybrid != 0).any(dim=0).any(dim=-1)
        zero_filled = (maps.conj() * to_image(hybrid, (-2,))).sum(0)
        noise = float(noise_level(to_kspace(hybrid, (-1,)), lines))
        scan = ScannedSlice(hybrid, maps, lines[:, None], zero_filled, noise)
        return self._of(drawn, scan)
