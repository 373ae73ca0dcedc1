"""Between what travels on the wire and what flows through a pipeline.

Gadgetron's recon data and image arrays have the leading axes ``(loc, s, n)``, usually slice, set or average, and
phase or repetition; a `KSpace` made from them keeps these names. What nobody changes goes back in the very bytes
in which it came, with these exceptions, none of which holds information:

* headers of lines that were not sampled are zero here, and go back as those that Gadgetron gives such lines;
* headers of calibration data are cut to the lines that the data hold, and go back on the encoded grid;
* a bucket becomes its readouts, and readouts go out as acquisitions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from scanside.context import Context
from scanside.errors import IncompleteScan, MissingExtra, ScansideError, ShapeError
from scanside.items import AxisRange, Image, Item, KSpace, Readouts, Samples, Waveform
from scanside.losses import Plan, sorted_losses
from scanside.memory import process_bytes
from scanside.mrd.dtypes import (
    ACQUISITION_HEADER,
    COUNTERS,
    IMAGE_DTYPES,
    SAMPLING_DESCRIPTION,
    Headers,
)
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import Encoding, Space
from scanside.mrd.messages import Bucket, Data, ImageArray, ImageMessage, ReconBit, ReconBuffer, ReconData
from scanside.mrd.meta import Meta, MetaValue
from scanside.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

__all__ = ["FORMS", "Form", "Outlet", "items_of", "message_of"]

Form: TypeAlias = Literal["image", "image_array", "recon_data"]
"""In what kind of message results go out."""

FORMS: tuple[Form, ...] = ("image", "image_array", "recon_data")

_LEADING = ("loc", "s", "n")
_MOST_GRID = 4096
"""How many times as many lines as came a grid may have: a few bytes must not ask for gigabytes."""

_LINE_COUNTERS = ("kspace_encode_step_1", "kspace_encode_step_2")


def items_of(message: Data, scan: Scan, context: Context | None = None) -> Iterator[Item]:
    """The items that a message brings, in order.

    Args:
        message: the message; arrays are shared with it where the device allows.
        scan: its header tells the encoding spaces.
        context: on whose device k-space and images lie; None for the CPU.

    Raises:
        HeaderError: recon data have more encoding spaces than the scan's header.
        ShapeError: the arrays of a message do not fit one another.
        FormatError: the meta attributes of an image cannot be read.
        MissingExtra: k-space and images need torch, and it is not installed.
    """
    if isinstance(message, (Readouts, Waveform)):
        yield message
    elif isinstance(message, Bucket):
        yield from _bucket_items(message)
    elif isinstance(message, ReconData):
        for index, bit in enumerate(message.bits):
            if bit.data.data.size:
                yield _kspace(bit, scan, scan.encoding(index), context)
    elif isinstance(message, ImageArray):
        yield from _array_images(message, scan, context)
    else:
        meta = _ReceivedMeta.received(message.attributes, message.nul)
        yield Image(_tensor(message.data, context), message.header.copy(), meta, meta.incomplete)


def message_of(item: Item, form: Form = "image") -> Data:
    """The message that carries an item.

    Args:
        item: what a pipeline gave. K-space always becomes recon data, readouts and waveforms stay what they are.
        form: for images, ``image_array`` makes an array of one image; anything else an image message.

    Raises:
        ShapeError: the item does not fit the message.
        IncompleteScan: k-space of an incomplete scan: recon data have no place to say so.
        ScansideError: samples, which no message holds.
    """
    if isinstance(item, (Readouts, Waveform)):
        return item
    if isinstance(item, KSpace):
        return _recon_data([item])
    if isinstance(item, Samples):
        raise ScansideError("no message holds Samples: a pipeline must make images of them")
    return _image_array([item]) if form == "image_array" else _image_message(item)


class Outlet:
    """Turns what a pipeline gives into messages, grouped in the way in which the input was.

    Where image arrays (or recon data of several encoding spaces) came in and as many images (k-spaces) with the
    same counters come out, they go back together, with the waveforms and acquisition headers of the array that
    came. One thread may note what comes while another asks for messages.

    Args:
        form: in what kind of message images go out; None for that in which images came in.
    """

    def __init__(self, form: Form | None = None) -> None:
        self._form = form
        self._arrays: deque[ImageArray] = deque()
        self._spaces: deque[int] = deque()
        self._images: list[Image] = []
        self._kspaces: list[KSpace] = []
        self._arrays_came = False

    def came(self, message: Data) -> None:
        """Note a message that came in, before its items are sent through the pipeline."""
        if isinstance(message, ImageArray):
            self._arrays_came = True
            self._arrays.append(message)
        elif isinstance(message, ReconData):
            self._spaces.append(sum(1 for bit in message.bits if bit.data.data.size))

    def messages(self, item: Item) -> Iterator[Data]:
        """The messages that can go out now that the pipeline has given an item.

        Raises:
            ShapeError: see `message_of`.
            IncompleteScan: see `message_of`.
        """
        if isinstance(item, Image) and (
            self._form == "image_array" or (self._form is None and self._arrays_came)
        ):
            yield from self._grouped_image(item)
        elif isinstance(item, KSpace) and self._spaces:
            self._kspaces.append(item)
            if len(self._kspaces) >= self._spaces[0]:
                self._spaces.popleft()
                yield from self._held_kspaces()
        else:
            yield message_of(item, self._form or "image")

    def finish(self) -> Iterator[Data]:
        """The messages that were waiting for more of their group."""
        yield from self._held_images()
        yield from self._held_kspaces()

    def _grouped_image(self, image: Image) -> Iterator[Data]:
        if not self._arrays:
            yield _image_array([image])
            return
        expected = self._arrays[0].headers.ravel()
        position = len(self._images)
        fits = _same_counters(expected[position], image.header) and (
            not self._images or _same_form(self._images[0], image)
        )
        if not fits:
            # The pipeline does not give one image for each that came: from here on, one array for each.
            self._arrays.clear()
            yield from self._held_images()
            yield _image_array([image])
            return
        self._images.append(image)
        if len(self._images) == len(expected):
            images, self._images = self._images, []
            yield _image_array(images, self._arrays.popleft())

    def _held_images(self) -> Iterator[Data]:
        images, self._images = self._images, []
        for image in images:
            yield _image_array([image])

    def _held_kspaces(self) -> Iterator[Data]:
        kspaces, self._kspaces = self._kspaces, []
        if kspaces:
            yield _recon_data(kspaces)


def _same_counters(a: np.void, b: np.void) -> bool:
    return all(a[name] == b[name] for name in ("average", "slice", "contrast", "phase", "repetition", "set"))


def _same_form(a: Image, b: Image) -> bool:
    return a.data.shape == b.data.shape and a.data.dtype == b.data.dtype


# Readouts


def _bucket_items(bucket: Bucket) -> Iterator[Item]:
    """Calibration readouts, then data. A bucket holds readouts that are both in both: they come once."""
    both = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
    in_data = np.concatenate(
        [block.headers["scan_counter"] for block in bucket.data] or [np.zeros(0, np.uint32)]
    )
    for block in bucket.reference:
        again = flagged(block.headers["flags"], both) & np.isin(block.headers["scan_counter"], in_data)
        if not again.all():
            yield block.select(~again)
    yield from bucket.data
    yield from bucket.waveforms


# K-space


def _kspace(bit: ReconBit, scan: Scan, encoding: Encoding, context: Context | None) -> KSpace:
    encoding = _as_sampled(encoding, bit.data.sampling)
    kspace = _buffer_kspace(bit.data, encoding, context)
    if encoding.trajectory in ("cartesian", "epi"):
        kspace.incomplete = _tell_losses(scan, kspace.headers, encoding)
    if bit.reference is not None and bit.reference.data.size:
        own = _as_sampled(encoding, bit.reference.sampling)
        kspace.reference = _buffer_kspace(bit.reference, own, context)
    return kspace


def _tell_losses(scan: Scan, headers: Headers, encoding: Encoding) -> str | None:
    """What was lost of lines ``(loc, s, n, k2, k1)`` that Gadgetron has sorted; the operator is told."""
    counts = (headers["number_of_samples"] > 0).astype(np.int32)
    if not counts.any():
        return None
    *_, k2, k1 = (int(index[0]) for index in np.nonzero(counts))
    idx = headers[counts > 0]["idx"][0]
    offsets = (k1 - int(idx["kspace_encode_step_1"]), k2 - int(idx["kspace_encode_step_2"]))
    found = sorted_losses(
        counts, headers, Plan.of(scan.header, encoding, offsets, (counts.shape[-2], counts.shape[-1]))
    )
    for doubt in found.doubts:
        scan.warn(f"lines may have been lost: {doubt.text}")
    if not found.lost:
        return None
    text = f"lines were lost: {'; '.join(found.lost)}"
    scan.warn(text)
    return text


def _as_sampled(encoding: Encoding, sampling: np.void) -> Encoding:
    """The encoding space with the matrices and fields of view of the buffer: oversampling may be gone."""
    return replace(encoding, encoded=_space(sampling, "encoded"), recon=_space(sampling, "recon"))


def _space(sampling: np.void, name: str) -> Space:
    matrix, fov = sampling[f"{name}_matrix"].tolist(), sampling[f"{name}_fov"].tolist()
    return Space((matrix[0], matrix[1], matrix[2]), (fov[0], fov[1], fov[2]))


def _buffer_kspace(buffer: ReconBuffer, encoding: Encoding, context: Context | None) -> KSpace:
    if buffer.data.ndim != 7:
        raise ShapeError(
            f"recon data hold k-space of shape {buffer.data.shape}, expected (loc, s, n, coil, k2, k1, k0)"
        )
    limits = buffer.sampling["limits"]
    ranges = [AxisRange(int(one["min"]), int(one["max"]), int(one["center"])) for one in limits]
    shape = (*buffer.data.shape[:3], *buffer.data.shape[4:6])
    headers = _cut_lines(buffer.headers, shape, encoding, ranges)
    sampled = headers["number_of_samples"] > 0
    headers["version"][~sampled] = 0
    for name in ("available_channels", "active_channels"):
        headers[name][~sampled] = 0
    used = headers[sampled]
    return KSpace(
        data=_tensor(buffer.data, context),
        mask=_tensor(sampled, context),
        headers=headers,
        encoding=encoding,
        other=_LEADING,
        counters={
            name: int(used["idx"][name][0])
            for name in COUNTERS
            if name not in _LINE_COUNTERS and len(used) and np.ptp(used["idx"][name]) == 0
        },
        ranges=(ranges[0], ranges[1], ranges[2]),
        field_of_view_mm=encoding.encoded.field_of_view_mm,
        trajectory=None if buffer.trajectory is None else _tensor(buffer.trajectory, context),
        density=None if buffer.density is None else _tensor(buffer.density, context),
    )


def _cut_lines(
    headers: Headers, shape: tuple[int, ...], encoding: Encoding, ranges: list[AxisRange]
) -> Headers:
    """Headers of the lines that the data hold; Gadgetron cuts calibration data, but not their headers."""
    if headers.shape == shape:
        return headers.copy()
    grid = (*shape[:3], encoding.encoded.matrix[2], encoding.encoded.matrix[1])
    cut = headers[(..., *_lines_on_grid(shape, encoding, ranges))] if headers.shape == grid else headers
    if cut.shape != shape:
        raise ShapeError(
            f"recon data hold headers (loc, s, n, k2, k1) of shape {headers.shape} for lines of shape {shape}"
        )
    return cut.copy()


def _lines_on_grid(
    shape: tuple[int, ...], encoding: Encoding, ranges: list[AxisRange] | tuple[AxisRange, ...]
) -> tuple[slice, slice]:
    """Where on the encoded grid the lines (k2, k1) of a box lie: centre upon centre."""
    slices = []
    for axis, length in ((2, shape[-2]), (1, shape[-1])):
        first = encoding.encoded.matrix[axis] // 2 - ranges[axis].center
        slices.append(slice(max(first, 0), first + length))
    return slices[0], slices[1]


def _recon_data(kspaces: Iterable[KSpace]) -> ReconData:
    bits: list[ReconBit] = []
    for kspace in sorted(kspaces, key=lambda one: one.encoding.index):
        # A bit's place in the message is its encoding space.
        bits += [ReconBit(_empty_buffer()) for _ in range(kspace.encoding.index - len(bits))]
        reference = kspace.reference
        bits.append(
            ReconBit(_buffer(kspace), None if reference is None else _buffer(reference, on_grid=True))
        )
    return ReconData(bits)


def _empty_buffer() -> ReconBuffer:
    return ReconBuffer(
        np.zeros((0,) * 7, np.complex64),
        np.zeros((0,) * 5, ACQUISITION_HEADER),
        np.zeros(1, SAMPLING_DESCRIPTION)[0],
    )


def _buffer(kspace: KSpace, *, on_grid: bool = False) -> ReconBuffer:
    if kspace.incomplete is not None:
        raise IncompleteScan(
            f"k-space is incomplete ({kspace.incomplete}), and recon data cannot say so: acquire again, set "
            "accumulate.incomplete to 'withhold', or let the pipeline make images"
        )
    order = _leading_order(kspace)
    mask = _array(kspace.mask, order)
    headers = _leading(kspace.headers, order).copy()
    if headers.shape != mask.shape:
        raise ShapeError(f"k-space has headers of shape {headers.shape} for lines of shape {mask.shape}")
    headers[~mask] = _unsampled_header()
    if on_grid:
        headers = _on_grid(headers, kspace)
    return ReconBuffer(
        data=_array(kspace.data, order).astype(np.complex64, copy=False),
        headers=headers,
        sampling=_sampling(kspace),
        trajectory=None if kspace.trajectory is None else _array(kspace.trajectory, order),
        density=None if kspace.density is None else _array(kspace.density, order),
    )


def _unsampled_header() -> np.void:
    """What Gadgetron has for a line that was not sampled."""
    header: np.void = np.zeros(1, ACQUISITION_HEADER)[0]
    for name in ("version", "available_channels", "active_channels"):
        header[name] = 1
    return header


def _on_grid(headers: Headers, kspace: KSpace) -> Headers:
    """Headers of a box of calibration lines at their places on the encoded grid."""
    n1, n2 = kspace.encoding.encoded.matrix[1], kspace.encoding.encoded.matrix[2]
    if kspace.ranges is None or headers.shape[-2:] == (n2, n1):
        return headers
    n_lines = math.prod((*headers.shape[:3], n2, n1))
    if n_lines > _MOST_GRID * headers.size or n_lines * headers.itemsize > process_bytes():
        raise ShapeError(
            f"{headers.size} calibration lines came with a matrix of {n1} x {n2} lines, {n_lines} in all: the "
            "sampling description that came with them is damaged"
        )
    grid = np.full((*headers.shape[:3], n2, n1), _unsampled_header())
    lines = _lines_on_grid(headers.shape, kspace.encoding, kspace.ranges)
    if grid[(..., *lines)].shape != headers.shape:
        return headers
    grid[(..., *lines)] = headers
    return grid


def _leading_order(kspace: KSpace) -> tuple[int | None, int | None, int | None]:
    """Which of the leading axes becomes loc, s and n; None for a new axis of length 1."""
    if kspace.other == _LEADING:
        return 0, 1, 2
    rest = [i for i, name in enumerate(kspace.other) if name != "slice"]
    if len(rest) > 2:
        raise ShapeError(
            f"k-space with the leading axes {kspace.other} does not fit recon data, which hold slices and two "
            "more: keep fewer counters together in 'accumulate'"
        )
    loc = kspace.other.index("slice") if "slice" in kspace.other else None
    return loc, rest[0] if len(rest) == 2 else None, rest[-1] if rest else None


def _leading(array: npt.NDArray[Any], order: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """An array with its leading axes as (loc, s, n)."""
    axes = [axis for axis in order if axis is not None]
    moved = np.moveaxis(array, axes, range(len(axes)))
    return np.expand_dims(moved, tuple(i for i, axis in enumerate(order) if axis is None))


def _array(tensor: torch.Tensor, order: tuple[int | None, ...]) -> npt.NDArray[Any]:
    return _leading(tensor.detach().cpu().resolve_conj().numpy(), order)


def _extents(kspace: KSpace) -> Iterator[tuple[float, float]]:
    """Field of view of the data and of the encoding space, in mm, along each axis."""
    return zip(kspace.extent_mm, kspace.encoding.encoded.field_of_view_mm, strict=True)


def _sampling(kspace: KSpace) -> np.void:
    encoded, recon = kspace.encoding.encoded, kspace.encoding.recon
    if not all(0 < full < math.inf and math.isfinite(extent) for extent, full in _extents(kspace)):
        raise ShapeError(
            f"k-space has a field of view of {kspace.extent_mm} mm in an encoded one of "
            f"{encoded.field_of_view_mm} mm: the sampling description that came with it is damaged"
        )
    sampling: np.void = np.zeros(1, SAMPLING_DESCRIPTION)[0]
    sampling["encoded_fov"] = kspace.extent_mm
    sampling["encoded_matrix"] = [
        round(n * extent / full) for n, (extent, full) in zip(encoded.matrix, _extents(kspace), strict=True)
    ]
    sampling["recon_fov"] = recon.field_of_view_mm
    sampling["recon_matrix"] = recon.matrix
    ranges = kspace.ranges or [AxisRange(0, n - 1, n // 2) for n in kspace.data.shape[:-4:-1]]
    for limit, one in zip(sampling["limits"], ranges, strict=True):
        limit["min"], limit["max"], limit["center"] = one.first, one.last, one.center
    return sampling


# Images


class _ReceivedMeta(Meta):
    """Attributes that came with an image: as long as nobody changes them, they go back as they were written."""

    __slots__ = ("_nul", "_xml")

    @classmethod
    def received(cls, xml: bytes, nul: bool = False) -> _ReceivedMeta:
        meta = cls(Meta.parse(xml))
        meta._xml, meta._nul = xml, nul
        return meta

    @property
    def incomplete(self) -> str | None:
        return self.first("ScansideIncomplete") or None

    @property
    def nul(self) -> bool:
        return self._xml is not None and self._nul

    def to_xml(self) -> bytes:
        return super().to_xml() if self._xml is None else self._xml

    def copy(self) -> _ReceivedMeta:
        meta = _ReceivedMeta(self)
        meta._xml, meta._nul = self._xml, self._nul
        return meta

    def __setitem__(self, name: str, value: MetaValue | Iterable[MetaValue]) -> None:
        super().__setitem__(name, value)
        self._xml: bytes | None = None
        self._nul = False

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._xml, self._nul = None, False


def _array_images(array: ImageArray, scan: Scan, context: Context | None) -> Iterator[Image]:
    n = array.headers.size
    if array.data.ndim != 7 or array.data.shape[:3] != array.headers.shape or len(array.meta) not in (0, n):
        raise ShapeError(
            f"an image array holds data of shape {array.data.shape}, headers of shape {array.headers.shape} and "
            f"{len(array.meta)} meta attributes; expected (loc, s, n, channel, z, y, x), (loc, s, n) and as many"
        )
    data = array.data.reshape(n, *array.data.shape[3:])
    lines = array.acquisition_headers
    if lines is not None and (lines.ndim != 5 or lines.shape[:3] != array.headers.shape):
        lines = None  # Gadgetron leaves an empty array where nobody kept them
    for i, header in enumerate(array.headers.ravel()):
        meta = _ReceivedMeta.received(array.meta[i] if array.meta else b"")
        incomplete = meta.incomplete
        if incomplete is None and lines is not None:
            incomplete = _tell_losses_of_image(scan, lines.reshape(n, *lines.shape[3:])[i])
        yield Image(_tensor(data[i], context), header.copy(), meta, incomplete)


def _tell_losses_of_image(scan: Scan, headers: Headers) -> str | None:
    """What was lost of the lines ``(k2, k1)`` of an image that Gadgetron has made."""
    sampled = headers[headers["number_of_samples"] > 0]
    index = int(sampled["encoding_space_ref"][0]) if len(sampled) else 0
    if index >= len(scan.header.encodings):
        return None
    encoding = scan.encoding(index)
    return _tell_losses(scan, headers, encoding) if encoding.trajectory in ("cartesian", "epi") else None


def _image_message(image: Image) -> ImageMessage:
    data, header = _voxels(image), _image_header(image)
    meta = _meta_of(image)
    attributes, nul = meta.to_xml(), isinstance(meta, _ReceivedMeta) and meta.nul
    header["attribute_string_len"] = len(attributes) + nul
    return ImageMessage(header, attributes, data, nul)


def _image_array(images: list[Image], came: ImageArray | None = None) -> ImageArray:
    """Images as one array: shaped like the one they came in, with what else that held."""
    leading = (1, 1, len(images)) if came is None else came.headers.shape
    data = np.stack([_voxels(image) for image in images]).astype(np.complex64, copy=False)
    headers = np.stack([_image_header(image, np.dtype(np.complex64)) for image in images])
    meta = [_meta_of(image).to_xml() for image in images]
    return ImageArray(
        data=data.reshape(*leading, *data.shape[1:]),
        headers=headers.reshape(leading),
        meta=[] if came is not None and not came.meta and not any(meta) else meta,
        waveforms=None if came is None else came.waveforms,
        acquisition_headers=None if came is None else came.acquisition_headers,
    )


def _voxels(image: Image) -> npt.NDArray[Any]:
    data: npt.NDArray[Any] = image.data.detach().cpu().resolve_conj().numpy()
    if data.ndim != 4:
        raise ShapeError(f"an image needs data (channel, z, y, x), got shape {data.shape}")
    if data.dtype not in IMAGE_DTYPES.values():
        known = ", ".join(known.name for known in IMAGE_DTYPES.values())
        raise ShapeError(f"an image has {data.dtype} samples, and MRD images hold {known}: convert it")
    return data


def _image_header(image: Image, dtype: np.dtype[Any] | None = None) -> np.void:
    """The image's header with the size and sample type of its data."""
    data = image.data
    kind = _voxels(image).dtype if dtype is None else dtype
    header: np.void = image.header.copy()
    header["data_type"] = next(number for number, known in IMAGE_DTYPES.items() if known == kind)
    header["matrix_size"] = data.shape[:0:-1]
    header["channels"] = data.shape[0]
    return header


def _meta_of(image: Image) -> Meta:
    """The image's attributes, which say so if its data were incomplete."""
    if image.incomplete is None or "ScansideIncomplete" in image.meta:
        return image.meta
    meta = image.meta.copy()
    meta["ScansideIncomplete"] = image.incomplete
    return meta


def _tensor(array: npt.NDArray[Any], context: Context | None) -> torch.Tensor:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "torch", "work on k-space and images") from error
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if context is None else tensor.to(context.torch_device)
