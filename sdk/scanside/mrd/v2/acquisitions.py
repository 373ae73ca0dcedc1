"""Acquisitions of MRD 2 as blocks of readouts, and readouts as acquisitions of MRD 2.

What MRD 2 leaves open becomes what a header of MRD 1 has for it: an absent counter 0, an absent centre the middle
sample (which is told). What the other version has no place for is told once: the channels' order, channels that were
not active, a phase for each sample, the centre frequency.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError, MessageError
from scanside.mrd.dtypes import COUNTERS, ENCODING_COUNTERS
from scanside.mrd.readouts import Readouts
from scanside.mrd.v2.fields import check_fields, fitting, padded
from scanside.mrd.v2.layout import Columns
from scanside.mrd.v2.times import ns_of_sample_time, ns_of_ticks, sample_time_of_ns, ticks_of_ns
from scanside.mrd.v2.told import Told
from scanside.mrd.v2.types import Array, Record, Scalar, Type
from scanside.mrd.v2.values import default, write_value

__all__ = ["acquisitions_of", "check_acquisitions", "readouts_of"]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_COUNTERS = {f"head.idx.{_camel(name)}": name for name in COUNTERS}
_INTEGERS = {
    f"head.{_camel(name)}": name
    for name in (
        "flags",
        "measurement_uid",
        "scan_counter",
        "acquisition_time_stamp",
        "discard_pre",
        "discard_post",
        "center_sample",
        "encoding_space_ref",
    )
}
_LISTS = {
    f"head.{_camel(name)}": (name, length)
    for name, length in (("physiology_time_stamp", 3), ("user_int", 8), ("user_float", 8))
}
_VECTORS = {
    f"head.{_camel(name)}": name
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")
}
_TICKS = ("head.acquisitionTimeStamp", "head.physiologyTimeStamp")
_NS = "Ns"
_SAMPLE_TIME, _SAMPLE_TIME_NS = "head.sampleTimeUs", "head.sampleTimeNs"
_USER, _CHANNELS, _DATA, _TRAJECTORY = "head.idx.user", "head.channelOrder", "data", "trajectory"
_TOLD = {
    "phase": "readouts came with a phase for each sample, which is not applied: samples are taken as they are",
    "head.acquisitionCenterFrequency": "the centre frequency of each readout has no place in MRD 1 and is left aside",
}
_NEEDED = {"head.flags", *_COUNTERS, *_VECTORS, _DATA, _TRAJECTORY}
_KNOWN = {
    *_NEEDED, *_INTEGERS, *_LISTS, *_TOLD, *(name + _NS for name in _TICKS),
    _USER, _CHANNELS, _SAMPLE_TIME, _SAMPLE_TIME_NS,
}  # fmt: skip
_ARRAYS = {_DATA: Array(Scalar("complexfloat32"), 2), _TRAJECTORY: Array(Scalar("float32"), 2)}
_MOST_CHANNELS = 1024


def check_acquisitions(kind: Record, told: Told) -> None:
    """See whether a schema's acquisitions can be read.

    Raises:
        FileFormatError: they lack a field that a reconstruction needs, or have another type for samples.
    """
    check_fields(kind, _NEEDED, _KNOWN, "acquisitions", told)
    for name, expected in _ARRAYS.items():
        if kind.fields[name] != expected:
            raise FileFormatError(
                f"the schema of the MRD 2 stream has acquisitions whose {name} is {kind.fields[name]}, expected "
                f"{expected} as in MRD 2.1 and 2.2"
            )


def readouts_of(columns: Columns, told: Told) -> Readouts:
    """A block of readouts.

    Raises:
        MessageError: a number is too large for a header of MRD 1, or trajectory and samples do not fit.
    """
    found = _as_in_mrd1(columns, told)
    samples = columns.arrays[_DATA]
    headers = Readouts.empty_headers(columns.n)
    for path, name in _INTEGERS.items():
        if path in found:
            headers[name] = fitting(found[path], headers.dtype[name], name)
    for path, name in _COUNTERS.items():
        if path in found:
            headers["idx"][name] = fitting(found[path], ENCODING_COUNTERS[name], name)
    for path, (name, length) in {**_LISTS, _USER: ("user", 8)}.items():
        if path in found:
            target = headers["idx"] if name == "user" else headers
            target[name] = fitting(padded(found[path], length, name, told), target[name].dtype, name)
    for path, name in _VECTORS.items():
        headers[name] = columns.arrays[path]
    if _SAMPLE_TIME in found:
        headers["sample_time_us"] = found[_SAMPLE_TIME]
    n_coils, n_samples = samples.shape[1:]
    headers["number_of_samples"] = fitting(np.array([n_samples]), np.dtype("<u2"), "the number of samples")
    headers["active_channels"] = fitting(np.array([n_coils]), np.dtype("<u2"), "the number of channels")
    headers["available_channels"] = headers["active_channels"]
    if "head.centerSample" in columns.absent:
        headers["center_sample"] = n_samples // 2
        told.once("readouts came without their centre sample: the middle one is taken")
    if _CHANNELS in found:
        headers["channel_mask"] = _masks(found[_CHANNELS], told)
    return Readouts(headers, samples, _trajectory(columns, headers, n_samples))


def _as_in_mrd1(columns: Columns, told: Told) -> dict[str, npt.NDArray[Any]]:
    """The fields, with times as MRD 1 has them."""
    found: dict[str, npt.NDArray[Any]] = {**columns.integers, **columns.arrays}
    for name in _TICKS:
        if name + _NS in found:
            found[name] = ticks_of_ns(found.pop(name + _NS), told)
    if _SAMPLE_TIME_NS in found:
        found[_SAMPLE_TIME] = sample_time_of_ns(found.pop(_SAMPLE_TIME_NS))
    for name, text in _TOLD.items():
        if name in found:
            told.once(text)
    return found


def _trajectory(
    columns: Columns, headers: npt.NDArray[Any], n_samples: int
) -> npt.NDArray[np.float32] | None:
    found = columns.arrays[_TRAJECTORY]
    if not found.size:
        return None
    if found.shape[2] != n_samples:
        raise MessageError(
            f"a readout of {n_samples} samples came with a trajectory (dimension, sample) of shape "
            f"{found.shape[1:]}: they need as many samples"
        )
    headers["trajectory_dimensions"] = fitting(
        np.array([found.shape[1]]), np.dtype("<u2"), "the number of trajectory dimensions"
    )
    return found.transpose(0, 2, 1)


def _masks(orders: npt.NDArray[np.uint64], told: Told) -> npt.NDArray[np.uint64]:
    """Channel masks ``(n, 16)``."""
    masks = np.zeros((len(orders), _MOST_CHANNELS // 64), np.uint64)
    if (np.diff(orders.astype(np.int64), axis=1) <= 0).any() or orders.max(initial=0) >= _MOST_CHANNELS:
        told.once(
            "channels are not in ascending order of their numbers, and MRD 1 cannot say so: the numbers are lost"
        )
        return masks
    words = (orders // np.uint64(64)).astype(np.intp)
    bits = np.uint64(1) << orders % np.uint64(64)
    np.bitwise_or.at(masks, (np.arange(len(orders))[:, None], words), bits)
    return masks


def acquisitions_of(kind: Record, block: Readouts, told: Told) -> Iterator[bytearray]:
    """The bytes of a block's readouts, one after the other.

    Args:
        kind: what an acquisition is in the schema.
        block: the readouts.
        told: takes what MRD 2 cannot say.
    """
    kinds = dict(_leaves(kind, ""))
    columns = _columns(block, kinds, told)
    parts = [_Part(path, of, columns.get(path, [default(of)] * len(block))) for path, of in kinds.items()]
    for i in range(len(block)):
        out = bytearray()
        for part in parts:
            part.write(i, out)
        yield out


class _Part:
    """Writes a field of all readouts; one that they share is made once."""

    def __init__(self, path: str, kind: Type, values: Any) -> None:
        self._path = path
        self._kind = kind
        self._values = values
        self._shared: bytearray | None = None
        if path not in (_DATA, _TRAJECTORY) and _are_equal(values):
            self._shared = bytearray()
            write_value(kind, values[0], self._shared, path)

    def write(self, i: int, out: bytearray) -> None:
        if self._shared is None:
            write_value(self._kind, self._values[i], out, self._path)
        else:
            out += self._shared


def _are_equal(values: Any) -> bool:
    if not len(values):
        return False
    if isinstance(values, np.ndarray):
        bits = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)  # −0 is not 0
        return bool((bits == bits[0]).all())
    return all(value is values[0] for value in values)


def _leaves(kind: Record, path: str) -> Iterator[tuple[str, Type]]:
    for name, of in kind.fields.items():
        full = f"{path}.{name}" if path else name
        if isinstance(of, Record):
            yield from _leaves(of, full)
        else:
            yield full, of


def _columns(block: Readouts, names: Container[str], told: Told) -> Mapping[str, Any]:
    """The fields, a value for each readout."""
    headers = np.ascontiguousarray(block.headers)
    columns: dict[str, Any] = {path: headers[name] for path, name in _INTEGERS.items()}
    columns |= {path: headers["idx"][name] for path, name in _COUNTERS.items()}
    columns |= {path: headers[name] for path, (name, _) in _LISTS.items()}
    columns |= {path: headers[name] for path, name in _VECTORS.items()}
    for name in _TICKS:
        columns[name + _NS] = ns_of_ticks(headers[_INTEGERS.get(name) or _LISTS[name][0]])
    columns[_SAMPLE_TIME] = headers["sample_time_us"]
    if _SAMPLE_TIME_NS in names:
        columns[_SAMPLE_TIME_NS] = ns_of_sample_time(headers["sample_time_us"], told)
    columns[_USER] = headers["idx"]["user"]
    columns[_CHANNELS] = _orders(headers, told)
    columns[_DATA] = block.samples
    if block.trajectory is not None:
        columns[_TRAJECTORY] = block.trajectory.transpose(0, 2, 1)
    return columns


def _orders(headers: npt.NDArray[Any], told: Told) -> list[list[int]]:
    """Numbers of the channels, which MRD 1 tells by a mask or not at all."""
    if (headers["available_channels"] > headers["active_channels"]).any():
        told.once(
            "MRD 2 does not say how many channels there are besides the active ones: their number is lost"
        )
    orders: dict[tuple[bytes, int], list[int]] = {}
    found = []
    for mask, n in zip(headers["channel_mask"], headers["active_channels"].tolist(), strict=True):
        key = mask.tobytes(), n
        if key not in orders:
            order = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()
            if len(order) not in (0, n):
                told.once(
                    "channel masks do not fit the number of channels, which are numbered from 0 instead"
                )
            orders[key] = order if len(order) == n else list(range(n))
        found.append(orders[key])
    return found
