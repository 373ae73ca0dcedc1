"""What a scan leaves to be solved: ``Aᴴ y``, coil maps and mask, and k-space where it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from scanside.errors import CalibrationError, ConfigError
from scanside.recon.cg import conjugate_gradient
from scanside.recon.espirit import espirit
from scanside.recon.fourier import to_kspace
from scanside.recon.grappa import calibration_region
from scanside.recon.noise_level import noise_level
from scanside.recon.sense import SenseOperator
from scanside_training.models import Batch

__all__ = ["Problem", "line_conditions"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A two-dimensional Cartesian scan whose lines k1 were acquired in part.

    Attributes:
        mask: ``(k1,)`` bool, the centre of k-space at ``k1 // 2``.
        maps: ``(coil, y, x)`` complex64 with ``Σ_coil |map|² = 1``, or 0 where there is no object.
        adjoint: ``(y, x)`` complex64, ``Aᴴ y``: the zero-filled image, combined with the maps.
        noise: ``()`` standard deviation of the noise's real and imaginary part, in k-space as in a coil's voxels.
        kspace: ``(coil, k1, k0)`` complex64, 0 where nothing was acquired; None where only ``Aᴴ y`` is known.
    """

    mask: torch.Tensor
    maps: torch.Tensor
    adjoint: torch.Tensor
    noise: torch.Tensor
    kspace: torch.Tensor | None = None

    @classmethod
    def from_kspace(cls, kspace: torch.Tensor, mask: torch.Tensor) -> Problem:
        """Undersample a scan, and find its coil maps by ESPIRiT in the lines that are complete around the centre.

        Args:
            kspace: ``(coil, k1, k0)`` complex64.
            mask: ``(k1,)`` bool.

        Raises:
            CalibrationError: there are no complete lines around the centre, or too few of them.
        """
        kspace = kspace * mask[:, None]
        first, last = _calibration_lines(mask)
        maps = espirit(kspace[:, None, first:last], (1, *kspace.shape[-2:]))
        adjoint = SenseOperator(maps, mask[None]).adjoint(kspace[:, None])[0]
        return cls(mask, maps[:, 0], adjoint, noise_level(kspace, mask), kspace)

    @classmethod
    def from_sample(cls, sample: Batch) -> Problem | None:
        """The problem that a training sample states; None where it holds an image only.

        Its k-space is known where there is one coil whose map changes phases only, so that ``Aᴴ y`` holds all of it.

        Raises:
            ConfigError: its mask is over two phase encodings.
        """
        if sample["mask"].shape[-1] > 1:
            raise ConfigError(
                "evaluations take masks along k1, and these samples have masks over two phase encodings "
                "(simulation.masks.plane): the measures of such a network are those of its validations"
            )
        if "maps" not in sample:
            return None
        maps, adjoint = (_complex(sample[name]) for name in ("maps", "image"))
        mask = sample["mask"][:, 0] > 0
        whole = len(maps) == 1 and torch.allclose(maps.abs(), torch.ones(()), atol=1e-4)
        kspace = to_kspace(maps * adjoint) * mask[:, None] if whole else None
        return cls(mask, maps, adjoint, sample["noise"], kspace)

    @property
    def n_calibration(self) -> int:
        """Lines around the centre of k-space without a gap."""
        first, last = _calibration_lines(self.mask)
        return last - first

    @property
    def conditions(self) -> dict[str, float]:
        """Acceleration, calibration lines, coils and matrix, as numbers that measures may be drawn over."""
        return line_conditions(self.mask) | {"n_coils": len(self.maps), "columns": self.adjoint.shape[-1]}

    def cg_sense(self, l2: float, iterations: int) -> torch.Tensor:
        """The image ``(y, x)`` that explains the data best, by conjugate gradients.

        Args:
            l2: Tikhonov weight, relative to the largest eigenvalue of ``Aᴴ A``.
            iterations: most steps.
        """
        image: torch.Tensor = _Solve.apply(self.adjoint, self._operator, l2, iterations)  # type: ignore[no-untyped-call]
        return image

    def samples_of(self, image: torch.Tensor) -> torch.Tensor:
        """What is acquired of an image ``(y, x)`` complex64: k-space ``(coil, k1, k0)``, 0 on the other lines."""
        return self._operator.forward(image[None])[:, 0]

    def image_of(self, samples: torch.Tensor) -> torch.Tensor:
        """``Aᴴ`` on k-space ``(coil, k1, k0)``: an image ``(y, x)``; what lies on other lines is ignored."""
        return self._operator.adjoint(samples[:, None])[0]

    @cached_property
    def normal(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """``Aᴴ A`` on images ``(1, y, x)``."""
        return self._operator.normal

    def plus(self, samples: torch.Tensor) -> Problem:
        """The same scan with something added to what was acquired.

        Maps, mask and the level of the noise stay as they are.

        Args:
            samples: ``(coil, k1, k0)`` complex64; what lies on other lines is ignored.
        """
        kspace = None if self.kspace is None else self.kspace + samples * self.mask[:, None]
        return replace(self, adjoint=self.adjoint + self.image_of(samples), kspace=kspace)

    @property
    def _operator(self) -> SenseOperator:
        return SenseOperator(self.maps[:, None], self.mask[None])


class _Solve(torch.autograd.Function):
    """CG-SENSE, which is self-adjoint as its operator is: a gradient goes back through the same solution."""

    @staticmethod
    def forward(
        ctx: Any, adjoint: torch.Tensor, operator: SenseOperator, l2: float, iterations: int
    ) -> torch.Tensor:
        ctx.settings = operator, l2, iterations
        return _solution(adjoint, operator, l2, iterations)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return _solution(grads[0], *ctx.settings), None, None, None


def _solution(right: torch.Tensor, operator: SenseOperator, l2: float, iterations: int) -> torch.Tensor:
    return conjugate_gradient(
        lambda image: operator.normal(image) + l2 * image,
        right[None],
        tolerance=1e-5,
        max_iterations=iterations,
    ).solution[0]


def line_conditions(mask: torch.Tensor) -> dict[str, float]:
    """Acceleration, lines of the matrix, and those around the centre without a gap, 0 where it was not acquired.

    Args:
        mask: ``(k1,)`` bool.
    """
    acquired = mask.nonzero().flatten().tolist()
    centre, block = len(mask) // 2, 0
    if centre in acquired:
        missing = [-1, *(~mask).nonzero().flatten().tolist(), len(mask)]
        block = min(one for one in missing if one > centre) - max(one for one in missing if one < centre) - 1
    return {"acceleration": len(mask) / max(len(acquired), 1), "acs": block, "lines": len(mask)}


def _calibration_lines(mask: torch.Tensor) -> tuple[int, int]:
    """First line of the complete block that holds the centre, and the one after its last."""
    region = calibration_region(mask[None])[1]
    centre = len(mask) // 2
    if not region.start <= centre < region.stop:
        raise CalibrationError(
            f"the longest run of acquired lines is {region.start} to {region.stop - 1}, which does not hold the "
            f"centre of k-space, line {centre}: coil maps need calibration (ACS) lines there"
        )
    return region.start, region.stop


def _complex(pairs: torch.Tensor) -> torch.Tensor:
    """float32 ``(*, 2, y, x)`` as complex64 ``(*, y, x)``."""
    return torch.complex(pairs[..., 0, :, :], pairs[..., 1, :, :])
