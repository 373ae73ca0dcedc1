"""The messages of an MRD session as Python objects.

On the wire, multi-dimensional arrays run fastest along their first dimension. Here they are NumPy arrays in C
order with the dimensions reversed, so nothing is moved: the last axis is always the readout (k0, or x).

`Readouts` from a reader lend its receive buffer; every other message owns its memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError
from scanside.mrd.dtypes import IMAGE_HEADER, Headers, image_data_type
from scanside.mrd.readouts import Readouts, Waveform

__all__ = [
    "Bucket",
    "Close",
    "ConfigFile",
    "ConfigText",
    "CounterSets",
    "Data",
    "ErrorText",
    "HeaderXml",
    "ImageArray",
    "ImageMessage",
    "Message",
    "MessageId",
    "Readouts",
    "ReconBit",
    "ReconBuffer",
    "ReconData",
    "Text",
    "Waveform",
]


class MessageId(IntEnum):
    """The number that opens every message (uint16, little endian, as is all that follows)."""

    CONFIG_FILE = 1
    CONFIG = 2
    HEADER = 3
    CLOSE = 4
    TEXT = 5
    ERROR = 8
    ACQUISITION = 1008
    IMAGE = 1022
    RECON_DATA = 1023
    IMAGE_ARRAY = 1024
    WAVEFORM = 1026
    BUCKET = 1050


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Asks the server for a configuration by name.

    Attributes:
        name: at most 1023 bytes of UTF-8.
    """

    name: str


@dataclass(frozen=True, slots=True)
class ConfigText:
    """Brings the configuration itself.

    Attributes:
        xml: the text, without the NUL that some hosts put at its end.
        nul: whether that NUL stands on the wire.
    """

    xml: bytes
    nul: bool = False


@dataclass(frozen=True, slots=True)
class HeaderXml:
    """The scan's MRD header.

    Attributes:
        xml: the text, without the NUL that some hosts put at its end.
        nul: whether that NUL stands on the wire.
    """

    xml: bytes
    nul: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    r"""Free text: a host's parameters, a server's log line.

    Attributes:
        text: without the NUL that some hosts put at its end; bytes that are not UTF-8 show as ``\xNN``.
        nul: whether that NUL stands on the wire.
    """

    text: str
    nul: bool = False


@dataclass(frozen=True, slots=True)
class ErrorText:
    r"""What went wrong at the peer.

    Attributes:
        text: for the operator; bytes that are not UTF-8 show as ``\xNN``.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """The sender has sent everything."""


@dataclass(slots=True, eq=False)
class ImageMessage:
    """One image.

    Attributes:
        header: scalar of `IMAGE_HEADER`, whose ``data_type``, ``matrix_size`` and ``channels`` fit ``data``.
        attributes: the meta attributes' XML, without the NUL at its end.
        data: ``(channel, z, y, x)``, of one of the types in `IMAGE_DTYPES`.
        nul: whether a NUL follows the attributes on the wire, counted by their length.
    """

    header: np.void
    attributes: bytes
    data: npt.NDArray[Any]
    nul: bool = False

    @classmethod
    def from_array(
        cls, data: npt.NDArray[Any], attributes: bytes = b"", header: np.void | None = None
    ) -> ImageMessage:
        """An image whose header says what its data are.

        Args:
            data: ``(channel, z, y, x)``.
            attributes: the meta attributes' XML.
            header: what else the header says (position, counters …); it is copied.

        Raises:
            ShapeError: the data do not have four axes.
            ValueError: the standard has no number for the data's type.
        """
        if data.ndim != 4:
            raise ShapeError(f"an image needs data (channel, z, y, x), got shape {data.shape}")
        filled = np.zeros(1, IMAGE_HEADER)
        filled["version"] = 1
        if header is not None:
            filled[0] = header
        filled["data_type"] = image_data_type(data.dtype)
        filled["matrix_size"] = data.shape[:0:-1]
        filled["channels"] = data.shape[0]
        filled["attribute_string_len"] = len(attributes)
        return cls(filled[0], attributes, data)


@dataclass(slots=True, eq=False)
class ImageArray:
    """A stack of images in the middle of a Gadgetron chain.

    Attributes:
        data: ``(loc, s, n, channel, z, y, x)`` complex64; ``n``, ``s`` and ``loc`` are the dimensions that
            the chain was told to keep (usually repetition or phase, set, and slice).
        headers: ``(loc, s, n)`` of `IMAGE_HEADER`.
        meta: attributes' XML of every image, ``n`` fastest, as on the wire; may be empty.
        waveforms: what was recorded along with the images, or None.
        acquisition_headers: ``(loc, s, n, k2, k1)`` of `ACQUISITION_HEADER`, or None.
    """

    data: npt.NDArray[np.complex64]
    headers: Headers
    meta: list[bytes] = field(default_factory=list)
    waveforms: list[Waveform] | None = None
    acquisition_headers: Headers | None = None


@dataclass(slots=True, eq=False)
class ReconBuffer:
    """Readouts sorted into k-space.

    Attributes:
        data: ``(loc, s, n, coil, k2, k1, k0)`` complex64, zero where nothing was sampled.
        headers: ``(loc, s, n, k2, k1)`` of `ACQUISITION_HEADER`, zero where nothing was sampled.
        sampling: scalar of `SAMPLING_DESCRIPTION`.
        trajectory: ``(loc, s, n, k2, k1, k0, dimension)`` float32, or None.
        density: ``(loc, s, n, k2, k1, k0)`` float32 density compensation weights, or None.
    """

    data: npt.NDArray[np.complex64]
    headers: Headers
    sampling: np.void
    trajectory: npt.NDArray[np.float32] | None = None
    density: npt.NDArray[np.float32] | None = None


@dataclass(slots=True, eq=False)
class ReconBit:
    """One encoding space: its k-space, and its calibration data where there are any."""

    data: ReconBuffer
    reference: ReconBuffer | None = None


@dataclass(slots=True, eq=False)
class ReconData:
    """Everything that is reconstructed together, one bit for each encoding space."""

    bits: list[ReconBit]


@dataclass(frozen=True, slots=True)
class CounterSets:
    """Which values of each encoding counter occur in a bucket, ascending; the order is that of the wire."""

    kspace_encode_step_1: tuple[int, ...] = ()
    kspace_encode_step_2: tuple[int, ...] = ()
    slice: tuple[int, ...] = ()
    phase: tuple[int, ...] = ()
    contrast: tuple[int, ...] = ()
    repetition: tuple[int, ...] = ()
    set: tuple[int, ...] = ()
    segment: tuple[int, ...] = ()
    average: tuple[int, ...] = ()

    @classmethod
    def of(cls, headers: Headers) -> CounterSets:
        """The sets of ``(n,)`` acquisition headers."""
        idx = headers["idx"]
        return cls(*(tuple(np.unique(idx[counter.name]).tolist()) for counter in fields(cls)))

    @classmethod
    def by_encoding_space(cls, blocks: Iterable[Readouts]) -> list[CounterSets]:
        """The sets of every encoding space up to the last that occurs, as a bucket lists them."""
        parts = [block.headers for block in blocks]
        if not parts:
            return []
        headers = np.concatenate(parts)
        spaces = headers["encoding_space_ref"]
        return [cls.of(headers[spaces == space]) for space in range(int(spaces.max(initial=0)) + 1)]


@dataclass(slots=True, eq=False)
class Bucket:
    """Readouts that a Gadgetron chain has gathered up to a trigger.

    Attributes:
        data: the readouts in order; consecutive ones of equal shape form a block.
        data_stats: the counters that occur in ``data``, by encoding space.
        reference: calibration readouts, likewise.
        reference_stats: the counters that occur in ``reference``, by encoding space.
        waveforms: what was recorded in the meantime.
    """

    data: list[Readouts]
    data_stats: list[CounterSets]
    reference: list[Readouts] = field(default_factory=list)
    reference_stats: list[CounterSets] = field(default_factory=list)
    waveforms: list[Waveform] = field(default_factory=list)


Data: TypeAlias = Readouts | Waveform | ImageMessage | ImageArray | ReconData | Bucket
"""A message that carries a part of the scan or of its result."""

Message: TypeAlias = ConfigFile | ConfigText | HeaderXml | Text | ErrorText | Close | Data
"""Any message."""
