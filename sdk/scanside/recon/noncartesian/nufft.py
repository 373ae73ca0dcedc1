"""The Fourier transform between an image and samples anywhere in k-space.

finufft computes it on CPUs and cufinufft on GPUs: Barnett, Magland, af Klinteberg, *A parallel non-uniform fast
Fourier transform library based on an "exponential of semicircle" kernel*, SIAM J Sci Comput 41:C479-C504 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch

from scanside.errors import MissingExtra, NonFiniteError, ShapeError

__all__ = ["Nufft", "require_library"]

_EPS = {torch.complex64: 1e-6, torch.complex128: 1e-12}
_LARGEST = 0.5 * (1 + 1e-5)


class Nufft:
    """``F``: from an image to samples at points of k-space.

    ``sample[j] = N^(-1/2) · Σ_x image[x] · exp(-2πi · k[j] · (x − N//2))`` with k in cycles per voxel. At the points
    ``(i − N//2) / N`` of a full grid these are the samples of `scanside.recon.fourier.to_kspace`. Gradients flow
    through `forward` and `adjoint` to image and samples. Of slices, results are the same to the bit each time; of
    volumes to rounding, which threads share.

    Args:
        points: ``(n, dimension)`` real, k along the image's axes in their order, such as (y, x), in cycles per voxel,
            within ±0.5. They are on the device on which is computed.
        shape: of the image along these axes, two or three.
        eps: relative error that is allowed; by default 1e-6 in single and 1e-12 in double precision.

    Raises:
        MissingExtra: the library is not installed.
        NonFiniteError: a point is NaN or infinite.
        ShapeError: points and shape do not fit, or points lie outside of ±0.5.
    """

    def __init__(self, points: torch.Tensor, shape: Sequence[int], eps: float | None = None) -> None:
        if points.ndim != 2 or points.shape[1] != len(shape) or len(shape) not in (2, 3) or not len(points):
            raise ShapeError(
                f"a NUFFT needs points (n, dimension) of the image's two or three axes, got {tuple(points.shape)} "
                f"for an image of {tuple(shape)}"
            )
        if not bool(points.isfinite().all()):
            n = int((~points.isfinite().all(-1)).sum())
            raise NonFiniteError(f"{n} of {len(points)} points of the trajectory are NaN or infinite")
        if (largest := float(points.abs().max())) > _LARGEST:
            raise ShapeError(
                f"points of the trajectory reach {largest:.3g} cycles per voxel, and an image holds none beyond 0.5: "
                "the trajectory is in another unit, or needs a larger matrix"
            )
        self.points, self.shape, self._eps = points, tuple(shape), eps
        self._scale = 1 / math.sqrt(math.prod(shape))
        self._plans: dict[tuple[int, int, torch.dtype], Any] = {}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From images ``(*batch, *shape)`` to samples ``(*batch, n)``."""
        return _applied(image, self, 2)

    def adjoint(self, samples: torch.Tensor) -> torch.Tensor:
        """From samples ``(*batch, n)`` to images ``(*batch, *shape)``."""
        return _applied(samples, self, 1)

    def applied(self, values: torch.Tensor, kind: int) -> torch.Tensor:
        """`forward` (2) or `adjoint` (1), without gradients."""
        own, other = (self.shape, (len(self.points),)) if kind == 2 else ((len(self.points),), self.shape)
        if tuple(values.shape[values.ndim - len(own) :]) != own:
            raise ShapeError(f"a NUFFT from {own} got values of {tuple(values.shape)}")
        batch = values.shape[: values.ndim - len(own)]
        flat = values.reshape(-1, *own).contiguous()
        if not flat.is_complex():
            flat = torch.complex(flat, torch.zeros_like(flat))
        plan = self._plan(kind, len(flat), flat.dtype)
        if flat.device.type == "cpu":
            result = torch.from_numpy(plan.execute(flat.numpy() if len(flat) > 1 else flat[0].numpy()))
        else:
            result = plan.execute(flat if len(flat) > 1 else flat[0])
        return (result * self._scale).reshape(*batch, *other)

    @cached_property
    def _angles(self) -> list[torch.Tensor]:
        return [2 * torch.pi * axis.to(torch.float64) for axis in self.points.unbind(-1)]

    def _plan(self, kind: int, n: int, dtype: torch.dtype) -> Any:
        """What the library prepared for so many transforms of these points."""
        if (kind, n, dtype) not in self._plans:
            on_gpu = self.points.device.type != "cpu"
            real = torch.float32 if dtype == torch.complex64 else torch.float64
            eps = self._eps or _EPS[dtype]
            name = "complex64" if dtype == torch.complex64 else "complex128"
            # Threads add to the grid in the order in which they come to it, and for a slice they wait for each other
            # longer than one of them takes.
            threads = {} if on_gpu or len(self.shape) > 2 else {"nthreads": 1}
            plan = require_library(self.points.device).Plan(
                kind, self.shape, n_trans=n, eps=eps, isign=-1 if kind == 2 else 1, dtype=name, **threads
            )
            angles = [axis.to(real).contiguous() for axis in self._angles]
            plan.setpts(*(angles if on_gpu else [np.ascontiguousarray(axis.numpy()) for axis in angles]))
            self._plans[kind, n, dtype] = plan
        return self._plans[kind, n, dtype]


class _Apply(torch.autograd.Function):
    """A transform whose gradient is its adjoint."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, operator: Nufft, kind: int) -> torch.Tensor:
        ctx.operator, ctx.kind = operator, kind
        return operator.applied(values, kind)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _applied(gradient, ctx.operator, 3 - ctx.kind), None, None


def _applied(values: torch.Tensor, operator: Nufft, kind: int) -> torch.Tensor:
    return cast(torch.Tensor, _Apply.apply(values, operator, kind))  # type: ignore[no-untyped-call]


def require_library(device: torch.device) -> Any:
    """The module that transforms on a device: finufft, or cufinufft on a GPU.

    Raises:
        MissingExtra: it is not installed.
    """
    on_gpu = device.type != "cpu"
    name = "cufinufft" if on_gpu else "finufft"
    try:
        return import_module(name)
    except ImportError as error:
        extra = "noncartesian-cuda" if on_gpu else "noncartesian"
        raise MissingExtra(name, extra, "a trajectory that does not lie on a grid") from error
