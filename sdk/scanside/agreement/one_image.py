"""What must not change among the lines of one image: where it lies, and how fast it is sampled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.calibration import lines_of_images
from scanside.agreement.finding import Finding
from scanside.mrd.dtypes import ACQUISITION_HEADER, Headers
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["LinesOfOneImage"]

_REMEMBERED = 1024  # images whose first line is known at a time: their lines come close to each other
_MOVED_MM = 0.5
_TURNED_DEGREES = 0.5
_DWELL = 1e-3  # of itself


def _piece(first: str, last: str, within: str | None = None) -> np.dtype[np.void]:
    """Neighbouring fields of a header as one piece of memory."""
    kind, start = ACQUISITION_HEADER, 0
    if within is not None:
        assert kind.fields is not None
        kind, start = kind.fields[within][:2]
    assert kind.fields is not None
    begin = kind.fields[first][1]
    size = kind.fields[last][1] + kind.fields[last][0].itemsize - begin
    return np.dtype(
        {
            "names": ["piece"],
            "formats": [np.dtype((np.void, size))],
            "offsets": [start + begin],
            "itemsize": ACQUISITION_HEADER.itemsize,
        }
    )


_SAME = _piece("sample_time_us", "patient_table_position")
_WHICH = _piece("slice", "set", within="idx")  # slice, contrast, phase, repetition, set
_FIELDS = ("sample_time_us", "position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")
_TOLD = np.dtype([(name, ACQUISITION_HEADER[name]) for name in _FIELDS])
assert _TOLD.itemsize == _SAME["piece"].itemsize


class LinesOfOneImage:
    """Finds images whose lines lie in different places, or were sampled at different speed.

    Args:
        encoding: the encoding space of the readouts.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.changed = False
        self._encoding = encoding
        self._last: tuple[bytes, bytes] | None = None
        self._first: dict[bytes, bytes] = {}
        self._moved_mm = self._table_mm = self._turned = 0.0
        self._dwell_us: tuple[float, float] | None = None
        self._scan_counter = 0

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block."""
        headers = lines.headers
        of_images = lines_of_images(headers, flags, self._encoding)
        if of_images is not None:
            headers = headers[of_images]
            if not len(headers):
                return
        which, same = (_pieces(headers, kind) for kind in (_WHICH, _SAME))
        if len(which) == len(same) == 1 and (which[0], same[0]) == self._last:
            return
        n = len(headers)
        pairs = zip(
            which * n if len(which) == 1 else which, same * n if len(same) == 1 else same, strict=True
        )
        for i, (image, told) in enumerate(pairs):
            first = self._first.setdefault(image, told)
            if first is not told and first != told:
                self._compare(first, told, headers[i : i + 1])
            self._last = image, told
        while len(self._first) > _REMEMBERED:
            self._first.pop(next(iter(self._first)))

    def _compare(self, first: bytes, told: bytes, header: Headers) -> None:
        a, b = (np.frombuffer(piece, _TOLD)[0] for piece in (first, told))
        moved = _apart(a["position"], b["position"])
        table = _apart(a["patient_table_position"], b["patient_table_position"])
        turned = max(_angle(a[name], b[name]) for name in ("read_dir", "phase_dir", "slice_dir"))
        dwell = float(a["sample_time_us"]), float(b["sample_time_us"])
        other_dwell = abs(dwell[0] - dwell[1]) > _DWELL * max(dwell)
        known = self._dwell_us is not None or max(self._moved_mm, self._table_mm, self._turned) > 0
        if max(moved, table) > _MOVED_MM or turned > _TURNED_DEGREES or other_dwell:
            self._moved_mm = max(self._moved_mm, moved)
            self._table_mm = max(self._table_mm, table)
            self._turned = max(self._turned, turned)
            self._dwell_us = dwell if other_dwell else self._dwell_us
            if not known:
                self.changed = True
                self._scan_counter = int(header["scan_counter"][0])

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name."""
        ways = []
        if self._moved_mm > _MOVED_MM:
            ways.append(f"their positions are up to {self._moved_mm:.1f} mm apart")
        if self._turned > _TURNED_DEGREES:
            ways.append(f"their directions up to {self._turned:.1f}°")
        if self._table_mm > _MOVED_MM:
            ways.append(f"the table moved by {self._table_mm:.1f} mm")
        if self._dwell_us is not None:
            ways.append(f"their dwell times are {self._dwell_us[0]:g} and {self._dwell_us[1]:g} µs")
        if ways:
            text = (
                f"lines of one image differ from its first, as that with scan counter {self._scan_counter}: "
                f"{', '.join(ways)}. The image is made as if they were alike; if they belong to different images, "
                "their counters (slice, contrast, phase, repetition, set) must differ"
            )
            yield "lines of one image", Finding("warning", text)


def _pieces(headers: Headers, kind: np.dtype[np.void]) -> list[bytes]:
    """A piece of each header; a single one where all are alike."""
    pieces = headers.view(kind)["piece"]
    size, whole = pieces.dtype.itemsize, pieces.tobytes()
    if whole == whole[:size] * len(headers):
        return [whole[:size]]
    return [whole[i : i + size] for i in range(0, len(whole), size)]


def _apart(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Distance of two places; 0 where one of them is no number."""
    return float(np.nan_to_num(np.linalg.norm(a.astype(np.float64) - b), posinf=0.0))


def _angle(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Angle between two directions in degrees; 0 where one of them is none."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not norm or not np.isfinite(norm):
        return 0.0
    return float(np.degrees(np.arccos(np.clip(float(a @ b) / norm, -1, 1))))
