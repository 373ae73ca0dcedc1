"""ISMRMRD HDF5 files, read and written in blocks.

A file holds one or more groups, by custom ``dataset``, with the tables ``xml`` (the scan's header), ``data``
(readouts), ``waveforms``, and one group for each image series with ``header``, ``data`` and ``attributes``.
The layout is that of the ISMRMRD library (Inati et al., Magn Reson Med 2017;77:411).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError, ShapeError
from scanside.mrd.dtypes import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER, Headers
from scanside.mrd.header_elements import without_nul
from scanside.mrd.heap import RecordTable, open_table
from scanside.mrd.messages import ImageMessage
from scanside.mrd.readouts import Readouts, Waveform

__all__ = ["Hdf5Reader", "Hdf5Writer", "groups", "unfinished"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins, at byte 0 or behind a user block of 512, 1024, 2048 … bytes."""


def groups(path: str | Path) -> list[str]:
    """Names of a file's top-level groups that hold a scan or images.

    Raises:
        FileFormatError: the file is not HDF5 or is cut short.
        FileNotFoundError: there is no such file.
    """
    with _open(Path(path)) as file:
        return _groups(file)


class Hdf5Reader:
    """Reads one group of an ISMRMRD HDF5 file; a context manager.

    Args:
        path: the file.
        group: name of the group. By default ``dataset``, as converters call it, or else the only one that holds a
            scan or images; Gadgetron's client names the groups of its images after the date unless told otherwise.

    Raises:
        FileFormatError: the file is not HDF5, is cut short, has no such group, or has several of which none is the
            default (the message lists them), or is HDF5 of another kind.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: str | Path, group: str | None = None) -> None:
        self._path = Path(path)
        self._file = _open(self._path)
        try:
            self._group = _choose_group(self._file, self._path, group)
        except FileFormatError:
            self._file.close()
            raise
        self._tables: dict[str, RecordTable] = {}

    def __enter__(self) -> Hdf5Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; blocks that were read stay valid."""
        self._tables.clear()
        self._file.close()

    @property
    def group(self) -> str:
        """Name of the group that is read; ``/`` where the tables lie in none."""
        return str(self._group.name).strip("/") or "/"

    @property
    def header_xml(self) -> bytes:
        """The scan's XML header.

        Raises:
            FileFormatError: the group has none.
        """
        if "xml" not in self._group:
            raise self._missing("xml", "the scan's header")
        table = self._group["xml"]
        stored = np.ravel(table[()]) if isinstance(table, h5py.Dataset) and table.shape is not None else None
        if stored is None or not stored.size:
            raise self._missing("xml", "the scan's header; what has its name is empty")
        if stored.dtype.kind in "iu":
            return without_nul(stored.astype(np.uint8).tobytes())  # as one number for each character
        return without_nul(stored[0].encode() if isinstance(stored[0], str) else bytes(stored[0]))

    @property
    def n_readouts(self) -> int:
        """How many readouts the group holds; 0 where it has no table of them."""
        return len(self._table("data")) if self._is_table("data") else 0

    @property
    def n_waveforms(self) -> int:
        """How many waveform pieces the group holds."""
        return len(self._table("waveforms")) if self._is_table("waveforms") else 0

    def headers(self, start: int = 0, stop: int | None = None) -> Headers:
        """Headers of the readouts ``start`` to ``stop`` (by default the end); reads no samples.

        Returns:
            ``(n,)`` of `ACQUISITION_HEADER`.

        Raises:
            FileFormatError: the group has no readouts, or their headers lack fields of the standard.
        """
        start, stop, _ = slice(start, stop).indices(self.n_readouts)
        return _as_layout(self._readouts().heads(start, max(start, stop)), ACQUISITION_HEADER, self._path)

    def blocks(self, max_readouts: int = 256, start: int = 0, stop: int | None = None) -> Iterator[Readouts]:
        """The readouts in blocks: consecutive ones of equal shape, at most ``max_readouts`` together.

        A change of the number of channels, samples or trajectory dimensions ends a block, so noise readouts
        of another length make blocks of their own. Blocks stay valid when the next one is read.

        Args:
            max_readouts: the longest block.
            start: the first readout.
            stop: the readout before which to end, by default the end of the table.

        Raises:
            ValueError: ``max_readouts`` is not positive.
            FileFormatError: the group has no readouts, or a readout's samples do not fit its header.
        """
        if max_readouts < 1:
            raise ValueError(f"a block holds at least 1 readout, got max_readouts={max_readouts}")
        stop = self.n_readouts if stop is None else stop
        # Short blocks are cut from longer ones: a read costs the same for one readout as for dozens.
        for run in self._runs(start, stop, max_readouts * -(-_READ_AT_ONCE // max_readouts)):
            for first in range(0, len(run), max_readouts):
                yield run.select(slice(first, first + max_readouts))

    def waveforms(self) -> Iterator[Waveform]:
        """The waveform pieces in the order of the file; nothing where the group has no table of them.

        Raises:
            FileFormatError: a piece's data do not fit its header.
        """
        headers = self._waveform_headers()
        for i, header in enumerate(headers):
            channels, samples = int(header["channels"]), int(header["number_of_samples"])
            data = self._table("waveforms").rows("data", i, i + 1, channels * samples)
            yield Waveform(header, data.astype(np.uint32, copy=False).reshape(channels, samples))

    def image_series(self) -> list[str]:
        """Names of the group's image series, to be given to `images`; the numbered ones in their order."""
        names = [name for name in self._group if self._is_series(name)]
        return sorted(names, key=_series_order)

    def images(self, series: str) -> Iterator[ImageMessage]:
        """The images of one series in the order of the file.

        Attributes come without the NUL that ends them on the wire.

        Raises:
            FileFormatError: there is no such series (the message lists them), or its tables do not fit.
        """
        if not self._is_series(series):
            present = ", ".join(self.image_series()) or "none"
            raise FileFormatError(
                f"{self._path}: group '{self._group.name}' has no image series '{series}'; it has: {present}"
            )
        tables = self._group[series]
        data, attributes = tables["data"], tables.get("attributes")
        headers = _as_layout(tables["header"][()], IMAGE_HEADER, self._path)
        counts = {len(headers), len(data)} | ({len(attributes)} if attributes is not None else set())
        if len(counts) > 1 or data.ndim != 5:
            raise FileFormatError(
                f"{self._path}: image series '{series}' holds {len(headers)} headers and data {data.shape}; "
                "expected as many images (image, channel, z, y, x) as headers and attributes"
            )
        for i, header in enumerate(headers):
            text = attributes[i] if attributes is not None else b""
            text = (text.encode() if isinstance(text, str) else bytes(text)).rstrip(b"\0")
            yield ImageMessage.from_array(_plain_samples(data[i]), text, header)

    def items(self, max_readouts: int = 256) -> Iterator[Readouts | Waveform | ImageMessage]:
        """Everything a scanner would send, in the order in which it would: readouts merged with waveforms.

        The file keeps readouts and waveforms in separate tables. Neither is reordered; a waveform comes
        right before the first readout whose clock is past the waveform's, as Gadgetron's client has it. The
        clock is the time stamp, or the scan counter where no waveform has a time stamp; without any clock
        the waveforms come last. A group without readouts and waveforms yields its images, series by series.

        Args:
            max_readouts: the longest block; a waveform in between ends a block too.

        Raises:
            FileFormatError: see `blocks`, `waveforms` and `images`.
        """
        if not self._is_table("data") and not self._is_table("waveforms"):
            for series in self.image_series():
                yield from self.images(series)
            return
        done = 0
        for waveform, position in zip(self.waveforms(), self._waveform_positions(), strict=True):
            if position > done:
                yield from self.blocks(max_readouts, done, position)
                done = position
            yield waveform
        if done < self.n_readouts:
            yield from self.blocks(max_readouts, done)

    def _runs(self, start: int, stop: int, at_most: int) -> Iterator[Readouts]:
        table = self._readouts()
        while start < stop:
            headers = self.headers(start, min(start + at_most, stop))
            shapes = np.stack([headers[name] for name in _SHAPE_FIELDS], axis=1)
            changed = np.flatnonzero(np.any(shapes != shapes[0], axis=1))
            n = int(changed[0]) if len(changed) else len(headers)
            coils, samples, dimensions = (int(value) for value in shapes[0])
            data = table.rows("data", start, start + n, 2 * coils * samples)
            data = data.astype(np.float32, copy=False).view(np.complex64)
            trajectory = None
            if dimensions:
                trajectory = table.rows("traj", start, start + n, samples * dimensions)
                trajectory = trajectory.astype(np.float32, copy=False).reshape(n, samples, dimensions)
            yield Readouts(headers[:n], data.reshape(n, coils, samples), trajectory)
            start += n

    def _waveform_positions(self) -> list[int]:
        """How many readouts come before each waveform."""
        waveforms = self._waveform_headers()
        if not self.n_readouts:
            return [0] * len(waveforms)
        if np.any(waveforms["time_stamp"]):
            clock, own_clock = "acquisition_time_stamp", "time_stamp"
        else:
            clock, own_clock = "scan_counter", "scan_counter"
        # The running maximum keeps both orders where a clock steps back.
        readout_clock = np.maximum.accumulate(self.headers()[clock])
        waveform_clock = np.maximum.accumulate(waveforms[own_clock])
        return [int(position) for position in np.searchsorted(readout_clock, waveform_clock, side="right")]

    def _waveform_headers(self) -> Headers:
        if not self.n_waveforms:
            return np.zeros(0, WAVEFORM_HEADER)
        return _as_layout(self._table("waveforms").heads(0, self.n_waveforms), WAVEFORM_HEADER, self._path)

    def _readouts(self) -> RecordTable:
        if not self._is_table("data"):
            raise self._missing("data", "the readouts")
        return self._table("data")

    def _table(self, name: str) -> RecordTable:
        if name not in self._tables:
            self._tables[name] = open_table(self._group[name])
        return self._tables[name]

    def _is_table(self, name: str) -> bool:
        # A group that itself is an image series has a table 'data' too, beside 'header'.
        return name in self._group and "header" not in self._group

    def _is_series(self, name: str) -> bool:
        return _is_image_series(self._group.get(name))

    def _missing(self, table: str, meaning: str) -> FileFormatError:
        present = ", ".join(f"'{name}'" for name in self._group) or "nothing"
        return FileFormatError(
            f"{self._path}: group '{self._group.name}' lacks the table '{table}' ({meaning}); "
            f"it holds {present}"
        )


def unfinished(path: Path) -> Path:
    """Where a file is while it is being written, and stays after an error."""
    return path.with_name(path.name + ".part")


class Hdf5Writer:
    """Writes readouts, waveforms and images to an ISMRMRD HDF5 file; a context manager.

    The file grows as ``PATH.part`` and gets its name when it is closed without an error, so that a file of
    the wanted name is always whole; after an error what was written so far stays under ``PATH.part``.

    Images go to ``image_N``, N being their series index. A table holds images of one size and type: the first
    of a series decides, others go beside, to ``image_N_<channels>x<z>x<y>x<x>_<type>``.

    Args:
        path: the file; an existing one is replaced.
        header_xml: the scan's header, or None to write none.
        group: the group to write to.
    """

    def __init__(self, path: str | Path, header_xml: bytes | None = None, group: str = "dataset") -> None:
        self._path = Path(path)
        self._part = unfinished(self._path)
        self._file = h5py.File(self._part, "w")
        self._group = self._file.create_group(group)
        self._waiting: list[Readouts] = []
        self._n_waiting = 0
        if header_xml is not None:
            self._group.create_dataset("xml", (1,), h5py.string_dtype("ascii"))[0] = header_xml.rstrip(b"\0")

    def __enter__(self) -> Hdf5Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # What failed first is what the caller must see.
            with suppress(OSError):
                self._flush()
            self._file.close()

    def close(self) -> None:
        """Write what is waiting and give the file its name."""
        if self._file:
            self._flush()
            self._file.close()
            self._part.replace(self._path)

    def write(self, item: Readouts | Waveform | ImageMessage) -> None:
        """Append an item; samples are copied.

        Raises:
            TypeError: the item is nothing that a file can hold.
            ShapeError: an image is not (channel, z, y, x).
        """
        if isinstance(item, Readouts):
            # Blocks of a live stream are short: collected, they are written many at a time.
            self._waiting.append(item.copy())
            self._n_waiting += len(item)
            if self._n_waiting >= _FLUSH_READOUTS:
                self._flush()
        elif isinstance(item, Waveform):
            self._append("waveforms", _WAVEFORM, [item.header], [(item.data.ravel(),)])
        elif isinstance(item, ImageMessage):
            self._append_image(item)
        else:
            raise TypeError(
                f"an ISMRMRD file holds Readouts, Waveform and ImageMessage, not {type(item).__name__}"
            )

    def _flush(self) -> None:
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if waiting:
            headers = np.concatenate([block.headers for block in waiting])
            self._append("data", _ACQUISITION, headers, [row for block in waiting for row in _rows(block)])

    def _append(self, name: str, record: np.dtype[Any], headers: Any, values: list[Any]) -> None:
        if name not in self._group:
            self._group.create_dataset(name, (0,), record, maxshape=(None,), chunks=(_CHUNK_READOUTS,))
        table = self._group[name]
        rows = np.empty(len(headers), record)
        rows["head"] = headers
        for column, member in enumerate(record.names[1:] if record.names else ()):
            for row, value in enumerate(values):
                rows[member][row] = value[column]
        table.resize(len(table) + len(rows), axis=0)
        table[len(table) - len(rows) :] = rows

    def _append_image(self, image: ImageMessage) -> None:
        if image.data.ndim != 4:
            raise ShapeError(f"an image's samples are (channel, z, y, x), got {image.data.shape}")
        tables = self._series(int(image.header["image_series_index"]), image.data)
        text = image.attributes.rstrip(b"\0")
        header = image.header.copy()
        header["attribute_string_len"] = len(text)
        n = len(tables["header"])
        for name in ("header", "attributes", "data"):
            tables[name].resize(n + 1, axis=0)
        tables["header"][n] = header
        tables["attributes"][n] = text
        tables["data"][n] = image.data.view(tables["data"].dtype)

    def _series(self, index: int, data: npt.NDArray[Any]) -> h5py.Group:
        stored = _stored_type(data.dtype)
        name = f"image_{index}"
        if name in self._group and not _fits(self._group[name]["data"], data.shape, stored):
            name += f"_{'x'.join(str(n) for n in data.shape)}_{data.dtype.name}"
        if name not in self._group:
            tables = self._group.create_group(name)
            tables.create_dataset("header", (0,), IMAGE_HEADER, maxshape=(None,), chunks=(1,))
            tables.create_dataset(
                "attributes", (0,), h5py.string_dtype("ascii"), maxshape=(None,), chunks=(1,)
            )
            shape = {"shape": (0, *data.shape), "maxshape": (None, *data.shape), "chunks": (1, *data.shape)}
            tables.create_dataset("data", dtype=stored, **shape)
        return self._group[name]


_SHAPE_FIELDS = ("active_channels", "number_of_samples", "trajectory_dimensions")
_READ_AT_ONCE = 64
_FLUSH_READOUTS = 256
_CHUNK_READOUTS = 64

_ACQUISITION = np.dtype(
    [
        ("head", ACQUISITION_HEADER),
        ("traj", h5py.vlen_dtype(np.float32)),
        ("data", h5py.vlen_dtype(np.float32)),
    ]
)
_WAVEFORM = np.dtype([("head", WAVEFORM_HEADER), ("data", h5py.vlen_dtype(np.uint32))])


def _open(path: Path) -> h5py.File:
    with path.open("rb") as file:
        start = file.read(16)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "truncated" in str(error):
            raise FileFormatError(f"{path} is a truncated HDF5 file: {error}") from error
        if not h5py.is_hdf5(path):
            raise FileFormatError(
                f"{path} is not an HDF5 file: it begins with {start!r}, expected {SIGNATURE!r}. Some "
                "converters store a plain ISMRMRD stream under an HDF5 file's name: open_recording reads both"
            ) from error
        raise FileFormatError(f"{path} cannot be read as HDF5: {error}") from error


def _choose_group(file: h5py.File, path: Path, asked: str | None) -> h5py.Group:
    """The group to read: the one that is asked for, or ``dataset``, or the only one that holds anything."""
    found = file.get("dataset" if asked is None else asked)
    if isinstance(found, h5py.Group):
        return found
    present = _groups(file)
    if asked is None and len(present) == 1:
        return file[present[0]]
    if asked is None and not present and _holds_tables(file):
        return file["/"]
    contents = ", ".join(f"'{name}'" for name in present or file)
    if not present and "kspace" in file and ("ismrmrd_header" in file or "reconstruction_rss" in file):
        why = (
            "is a file of the fastMRI data set: all k-space in one array 'kspace' (slice, coil, k0, k1) without "
            "headers of readouts, which is not what a scanner sends. Write its lines as Readouts with "
            "scanside.mrd.hdf5.Hdf5Writer, the text in 'ismrmrd_header' as header, and read that file"
        )
    elif not present:
        why = (
            f"is HDF5 of another kind: no group holds ISMRMRD's tables 'xml' and 'data', it has "
            f"{contents or 'nothing'}. Convert it to ISMRMRD"
        )
    elif asked is None:
        why = f"has {len(present)} groups, {contents}, and none is called 'dataset': choose one with --group NAME"
    elif len(present) == 1:
        why = f"has no group '{asked}', only {contents}, which is taken without --group"
    else:
        why = f"has no group '{asked}': choose one of {contents} with --group NAME"
    raise FileFormatError(f"{path} {why}")


def _groups(file: h5py.File) -> list[str]:
    return [name for name in file if _holds_tables(file.get(name))]


def _holds_tables(group: Any) -> bool:
    """Whether it is a group with readouts, a header, waveforms or image series in it."""
    if not isinstance(group, h5py.Group):
        return False
    tables = any(isinstance(group.get(name), h5py.Dataset) for name in ("xml", "data", "waveforms"))
    return tables or any(_is_image_series(group.get(name)) for name in group)


def _is_image_series(found: Any) -> bool:
    return isinstance(found, h5py.Group) and "header" in found and "data" in found


def _rows(block: Readouts) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Trajectory and samples of each readout, flat, complex numbers as pairs."""
    n = len(block)
    samples = np.ascontiguousarray(block.samples).view(np.float32).reshape(n, -1)
    if block.trajectory is None:
        return zip(np.zeros((n, 0), np.float32), samples, strict=True)
    return zip(np.ascontiguousarray(block.trajectory).reshape(n, -1), samples, strict=True)


def _as_layout(found: npt.NDArray[np.void], layout: np.dtype[Any], path: Path) -> Headers:
    """Headers as stored, by field name, in the standard's packed layout."""
    if found.dtype == layout:
        return np.ascontiguousarray(found)
    missing = set(layout.names or ()) - set(found.dtype.names or ())
    if missing:
        raise FileFormatError(f"{path}: the stored headers lack the fields {', '.join(sorted(missing))}")
    headers = np.zeros(found.shape, layout)
    for name in layout.names or ():
        field = found[name]
        headers[name] = _as_layout(field, layout[name], path) if layout[name].names else field
    return headers


def _plain_samples(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Samples as NumPy numbers: ISMRMRD stores complex ones as pairs ``real``, ``imag``."""
    return stored.view(f"<c{stored.dtype.itemsize}") if stored.dtype.names else stored


def _stored_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind != "c":
        return dtype
    part = f"<f{dtype.itemsize // 2}"
    return np.dtype([("real", part), ("imag", part)])


def _fits(table: h5py.Dataset, shape: tuple[int, ...], stored: np.dtype[Any]) -> bool:
    return bool(table.shape[1:] == shape and table.dtype == stored)


def _series_order(name: str) -> tuple[int, str]:
    number = name.removeprefix("image_").split("_")[0]
    return (int(number) if number.isdigit() else 1 << 16, name)
