"""Sizes: which engine an image goes to, and how it is padded to it and cropped back."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scanside.engines.manifest import Shapes, Task
from scanside.errors import ShapeError

__all__ = ["Fit", "fit", "reflect"]


@dataclass(frozen=True)
class Fit:
    """An image of some size in an engine of the same or a larger one; centres (index N//2) fall together.

    Attributes:
        size: ``(k1, k0)`` of the image.
        bucket: ``(k1, k0)`` of the engine.
    """

    size: tuple[int, int]
    bucket: tuple[int, int]

    def pad(self, image: torch.Tensor) -> torch.Tensor:
        """From ``(*, k1, k0)`` of the image to that of the engine, by reflection; contiguous.

        Raises:
            ShapeError: the image has another size.
        """
        if tuple(image.shape[-2:]) != self.size:
            raise ShapeError(f"an image of {_text(self.size)} was announced, got {_text(image.shape[-2:])}")
        for axis, n in ((-2, self.bucket[0]), (-1, self.bucket[1])):
            image = reflect(image, axis, n)
        return image.contiguous()

    def crop(self, image: torch.Tensor) -> torch.Tensor:
        """From ``(*, k1, k0)`` of the engine to that of the image."""
        for axis, n, large in ((-2, self.size[0], self.bucket[0]), (-1, self.size[1], self.bucket[1])):
            image = image.narrow(axis, large // 2 - n // 2, n)
        return image


def fit(task: Task, shapes: Shapes, k1: int, k0: int) -> Fit:
    """The engine that an image goes to.

    Images (task ``image``) go to the smallest bucket that holds them. Unrolled networks check their image against
    the data, whose Fourier transform has the image's own size, so that nothing can be padded outside of them: they
    have an engine of exactly each size, within the smallest and the largest bucket.

    Args:
        task: of the bundle.
        shapes: sizes that the bundle allows.
        k1: phase-encoding size of the image.
        k0: readout size.

    Raises:
        ShapeError: no engine of the bundle takes this size; lists those that are taken.
    """
    if task == "unrolled":
        return _exact(shapes, (k1, k0))
    holding = [bucket for bucket in shapes.buckets if bucket[0] >= k1 and bucket[1] >= k0]
    if not holding:
        raise ShapeError(
            f"an image of {k1}×{k0} fits into no engine: the bundle has {_listed(shapes)}; crop the image, or "
            "build the bundle with a larger size"
        )
    return Fit((k1, k0), min(holding, key=lambda bucket: (bucket[0] * bucket[1], bucket)))


def _exact(shapes: Shapes, size: tuple[int, int]) -> Fit:
    lowest, highest = (
        tuple(bound(axis) for axis in zip(*shapes.buckets, strict=True)) for bound in (min, max)
    )
    within = all(low <= n <= high for low, n, high in zip(lowest, size, highest, strict=True))
    if not within or any(n % shapes.multiple_of for n in size):
        step = f" in multiples of {shapes.multiple_of}" if shapes.multiple_of > 1 else ""
        raise ShapeError(
            f"k-space of {_text(size)} fits into no engine of this unrolled network: it takes {_text(lowest)} to "
            f"{_text(highest)}{step} ({_listed(shapes)} are built beforehand); use a classical pipeline, or "
            "build the bundle with other sizes"
        )
    return Fit(size, size)


def reflect(tensor: torch.Tensor, axis: int, n: int) -> torch.Tensor:
    """Extend or crop one axis to n elements around its centre, index N//2; what is new mirrors what is there.

    Unlike ``torch.nn.functional.pad`` it mirrors more than once where the axis is much too short.

    Args:
        tensor: any shape.
        axis: which.
        n: its length afterwards.
    """
    there = tensor.shape[axis]
    if there == n:
        return tensor
    index = torch.arange(n, device=tensor.device) - n // 2 + there // 2
    period = max(2 * there - 2, 1)
    index = index.remainder(period)
    return tensor.index_select(axis, torch.minimum(index, period - index) if there > 1 else index)


def _text(size: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, size))


def _listed(shapes: Shapes) -> str:
    return ", ".join(_text(bucket) for bucket in sorted(shapes.buckets))
