"""Sizes: which engine a scan goes to, and how it is padded to it and cropped back.

A network takes images of any size, in multiples of what it halves them to. An engine has one size. A bundle lists
some for which engines are built beforehand (*buckets*), and an image goes to the smallest of these that holds it,
unless that is several times as large: then to one of the image's `own_size`, as it does where it fits into none.

Images are continued by reflection, as networks that see nothing else want it. Unrolled networks check their image
against the data, whose Fourier transform has the scan's own size; one of a larger size would be another operator.
Where the transform comes in as matrices, the network may be larger all the same: image and coil maps get zeros around
them, and the matrices stand in larger matrices of zeros. With maps of zero nothing out there takes part in ``Aᴴ A``,
which stays exactly that of the scan. In the exact form no maps go in, and matrices of zeros keep nothing of what lies
around: there, too, images are continued by reflection, which networks that were trained on whole images take better
(up to 0.8 dB in small images, measured on heads).

Time is another matter: a window has the length that the network was trained with, or goes elsewhere. So do images
where a network is of a fixed size: dense layers know each place of k-space by its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from scanside.engines.manifest import Lowering, Shapes, TensorSpec
from scanside.errors import ShapeError
from scanside.recon.film_start import Start

__all__ = [
    "LARGEST_SIDE",
    "Fit",
    "check_frames",
    "columns_specs",
    "film_specs",
    "fit",
    "holds",
    "largest",
    "noncartesian_specs",
    "own_size",
    "reflect",
    "unrolled_specs",
]

LARGEST_SIDE = 640
"""Of images, in both directions: for larger ones an engine takes gigabytes, and many seconds. A bundle that lists
larger sizes takes these as well."""

_FEWEST_CELLS = 12
"""Of each side, where the network has halved it as often as it does: norms over fewer cells of a small image say
little. In heads of 64 × 64, on 8 × 8 cells, the shipped unrolled network is 3 dB worse than on 12 × 12."""

_MUCH_LARGER = 4
"""So many times as large as the image's own size an engine may be: a compiled one takes about as long then as PyTorch
takes for the image's own size."""

_IMAGES_OF_COLUMNS = ("image", "fitted")


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

    def reflected(
        self, specs: Sequence[TensorSpec], inputs: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Inputs of a network without data consistency, in the engine's size; contiguous.

        Images are continued by reflection; what has no ``k1`` and ``k0`` stays as it is.

        Args:
            specs: what the inputs are.
            inputs: of the image's size, one for each of `specs`.

        Raises:
            ShapeError: there are more or fewer inputs than specs, or an image has another size.
        """
        self._check_count(specs, inputs)
        return tuple(
            self.pad(one) if "k1" in spec.axes else one.contiguous()
            for spec, one in zip(specs, inputs, strict=True)
        )

    def surround(
        self, specs: Sequence[TensorSpec], inputs: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Inputs of a network with data consistency, in the engine's size along ``k1`` and ``k0``; contiguous.

        There are zeros around them; around the images of the form ``columns`` their reflection. Data consistency
        inside stays exactly what it is.

        Args:
            specs: what the inputs are.
            inputs: of the image's size, one for each of `specs`.

        Raises:
            ShapeError: there are more or fewer inputs than specs, or one is not of the image's size.
        """
        self._check_count(specs, inputs)
        exact = any(spec.name == "kept" for spec in specs)
        return tuple(
            self.pad(one) if exact and spec.name in _IMAGES_OF_COLUMNS else self._surrounded(spec, one)
            for spec, one in zip(specs, inputs, strict=True)
        )

    def crop(self, image: torch.Tensor) -> torch.Tensor:
        """From ``(*, k1, k0)`` of the engine to that of the image."""
        for axis, n, large in ((-2, self.size[0], self.bucket[0]), (-1, self.size[1], self.bucket[1])):
            image = image.narrow(axis, large // 2 - n // 2, n)
        return image

    @staticmethod
    def _check_count(specs: Sequence[TensorSpec], inputs: Sequence[torch.Tensor]) -> None:
        if len(inputs) != len(specs):
            raise ShapeError(
                f"expected {len(specs)} inputs ({', '.join(map(str, specs))}), got {len(inputs)}"
            )

    def _surrounded(self, spec: TensorSpec, tensor: torch.Tensor) -> torch.Tensor:
        lengths = {"k1": (self.size[0], self.bucket[0]), "k0": (self.size[1], self.bucket[1])}
        known = [lengths.get(str(axis)) for axis in spec.axes]
        if tensor.ndim != len(known) or any(
            one and one[0] != n for one, n in zip(known, tensor.shape, strict=True)
        ):
            raise ShapeError(
                f"input {spec} was announced for images of {_text(self.size)}, got {tuple(tensor.shape)}"
            )
        margins: list[int] = []
        for one in reversed(known):  # torch counts from the last axis
            before = one[1] // 2 - one[0] // 2 if one else 0
            margins += [before, one[1] - one[0] - before if one else 0]
        return pad(tensor, margins).contiguous()


def fit(lowering: Lowering, shapes: Shapes, k1: int, k0: int) -> Fit:
    """The engine that is built for images of a size: the smallest bucket that holds them, or one of their own size.

    With the lowering ``fft`` nothing can be padded outside of the network: its engines are of exactly each size. A
    network of a fixed size has one engine.

    Args:
        lowering: of the bundle's data consistency.
        shapes: sizes that the bundle lists.
        k1: phase-encoding size of the image.
        k0: readout size.

    Raises:
        ShapeError: no engine takes this size; says which sizes are taken.
    """
    own = own_size(lowering, shapes, k1, k0)
    if lowering == "fft" or shapes.fixed:
        return Fit((k1, k0), own)
    holding = [bucket for bucket in shapes.buckets if holds(lowering, shapes, bucket, (k1, k0))]
    return Fit((k1, k0), min(holding, key=lambda bucket: (math.prod(bucket), bucket), default=own))


def own_size(lowering: Lowering, shapes: Shapes, k1: int, k0: int) -> tuple[int, int]:
    """The smallest size ``(k1, k0)`` of an engine for images of a size that loses nothing by being small.

    Args:
        lowering: of the bundle's data consistency.
        shapes: sizes that the bundle lists.
        k1: phase-encoding size of the image.
        k0: readout size.

    Raises:
        ShapeError: the images are too large, or with the lowering ``fft`` of a size that the network cannot halve; or
            not of the size of a network that has one.
    """
    if shapes.fixed:
        if (k1, k0) not in shapes.buckets:
            raise ShapeError(
                f"an image of {k1}×{k0} fits into no engine: this network takes images of {_text(shapes.buckets[0])} "
                "and no others; use a classical pipeline, or train a network for this size"
            )
        return k1, k0
    step, most = shapes.multiple_of, largest(shapes)
    if k1 > most[0] or k0 > most[1]:
        raise ShapeError(
            f"an image of {k1}×{k0} fits into no engine: this network takes images of up to {_text(most)}; crop the "
            "image, use a classical pipeline, or build the bundle with a larger size"
        )
    if lowering == "fft":
        if k1 % step or k0 % step:
            raise ShapeError(
                f"k-space of {k1}×{k0} fits into no engine of this unrolled network: it takes multiples of {step}; "
                "use a classical pipeline, or build the bundle with the lowering 'pmatrix', which takes all sizes"
            )
        return k1, k0
    cells = (max(-(-n // step), _FEWEST_CELLS) for n in (k1, k0))
    n1, n0 = (step * n for n in cells)
    return n1, n0


def largest(shapes: Shapes) -> tuple[int, int]:
    """The largest ``(k1, k0)`` of images that a bundle takes."""
    if shapes.fixed:
        return shapes.buckets[0]
    k1, k0 = (max(LARGEST_SIDE, *sides) for sides in zip(*shapes.buckets, strict=True))
    return k1, k0


def holds(lowering: Lowering, shapes: Shapes, shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether an engine of some shape serves images of some size: it holds them, with the room that small ones need
    where the bundle does not list it, and is not much larger.

    Args:
        lowering: of the bundle's data consistency.
        shapes: sizes that the bundle lists.
        shape: ``(k1, k0)`` of the engine.
        size: ``(k1, k0)`` of the images, which the bundle takes.
    """
    if lowering == "fft" or shapes.fixed:
        return shape == size
    own = own_size(lowering, shapes, *size)
    needed = size if shape in shapes.buckets else own
    large_enough = shape[0] >= needed[0] and shape[1] >= needed[1]
    return large_enough and math.prod(shape) <= _MUCH_LARGER * math.prod(own)


def check_frames(shapes: Shapes, n_frames: int) -> None:
    """Refuse a window of another length than the network's.

    Args:
        shapes: sizes that the bundle allows.
        n_frames: of the window.

    Raises:
        ShapeError: says which length is taken.
    """
    if shapes.frames is None:
        raise ShapeError(f"the network takes single frames, got a window of {n_frames}: give it one by one")
    if n_frames != shapes.frames:
        raise ShapeError(
            f"the network takes windows of {shapes.frames} frames and no others, and this one has {n_frames}: set "
            f"window.size to {shapes.frames}"
        )


def unrolled_specs(lowering: Lowering) -> tuple[TensorSpec, ...]:
    """The inputs of unrolled networks with masks along k1 (see `scanside.recon.consistency`), in their order.

    Args:
        lowering: of data consistency; ``none`` for no inputs that tell of the sampling.
    """
    mask = TensorSpec(name="mask", axes=("batch", "k1", 1))
    sampling: dict[Lowering, tuple[TensorSpec, ...]] = {
        "fft": (mask,),
        "pmatrix": (TensorSpec(name="p", axes=("batch", 2, "k1", "k1")),),
        "dft_matmul": (mask, TensorSpec(name="dft1", axes=(2, "k1", "k1"))),
    }
    return (
        TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),
        TensorSpec(name="maps", axes=("batch", "coil", 2, "k1", "k0")),
        TensorSpec(name="noise", axes=("batch", 1, 1, 1)),
        *sampling.get(lowering, ()),
    )


def noncartesian_specs() -> tuple[TensorSpec, ...]:
    """The inputs of unrolled networks for samples anywhere in k-space (see `scanside.engines.roles`), in their order.

    In an engine of a larger size kernel and transforms have zeros around them as all else has: what the matrices take
    to a place of the spectrum is multiplied with the kernel of that place, and nothing comes from the others.
    """
    return (
        *unrolled_specs("none"),
        TensorSpec(name="toeplitz", axes=("batch", 2, 2, "k1", "k0")),
        TensorSpec(name="double1", axes=(2, 2, "k1", "k1")),
        TensorSpec(name="double0", axes=(2, 2, "k0", "k0")),
    )


def columns_specs() -> tuple[TensorSpec, ...]:
    """The inputs of an unrolled network's exact form (see `scanside.engines.columns`), in their order."""
    return (
        TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),
        TensorSpec(name="fitted", axes=("batch", 2, "k1", "k0")),
        TensorSpec(name="kept", axes=("batch", 2, "k0", "k1", "k1")),
        TensorSpec(name="support", axes=("batch", 1, "k1", "k0")),
    )


def film_specs(lowering: Lowering, start: Start | None = None) -> tuple[TensorSpec, ...]:
    """The inputs of networks for films (see `scanside.recon.consistency.film_sampling_inputs`), in their order.

    Args:
        lowering: of data consistency; ``none`` for networks that take the images alone.
        start: the film that the network begins with (`scanside.recon.film_start`); None for that of its own making.
    """
    image = TensorSpec(name="image", axes=("batch", 2, "time", "k1", "k0"))
    if lowering == "none":
        return (image,)
    _, maps, noise, *sampling = unrolled_specs(lowering)
    begun = () if start is None else (TensorSpec(name=start, axes=image.axes),)
    return (image, maps, noise, *begun, *(_in_time(spec) for spec in sampling))


def _in_time(spec: TensorSpec) -> TensorSpec:
    """What each frame has its own of has the time axis next to the batch; the transforms are the same for all."""
    if "batch" not in spec.axes:
        return spec
    return TensorSpec(name=spec.name, axes=("batch", "time", *spec.axes[1:]))


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
