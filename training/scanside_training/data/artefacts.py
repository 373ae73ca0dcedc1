"""Scans of objects that move, and scans whose lines in turn disagree: what a network can learn to take back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from scanside.recon.fourier import to_image, to_kspace
from scanside_training.data.scanned import ScannedSlice
from scanside_training.data.settings import FloatRange, IntRange, Settings
from scanside_training.data.slices import ImageToImage

__all__ = ["ArtefactTask", "GhostConfig", "MotionConfig", "ghosted", "moved"]


class MotionConfig(Settings):
    """An object that rests, jumps and rests again; what it jumps by is small beside what coils' fields change by."""

    probability: float = Field(default=0.7, ge=0, le=1)
    """Share of the samples."""
    states: IntRange = (2, 6)
    """Positions in a scan."""
    shift: FloatRange = (0.5, 3.0)
    """Standard deviation of a position in each direction, in voxels."""

    @model_validator(mode="after")
    def _positive(self) -> MotionConfig:
        if self.states[0] < 1 or self.shift[0] < 0:
            raise ValueError(f"there is one state or more, and shifts are not negative: got {self}")
        return self

    def draw(self, n_lines: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The position that each line was acquired in, ``(k1,)``, and the positions ``(state, 2)`` along k1 and k0.

        Lines come one after the other or interleaved. The centre of k-space, which says where an image lies, has not
        moved.
        """
        n = int(rng.integers(*self.states, endpoint=True))
        line = torch.arange(n_lines)
        state = line % n if rng.random() < 0.5 else line * n // n_lines
        positions = rng.uniform(*self.shift) * torch.from_numpy(rng.standard_normal((n, 2)))
        return state, positions - positions[state[n_lines // 2]]


class GhostConfig(Settings):
    """Every other line is off in phase and late, as lines of an EPI read in turn to both sides are: an N/2 ghost."""

    probability: float = Field(default=0.5, ge=0, le=1)
    """Share of the samples."""
    phase: FloatRange = (0.1, 0.8)
    """Between the lines of both kinds, in radians."""
    delay: FloatRange = (0.0, 0.5)
    """Between them, in samples of a readout."""


def moved(hybrid: Tensor, state: Tensor, positions: Tensor) -> Tensor:
    """A scan whose object has moved, by the Fourier shift theorem.

    Args:
        hybrid: ``(coil, k1, k0)``, k-space along k1 and image along k0, centre at ``n // 2``.
        state: ``(k1,)``, which of the positions each line was acquired in.
        positions: ``(state, 2)``, shifts along k1 and k0 in voxels, towards larger indices.
    """
    *_, n1, n0 = hybrid.shape
    shift1, shift0 = positions[state].unbind(1)
    k1, k0 = ((torch.arange(n, dtype=torch.float64) - n // 2) / n for n in (n1, n0))
    angle = -2 * math.pi * (shift1[:, None] * k1[:, None] + shift0[:, None] * k0)
    return to_image(
        to_kspace(hybrid, (-1,)) * torch.polar(torch.ones_like(angle), angle).to(hybrid.dtype), (-1,)
    )


def ghosted(hybrid: Tensor, phase: float, delay: float) -> Tensor:
    """A scan ``(coil, k1, k0)``, as above, whose odd lines are off by a phase in radians and a delay in samples."""
    *_, n1, n0 = hybrid.shape
    place = (torch.arange(n0, dtype=torch.float64) - n0 // 2) / n0
    angle = phase + 2 * math.pi * delay * place
    odd = torch.polar(torch.ones_like(angle), angle).to(hybrid.dtype)
    return torch.where(torch.arange(n1)[:, None] % 2 == 1, hybrid * odd, hybrid)


class ArtefactTask(ImageToImage):
    """As ``image``, of scans that something went wrong with; what should come out are the images without it."""

    takes_plane_masks: ClassVar = False  # lines are what motion and ghosts are of

    kind: Literal["artefacts"] = "artefacts"
    motion: MotionConfig = MotionConfig()
    ghost: GhostConfig = GhostConfig()

    def disturbed(self, scan: ScannedSlice, rng: np.random.Generator) -> ScannedSlice:
        """The scan with what went wrong, and its target without."""
        hybrid = scan.hybrid
        if rng.random() < self.motion.probability:
            hybrid = moved(hybrid, *self.motion.draw(hybrid.shape[1], rng))
        if rng.random() < self.ghost.probability:
            hybrid = ghosted(hybrid, rng.uniform(*self.ghost.phase), rng.uniform(*self.ghost.delay))
        return replace(scan, hybrid=hybrid)
