"""A recorded scan on its way: undersampled, paced and counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import ScansideError, ShapeError
from scanside.items import Readouts
from scanside.mrd.dtypes import IMAGE_COUNTERS
from scanside.mrd.files import Recording, open_recording
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.header import MrdHeader
from scanside.mrd.messages import Data
from scanside.replay.result import Progress, ReplayResult
from scanside.replay.undersampling import Regular
from scanside.simulate.playback import Speed, play

__all__ = [
    "Sending",
    "kept_flags",
    "mask_of",
]


class Sending:
    """The scan on its way: undersampled, paced and counted."""

    def __init__(
        self,
        recording: Recording,
        header_xml: bytes,
        kept: npt.NDArray[np.uint64] | None,
        speed: Speed,
        block: int,
        result: ReplayResult,
        on_progress: Progress | None,
    ) -> None:
        self.header_xml = header_xml
        self.cancel = threading.Event()
        self._recording = recording
        self._kept = kept
        self._speed = speed
        self._block = block
        self._result = result
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Data]:
        items: Iterable[Any] = self._recording.items(self._block)
        if self._kept is not None:
            items = _undersampled(items, self._kept)
        if self._speed != "max":
            items = play(items, self._speed, cancel=self.cancel)
        n_seen = self._recording.n_readouts if self._kept is None else int((self._kept != _DROPPED).sum())
        for item in items:
            if self.cancel.is_set():
                return
            yield item
            if isinstance(item, Readouts):
                self._result.n_readouts += len(item)
                if self._on_progress is not None:
                    self._on_progress(self._result.n_readouts, n_seen)


_ENDS = (
    AcquisitionFlag.LAST_IN_ENCODE_STEP2,
    AcquisitionFlag.LAST_IN_AVERAGE,
    AcquisitionFlag.LAST_IN_SLICE,
    AcquisitionFlag.LAST_IN_CONTRAST,
    AcquisitionFlag.LAST_IN_PHASE,
    AcquisitionFlag.LAST_IN_REPETITION,
    AcquisitionFlag.LAST_IN_SET,
    AcquisitionFlag.LAST_IN_MEASUREMENT,
)
_DROPPED = np.uint64(2**64 - 1)


def mask_of(
    undersample: str | Path | npt.ArrayLike | Regular | None, recording: str | Path, group: str | None
) -> npt.NDArray[np.bool_] | None:
    """Which lines to keep, by their kspace_encode_step_1."""
    if undersample is None:
        return None
    if isinstance(undersample, Regular):
        header_xml, headers = _headers(recording, group)
        lines = headers[_are_lines(headers["flags"])]
        if not len(lines):
            raise ShapeError(f"{recording} holds no lines of images that could be left out")
        return undersample.mask(lines, MrdHeader.parse(header_xml))
    mask = np.asarray(np.load(undersample) if isinstance(undersample, (str, Path)) else undersample)
    if mask.ndim != 1 or not np.isin(mask, (0, 1)).all():
        raise ShapeError(
            f"an undersampling mask is a list of 0 and 1, one for each value of kspace_encode_step_1; this one has "
            f"shape {mask.shape} and type {mask.dtype}"
        )
    return mask.astype(bool)


def kept_flags(
    recording: str | Path, group: str | None, mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint64]:
    """New flags for every readout of a recording, `_DROPPED` for those to leave out."""
    _, headers = _headers(recording, group)
    flags = headers["flags"].copy()
    lines = _are_lines(flags)
    counters = headers["idx"]["kspace_encode_step_1"].astype(np.intp)
    largest = int(counters[lines].max(initial=-1))
    if largest >= len(mask):
        raise ShapeError(
            f"the undersampling mask has {len(mask)} entries, but kspace_encode_step_1 goes up to {largest}: "
            "it needs an entry for every value from 0"
        )
    dropped = np.zeros(len(headers), bool)
    dropped[lines] = ~mask[counters[lines]]
    _hand_over_ends(headers, flags, lines, dropped)
    flags[dropped] = _DROPPED
    return flags


def _headers(recording: str | Path, group: str | None) -> tuple[bytes, npt.NDArray[np.void]]:
    """A recording's header, and those of all its readouts."""
    if str(recording) == "-":
        raise ScansideError(
            "a scan from standard input cannot be undersampled: it would have to be read twice"
        )
    with open_recording(recording, group) as first_pass:
        header_xml = first_pass.header_xml
        blocks = [item.headers.copy() for item in first_pass.items() if isinstance(item, Readouts)]
    return header_xml, np.concatenate(blocks) if blocks else Readouts.empty_headers(0)


def _are_lines(flags: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which readouts are lines of an image."""
    return ~flagged(flags, NOT_IMAGING) & ~_only_calibration(flags)


def _only_calibration(flags: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    return flagged(flags, AcquisitionFlag.PARALLEL_CALIBRATION) & ~flagged(
        flags, AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
    )


def _hand_over_ends(
    headers: npt.NDArray[np.void],
    flags: npt.NDArray[np.uint64],
    lines: npt.NDArray[np.bool_],
    dropped: npt.NDArray[np.bool_],
) -> None:
    """Flags that end something go from a dropped line to the last kept line of the same image."""
    idx = headers["idx"]
    keys = np.stack([headers["encoding_space_ref"], *(idx[name] for name in IMAGE_COUNTERS)], axis=1)
    last_kept: dict[tuple[int, ...], int] = {}
    every_end = np.uint64(sum(int(flag) for flag in _ENDS))
    for i in np.flatnonzero(lines).tolist():
        key = tuple(keys[i].tolist())
        if not dropped[i]:
            last_kept[key] = i
        elif key in last_kept:
            flags[last_kept[key]] |= flags[i] & every_end


def _undersampled(items: Iterable[Data], kept: npt.NDArray[np.uint64]) -> Iterator[Data]:
    n = 0
    for item in items:
        if not isinstance(item, Readouts):
            yield item
            continue
        flags = kept[n : n + len(item)]
        n += len(item)
        chosen = item.select(flags != _DROPPED)
        if len(chosen):
            chosen.headers["flags"] = flags[flags != _DROPPED]
            yield chosen
