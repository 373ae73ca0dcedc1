"""What flows through a pipeline: `Readouts`, `Waveform`, `KSpace` and `Image`, between stages `Calibration`,
`Samples`.

Axis names, order and units are fixed here, once:

* k0 is the readout direction, k1 phase encoding, k2 partition encoding; x, y, z are their images.
* Tensors end in ``(coil, k2, k1, k0)`` or ``(channel, z, y, x)``: the readout direction is last.
* The centre of k-space lies at index ``N // 2`` of its axis, and so does an image's reference point: the
  voxel with index ``N // 2`` in x, y and z lies at the header's position.
* Lengths are in mm, positions and directions in LPS patient coordinates as the scanner gave them; a time has
  its unit in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from scanside.mrd.dtypes import Headers
from scanside.mrd.header import Encoding
from scanside.mrd.meta import Meta
from scanside.mrd.readouts import Readouts, Waveform

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "AxisRange",
    "Calibration",
    "Image",
    "Item",
    "KSpace",
    "Readouts",
    "Samples",
    "Waveform",
    "item_types",
]


@dataclass(frozen=True, slots=True)
class AxisRange:
    """Sampled part of a k-space axis as grid indices, both ends included, and the index of its centre."""

    first: int
    last: int
    center: int


@dataclass(slots=True, eq=False)
class KSpace:
    """The k-space of one or several images that are reconstructed together.

    Attributes:
        data: ``(*other, coil, k2, k1, k0)`` complex64 on the pipeline's device; zero where nothing was
            sampled.
        mask: ``(*other, k2, k1)`` bool, same device: lines that were sampled.
        headers: ``(*other, k2, k1)`` of `ACQUISITION_HEADER`; a line that was not sampled has version 0.
        encoding: the encoding space that the data belong to.
        other: names of the counters in the leading axes, in order, for example ``("contrast", "phase")``.
        counters: value of every counter that is the same for the whole item, for example its slice.
        ranges: sampled range along (k0, k1, k2).
        field_of_view_mm: extent of the image that a Fourier transform of `data` gives, (x, y, z).
        reference: calibration (ACS) data with the same axes, where they came separately or were set apart.
        coil_maps: ``(coil, z, y, x)`` complex64, once a stage has made them.
        second_maps: of the same shape, orthogonal to them: a second set for voxels that hold what one set cannot
            explain, zero elsewhere; None where one set is enough. A stage that does not know of it takes the first.
        contrasts: images of the same slices with another contrast by their names, ``(z, y, x)`` float32 on the grid
            of the image that a Fourier transform of `data` gives, divided by their own
            `scanside.recon.scaling.image_scale`.
        trajectory: ``(*other, k2, k1, k0, dimension)`` float32, for data that are not Cartesian.
        density: ``(*other, k2, k1, k0)`` float32, density compensation, where there is one.
        incomplete: why the data are not complete, or None.
        meta: what stages wish to tell with the images, copied to each.
        wanted: of a window of frames, the positions along the leading axis whose images are to be made; None for
            all. The other frames are there to help.
    """

    data: torch.Tensor
    mask: torch.Tensor
    headers: Headers
    encoding: Encoding
    other: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    ranges: tuple[AxisRange, AxisRange, AxisRange] | None = None
    field_of_view_mm: tuple[float, float, float] | None = None
    reference: KSpace | None = None
    coil_maps: torch.Tensor | None = None
    second_maps: torch.Tensor | None = None
    contrasts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    trajectory: torch.Tensor | None = None
    density: torch.Tensor | None = None
    incomplete: str | None = None
    meta: Meta = field(default_factory=Meta)
    wanted: tuple[int, ...] | None = None

    @property
    def n_coils(self) -> int:
        """Number of receiver channels."""
        return int(self.data.shape[-4])

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Field of view that the grid of `data` spans, (x, y, z)."""
        return self.field_of_view_mm or self.encoding.encoded.field_of_view_mm

    def replace(self, **changes: Any) -> KSpace:
        """A copy with some attributes changed; tensors are shared, not copied."""
        return replace(self, **changes)


@dataclass(slots=True, eq=False)
class Calibration:
    """The calibration lines of a k-space whose other lines are still to come.

    What takes long to compute from them, such as coil maps, is ready when the last line comes if a stage begins
    with it now. The k-space that follows has the same object as its `KSpace.reference`; or another one, if its
    calibration lines have changed after all. A stage that takes this item keeps what it computes, and hands the
    item on, changed as it changes k-space, if later stages may want it. It never leaves a pipeline.

    Attributes:
        kspace: what is known of the k-space: axes, counters and `KSpace.reference`, and `KSpace.coil_maps` once a
            stage has made them. Its own samples are not there.
        lines: ``(*other, k2, k1)`` bool, the lines that it will probably have, where that can be told: those so far
            lie on the header's lattice, or as in an earlier k-space.
    """

    kspace: KSpace
    lines: torch.Tensor | None = None

    def replace(self, **changes: Any) -> Calibration:
        """A copy with some attributes of `kspace` changed; tensors are shared, not copied."""
        return Calibration(self.kspace.replace(**changes), self.lines)


@dataclass(slots=True, eq=False)
class Samples:
    """Samples anywhere in k-space, of one image. They never leave a pipeline whose stages came from a file.

    Attributes:
        data: ``(coil, readout, sample)`` complex64 on the pipeline's device.
        points: ``(readout, sample, dimension)`` float32, same device: k along x, y and, of volumes, z, in cycles per
            voxel of the image: within ±0.5.
        headers: ``(1, readout)`` of `ACQUISITION_HEADER`.
        encoding: the encoding space that the samples belong to.
        matrix: (x, y, z) of the image.
        field_of_view_mm: its extent (x, y, z).
        counters: value of every counter that is the same for all of them, for example the slice.
        coil_maps: ``(coil, z, y, x)`` complex64, once a stage has made them.
        incomplete: why samples are missing, or None.
        meta: what stages wish to tell with the image.
    """

    data: torch.Tensor
    points: torch.Tensor
    headers: Headers
    encoding: Encoding
    matrix: tuple[int, int, int]
    field_of_view_mm: tuple[float, float, float]
    counters: Mapping[str, int] = field(default_factory=dict)
    coil_maps: torch.Tensor | None = None
    incomplete: str | None = None
    meta: Meta = field(default_factory=Meta)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image along the axes of its points, slowest first: (y, x), or (z, y, x) of volumes."""
        return tuple(reversed(self.matrix[: self.points.shape[-1]]))

    def replace(self, **changes: Any) -> Samples:
        """A copy with some attributes changed; tensors are shared, not copied."""
        return replace(self, **changes)


@dataclass(slots=True, eq=False)
class Image:
    """One image.

    Attributes:
        data: ``(channel, z, y, x)`` real or complex, on any device.
        header: scalar of `IMAGE_HEADER`; sizes and sample type in it follow `data` when it is sent.
        meta: MRD meta attributes.
        incomplete: why the image was made from incomplete data, or None.
        encoding: the encoding space that it belongs to, where known.
        what: an image, or a map that belongs to one: ``uncertainty``, the error to be expected of each voxel; or of
            its noise ``snr``, ``g-factor`` and ``deviation``, the standard deviation of the real part.
    """

    data: torch.Tensor
    header: np.void
    meta: Meta = field(default_factory=Meta)
    incomplete: str | None = None
    encoding: Encoding | None = None
    what: Literal["image", "uncertainty", "snr", "g-factor", "deviation"] = "image"

    def replace(self, **changes: Any) -> Image:
        """A copy with some attributes changed; the samples are shared, not copied."""
        return replace(self, **changes)


Item: TypeAlias = Readouts | Waveform | KSpace | Samples | Image
"""Anything that stages hand on; `Samples` neither come into a pipeline nor leave it."""


def item_types() -> dict[str, type]:
    """The kinds of items that may come into a pipeline by the name that its file uses."""
    return {"readouts": Readouts, "waveform": Waveform, "kspace": KSpace, "image": Image}
