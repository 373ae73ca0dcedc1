"""Collects readouts into k-space."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from scanside.context import Context
from scanside.errors import CalibrationError, ScanError
from scanside.items import Calibration, KSpace, Readouts
from scanside.losses import FIRST, LAST, Doubt, Marks, ScanCounters
from scanside.mrd.dtypes import ACQUISITION_HEADER, Headers
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged, names
from scanside.mrd.header import Encoding, Multiband
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.stages._calibration import has_middle
from scanside.stages._dying_coils import DyingCoils
from scanside.stages._grid import Grid
from scanside.stages._interleaved import InterleavedCalibration
from scanside.stages._lines import different_layout
from scanside.stages._other_space import disagreement, fitted
from scanside.stages._single_band import references_of

__all__ = ["Accumulate"]

logger = logging.getLogger(__name__)

CounterName = Literal["slice", "contrast", "phase", "repetition", "set", "average"]
_SEPARATING: tuple[CounterName, ...] = ("slice", "contrast", "phase", "repetition", "set")
_CALIBRATION = AcquisitionFlag.PARALLEL_CALIBRATION
_CALIBRATION_TOO = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
_TOLD = 8  # so many damaged k-spaces are told one by one
_ENDLESS = 1000  # more repetitions than this announce a series that is stopped by hand
_REMEMBERED = 4096  # finished k-spaces that are known as such, to catch late lines in an endless series


class Accumulate(Stage[Readouts, KSpace | Calibration]):
    """Puts every line where its counters say and gives a `KSpace` when its last line has come.

    The line with phase-encoding counter i goes to row i − center + N // 2 of the encoded matrix, with the
    center from the encoding limits; partitions and samples likewise. Readouts that come again for the same
    place (averages, or repeated lines) are averaged. Segments fill the same k-space.

    A k-space is finished by a readout with the flag LAST_IN_SLICE, LAST_IN_REPETITION or LAST_IN_MEASUREMENT
    (of the last average and segment that the header announces), by a later repetition of the same slice, or
    by the end of the scan. A line that comes later for the same counters begins a new one if it is flagged
    FIRST_IN_SLICE or FIRST_IN_REPETITION, and is an error otherwise.

    Calibration lines: where the header calls the calibration embedded, they are lines of the image as well;
    otherwise lines flagged as calibration only are kept apart, and serve all repetitions and phases of their
    slice; where several sets or contrasts share one calibration, that of the most similar counters is taken. Those
    of another encoding space serve where there are no others, directions and place agree; else it is told why not.
    `KSpace.reference` is the smallest box that holds the calibration lines. Where they come before other lines of the
    image they are given as a `Calibration` at once, so that what is computed from them is ready early. Frames without
    any, whose lines take turns, are calibrated over their average: the first ones wait until it has no gap.

    Lines of several slices at once (multiband) get the references of each of them, along a leading axis ``slice``,
    where the stage ``multiband`` follows.

    What the header announces and never came is told at the end, and of averages in the images that lack some.
    Lines that were lost on the way (`scanside.losses` says how that is found out) are told to the
    operator by their counters, and their k-space goes on with `KSpace.incomplete` set, so that its images say so.

    Coils that received nothing for a part of the lines, though others did, are left out of the image, and the
    operator is told (``ScansideCoilsLeftOut``, see `scanside.stages._dying_coils`).

    What contradicts the header so that lines in their places give no right image (`Scan.findings` of level error:
    spokes under a Cartesian header, several slices in each readout) is refused.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            together: counters that become leading axes of the k-space instead of k-spaces of their own.
            averages: ``mean`` averages them as they come, ``separate`` keeps a k-space for each.
            trigger: ``slice`` as described above, ``measurement`` gives everything at the end.
            keep_out: flags of readouts that are no lines of an image.
            contradictions: ``refuse`` readouts that contradict the header so that no right image can come of them, or
                place them all the same, and their images carry the warning (``mark``).
            incomplete: k-space of a scan that ended early is ``withhold`` (and the operator told), or goes
                on as ``mark``, so that its images say so.
            readout_grid: length of the readout axis: that of the ``encoded`` matrix, that with the readout
                oversampling ``removed``, or ``auto``: the shorter of them that holds the readouts.
        """

        together: tuple[CounterName, ...] = ()
        averages: Literal["mean", "separate"] = "mean"
        trigger: Literal["slice", "measurement"] = "slice"
        keep_out: tuple[str, ...] = tuple(names(int(NOT_IMAGING)))
        contradictions: Literal["refuse", "mark"] = "refuse"
        incomplete: Literal["withhold", "mark"] = "withhold"
        readout_grid: Literal["auto", "encoded", "removed"] = "auto"

    config: Config

    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        separating = (*_SEPARATING, "average") if self.config.averages == "separate" else _SEPARATING
        self._key_names = tuple(name for name in separating if name not in self.config.together)
        self._keep_out = _combined(self.config.keep_out)
        self._purposes = np.uint64(self._keep_out | int(_CALIBRATION | _CALIBRATION_TOO))
        self._device = torch.device("cpu")

    def prepare(self, context: Context) -> None:
        """Choose the device on which k-space is handed on."""
        self._device = context.torch_device

    def foresee(self, outline: Outline) -> Outline:
        """Lines of a grid only, and none that contradict the header."""
        if (obstacle := _off_the_grid(outline.encoding)) is not None:
            return outline.refused(obstacle)
        for finding in outline.findings:
            if finding.corrected_by in outline.corrected_by or finding.level == "note":
                continue
            if finding.level == "error" and self.config.contradictions == "refuse":
                return outline.refused(finding.text)
            if finding.corrected_by is not None or finding.level == "error":
                outline = outline.doubted(finding.text)
        return outline

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is held."""
        self._scan = scan
        self._open: OrderedDict[_Key, Grid] = OrderedDict()
        self._calibrating: dict[_Key, Grid] = {}
        self._finished: OrderedDict[_Key, None] = OrderedDict()
        self._dropped: Counter[str] = Counter()
        self._counters = ScanCounters()
        self._coils = DyingCoils(scan)
        self._counting = False
        self._in_turns = InterleavedCalibration()
        self._elsewhere: dict[tuple[_Key, int], tuple[KSpace, KSpace]] = {}
        self._together: dict[_Key, tuple[tuple[KSpace, ...], KSpace]] = {}
        self._n_flagged = 0
        self._has_begun = False
        self._latest: _Key | None = None
        self._doubted: set[str] = set()
        self._came: dict[tuple[int, str], set[int]] = {}
        self._sampled: dict[int, npt.NDArray[np.bool_]] = {}
        self._n_repetitions: Counter[_Key] = Counter()
        self._n_damaged = 0

    def process(self, item: Readouts) -> Iterator[Calibration | KSpace]:
        """Place a block's lines; give each k-space that they finish."""
        headers = item.headers
        if not len(headers):
            return
        if self._scan.findings and self.config.contradictions == "refuse":
            _refuse(self._scan)
        flags = headers["flags"]
        # Between prescans and the first line, a step before may have taken noise readouts out.
        self._counting = self._counting or bool(((flags & np.uint64(self._keep_out)) == 0).any())
        if self._counting:
            self._counters.follow(headers["scan_counter"])
        start = 0
        for end in _run_ends(headers, flags, self._purposes):
            run = item.select(slice(start, end)) if end - start < len(item) else item
            flag, key = int(flags[start]), self._key(headers[start])
            is_last = bool(int(flags[end - 1]) & LAST)
            start = end
            if flag & self._keep_out:
                self._dropped.update(names(flag & self._keep_out))
                continue
            encoding = self._scan.encoding(key[0])
            if (
                flag & _CALIBRATION
                and not flag & _CALIBRATION_TOO
                and encoding.calibration_mode != "embedded"
            ):
                self._calibration_grid(key, encoding, run).place(run)
                continue
            yield from self._moved_on(key)
            grid = self._grid(key, encoding, run)
            if not flag & (_CALIBRATION | _CALIBRATION_TOO):
                yield from self._calibrated(key, grid, run)
            grid.place(run)
            self._latest = key
            if flag & _CALIBRATION_TOO and encoding.calibration_mode != "embedded":
                self._calibration_grid(key, encoding, run).place(run)
            if is_last and self._is_last(run.headers[-1], encoding, grid):
                self._n_flagged += 1
                yield from self._finish(key, last_came=True)

    def finish(self, end: ScanEnd) -> Iterator[KSpace]:
        """Give what no flag has finished: complete if the scan is, else by the policy for incomplete data."""
        if self._dropped:
            counts = ", ".join(f"{n} runs of {name}" for name, n in self._dropped.items())
            logger.info("kept out of the images: %s", counts)
        for key in list(self._open):
            grid = self._open[key]
            if end.complete:
                yield from self._finish(key)
                continue
            n_lines = int((grid.counts > 0).sum())
            which = _describe(key, self._key_names)
            why = f"{end.reason or 'the scan ended early'}; {n_lines} lines of {which} had come"
            if self.config.incomplete == "withhold":
                self._scan.warn(f"an incomplete image is withheld: {why}")
                del self._open[key]
            else:
                yield from self._finish(key, incomplete=why)
        yield from self._in_turns.rest()
        if end.complete:
            self._tell_what_never_came()

    def close(self) -> None:
        """Forget the scan's lines."""
        self._open = OrderedDict()
        self._calibrating = {}
        self._elsewhere = {}
        self._together = {}
        self._in_turns = InterleavedCalibration()

    def _key(self, header: np.void) -> _Key:
        """What k-space a readout belongs to: its encoding space and the separating counters."""
        idx = header["idx"]
        return (int(header["encoding_space_ref"]), *(int(idx[name]) for name in self._key_names))

    def _moved_on(self, key: _Key) -> Iterator[KSpace]:
        """Finish the earlier repetitions of a slice when a later one begins."""
        if self.config.trigger != "slice" or "repetition" not in self._key_names or key in self._open:
            return
        at = 1 + self._key_names.index("repetition")
        slice_at = [1 + i for i, name in enumerate(self._key_names) if name == "slice"]
        for other in list(self._open):
            if other[at] < key[at] and all(other[i] == key[i] for i in (0, *slice_at)):
                yield from self._finish(other)

    def _is_last(self, header: np.void, encoding: Encoding, grid: Grid) -> bool:
        """Whether a readout with a LAST flag is the last of its k-space."""
        if self.config.trigger != "slice":
            return False
        idx = header["idx"]
        awaited = ("segment", "average") if self.config.averages == "mean" else ("segment",)
        if any(int(idx[name]) < encoding.limit(name).maximum for name in awaited):
            return False
        # Frames that are kept together may end in any order, such as interleaved slices do.
        grid.ended.add(tuple(int(idx[name]) for name in self.config.together))
        return len(grid.ended) >= grid.n_frames

    def _grid(self, key: _Key, encoding: Encoding, run: Readouts) -> Grid:
        if key in self._open:
            return self._open[key]
        if key in self._finished and not int(run.headers["flags"][0]) & FIRST:
            raise ScanError(
                f"a line came for {_describe(key, self._key_names)} after its last line had come (scan "
                f"counter {int(run.headers['scan_counter'][0])}): the LAST flags of this scan are not reliable; "
                "set accumulate.trigger to 'measurement'"
            )
        self._open[key] = self._new_grid(encoding, run)
        if key not in self._finished:
            self._n_repetitions[self._without_repetition(key)] += 1
        for name, value in zip(self._key_names, key[1:], strict=True):
            self._came.setdefault((key[0], name), set()).add(value)
        return self._open[key]

    def _calibration_grid(self, key: _Key, encoding: Encoding, run: Readouts) -> Grid:
        serves = _calibration_key(key, self._key_names)
        grid = self._calibrating.get(serves)
        if grid is None or grid.handed_out:
            grid = self._calibrating[serves] = self._new_grid(encoding, run)
        return grid

    def _calibration_for(self, key: _Key) -> Grid | None:
        """Calibration lines that serve a k-space: those of the same slice with the most similar counters."""
        wanted = _calibration_key(key, self._key_names)
        same_slice = [other for other in self._calibrating if other[:2] == wanted[:2]]
        best = max(
            same_slice, key=lambda other: [a == b for a, b in zip(wanted, other, strict=True)], default=None
        )
        return None if best is None else self._calibrating[best]

    def _calibrated(self, key: _Key, grid: Grid, run: Readouts) -> Iterator[Calibration]:
        """The calibration lines of a k-space, when readouts have come that are none."""
        averages = self.config.averages == "mean" and grid.encoding.limit("average").n > 1
        wanted = _calibration_key(key, self._key_names)[:4]
        rivals = sum(_calibration_key(other, self._key_names)[:4] == wanted for other in self._open)
        # Of lines that come again, or of several images at once, what is computed now would be of no use later;
        # slices that are read out at once must be separated before.
        if averages or rivals > 1 or grid.encoding.multiband is not None:
            return
        separate = self._calibration_for(key)
        holds = grid if separate is None else separate
        reference = holds.early_reference(self._device, everything=separate is not None)
        if reference is not None:
            lines = grid.expected_lines(run, self._sampled.get(key[0]))
            yield Calibration(
                grid.outline(self._counters_of(key), reference),
                None if lines is None else lines.to(self._device),
            )

    def _counters_of(self, key: _Key) -> dict[str, int]:
        return dict(zip(self._key_names, key[1:], strict=True))

    def _new_grid(self, encoding: Encoding, run: Readouts) -> Grid:
        if (obstacle := _off_the_grid(encoding)) is not None:
            raise ScanError(obstacle)
        return Grid(
            self._scan,
            encoding,
            self.config.together,
            run,
            grid=self.config.readout_grid,
            pinned=self._device.type == "cuda",
        )

    def _finish(self, key: _Key, *, last_came: bool = False, incomplete: str | None = None) -> list[KSpace]:
        """End a k-space; gives those that can go on now."""
        grid = self._open.pop(key)
        self._finished[key] = None
        while len(self._finished) > _REMEMBERED:
            self._finished.popitem(last=False)
        kspace = grid.to_kspace(self._device)
        kspace.counters = self._counters_of(key)
        calibrating = self._calibration_for(key)
        kspace.incomplete = incomplete or self._flaws(key, grid, calibrating, last_came)
        if kspace.incomplete is None:
            self._sampled[key[0]] = grid.counts > 0
        if calibrating is not None:
            calibrating.handed_out = True
            kspace.reference = calibrating.reference(self._device, everything=True)
        else:
            kspace.reference = grid.reference(self._device, everything=False)
        if grid.encoding.multiband is not None and "multiband" in self._scan.corrected_by:
            kspace.reference = self._single_band(key, kspace, grid.encoding.multiband)
        in_turns = kspace.reference is None and not has_middle(kspace)
        if in_turns:
            self._calibrate_from_elsewhere(key, kspace)
            in_turns = kspace.reference is None and not self._scan.joins_frames
        kspace = self._coils(kspace, together=in_turns)
        return [kspace] if self._scan.joins_frames else self._in_turns.take(kspace)

    def _single_band(self, key: _Key, kspace: KSpace, multiband: Multiband) -> KSpace:
        """The references of all slices that a k-space holds; the same object for the same references."""
        space = key[0] if multiband.calibration_encoding is None else multiband.calibration_encoding
        wanted = _calibration_key(key, self._key_names)
        references: dict[int, KSpace] = {}
        for slice_ in sorted({other[1] for other in self._calibrating if other[0] == space}):
            nearest = max(
                (other for other in self._calibrating if other[:2] == (space, slice_)),
                key=lambda other: [a == b for a, b in zip(wanted[2:], other[2:], strict=True)],
            )
            self._calibrating[nearest].handed_out = True
            reference = self._calibrating[nearest].reference(self._device, everything=True)
            if reference is not None:
                references[slice_] = reference
        made_of = tuple(references.values())
        known = self._together.get(wanted)
        if (
            known is None
            or len(known[0]) != len(made_of)
            or any(a is not b for a, b in zip(known[0], made_of, strict=True))
        ):
            n_excited = self._scan.encoding(key[0]).limit("slice").n
            self._together[wanted] = known = (
                made_of,
                references_of(kspace, multiband, references, n_excited),
            )
        return known[1]

    def _calibrate_from_elsewhere(self, key: _Key, kspace: KSpace) -> None:
        """Give a k-space without calibration lines those of another encoding space, where they lie in one place."""
        wanted = _calibration_key(key, self._key_names)
        nearest = sorted(
            (other for other in self._calibrating if other[0] != key[0]),
            key=lambda other: [a != b for a, b in zip(wanted[1:], other[1:], strict=True)],
        )
        told: dict[str, None] = {}
        for other in nearest:
            reference = self._calibrating[other].reference(self._device, everything=True)
            if reference is None:
                continue
            lines = f"{int(reference.mask.sum())} calibration lines of encoding space {other[0]}"
            why = disagreement(reference, kspace)
            if why is None:
                known = self._elsewhere.get((other, key[0]))
                try:
                    if known is None or known[0] is not reference:
                        self._elsewhere[other, key[0]] = known = (reference, fitted(reference, kspace))
                except CalibrationError as error:
                    why = str(error)
                else:
                    self._calibrating[other].handed_out = True
                    kspace.reference = known[1]
                    kspace.meta["ScansideCalibration"] = [f"{lines} were taken"]
                    return
            told[f"{lines} do not serve encoding space {key[0]}: {why}"] = None
        if told:
            for text in told:
                self._scan.warn(text)
            kspace.meta["ScansideCalibration"] = list(told)

    def _tell_what_never_came(self) -> None:
        """Whole slices, contrasts, … that the header announces and of which no line came."""
        for (index, name), values in self._came.items():
            encoding = self._scan.encoding(index)
            if name == "repetition" and encoding.limit(name).n > _ENDLESS:
                continue
            for text in _absent(encoding, name, values):
                self._scan.warn(f"{text}: the scan ended before, or they were lost")
        for index in {key[0] for key in self._n_repetitions}:
            if self._scan.encoding(index).limit("repetition").n <= _ENDLESS:
                self._tell_uneven({key: n for key, n in self._n_repetitions.items() if key[0] == index})

    def _tell_uneven(self, came: dict[_Key, int]) -> None:
        """Images that came of some combinations of counters, and not of others."""
        names = tuple(name for name in self._key_names if name != "repetition")
        most = max(came.values())
        values = (sorted({key[i] for key in came}) for i in range(len(names) + 1))
        absent = {key: n for key in product(*values) if (n := most - came.get(key, 0))}
        if absent:
            first = next(iter(absent))
            self._scan.warn(
                f"{sum(absent.values())} of {most * (len(came) + sum(key not in came for key in absent))} images did "
                f"not come, the first of {_describe(first, names)}: the protocol has none there, the scan ended "
                "before, or they were lost"
            )

    def _without_repetition(self, key: _Key) -> _Key:
        """Encoding space and counters of an image that is made again and again."""
        return (
            key[0],
            *(value for name, value in zip(self._key_names, key[1:], strict=True) if name != "repetition"),
        )

    def _flaws(self, key: _Key, grid: Grid, calibrating: Grid | None, last_came: bool) -> str | None:
        """What is wrong with the lines of a k-space, told to the operator too."""
        if self.config.trigger == "measurement":
            last_came = bool(grid.flags & LAST)
        marks = Marks.of(
            grid.flags,
            ended=last_came,
            begun_elsewhere=self._has_begun,
            ended_elsewhere=self._n_flagged > 0,
            is_latest=key == self._latest,
        )
        self._has_begun |= bool(grid.flags & FIRST)
        found_out = grid.losses(self._counters, marks)
        lost = list(found_out.lost)
        if "average" not in (*self._key_names, *self.config.together):
            lost += _absent(grid.encoding, "average", grid.averages)
        changing = grid.other_lengths()
        where = _describe(key, self._key_names)
        found = [f"lines were lost: {where}: {'; '.join(lost)}"] if lost else []
        found += [f"{where}: {changing}"] if changing else []
        if calibrating is not None and (absent := calibrating.lost_calibration()):
            found.append(f"calibration lines were lost: {'; '.join(absent)}")
        if not found:
            self._tell_doubts(where, found_out.doubts)
            return None
        self._n_damaged += 1
        if self._n_damaged <= _TOLD:
            for text in found:
                self._scan.warn(text)
        elif self._n_damaged == _TOLD + 1:
            self._scan.warn("more images than are told here are not complete; each of them says so")
        return "; ".join(found)

    def _tell_doubts(self, where: str, doubts: Iterable[Doubt]) -> None:
        """What nobody can tell, once for a scan."""
        for doubt in doubts:
            if doubt.kind not in self._doubted:
                self._doubted.add(doubt.kind)
                self._scan.warn(f"lines may have been lost: {where}: {doubt.text}")


_Key = tuple[int, ...]


def _off_the_grid(encoding: Encoding) -> str | None:
    """Why the readouts of an encoding space are no lines of a grid; None where they are."""
    if encoding.trajectory in ("cartesian", "epi"):
        return None
    return (
        f"encoding space {encoding.index} has a {encoding.trajectory} trajectory; this stage grids Cartesian lines "
        "only: take the pipeline 'radial' or 'spiral', or one with the stage 'gather', or, if they are Cartesian "
        "lines, have the header say so (<trajectory>cartesian</trajectory>)"
    )


def _refuse(scan: Scan) -> None:
    """End where the header is contradicted so that no right image can come of the lines."""
    for finding in scan.findings:
        if finding.level == "error":
            raise ScanError(
                f"{finding.text} (accumulate.contradictions = 'mark' makes images all the same, which carry this "
                "warning)"
            )


def _absent(encoding: Encoding, counter: str, came: set[int]) -> list[str]:
    """That values of a counter never came which the header's limits announce; empty where all did."""
    limit = encoding.limit(counter)
    if limit.n == 1:
        return []
    n = sum(limit.minimum <= value <= limit.maximum for value in came)
    if n == limit.n:
        return []
    return [f"{n} of {limit.n} {counter}s came (limits {limit.minimum}..{limit.maximum})"]


def _combined(flag_names: tuple[str, ...]) -> int:
    known = AcquisitionFlag.__members__
    for name in flag_names:
        if name not in known:
            raise ScanError(f"accumulate.keep_out: there is no flag {name!r}; known are {', '.join(known)}")
    return sum(int(known[name]) for name in set(flag_names))


def _offset(name: str, within: str | None = None) -> int:
    """Where a field begins in an acquisition header, in bytes."""
    assert ACQUISITION_HEADER.fields is not None
    kind, offset = ACQUISITION_HEADER.fields[name][:2]
    if within is None:
        return offset
    assert kind.fields is not None
    return offset + kind.fields[within][1]


def _calibration_key(key: _Key, key_names: tuple[str, ...]) -> _Key:
    """What calibration lines are kept by: they serve every repetition and average."""
    values = dict(zip(key_names, key[1:], strict=True))
    return (key[0], *(values.get(name, 0) for name in ("slice", "contrast", "set", "phase")))


def _describe(key: _Key, key_names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(key_names, key[1:], strict=True))


# What decides where a readout goes, as few large numbers: compared in one go.
_ROUTE = np.dtype(
    {
        "names": ["layout", "counters", "more_counters"],
        "formats": ["<u8", "<u8", "<u4"],
        "offsets": [
            _offset("discard_pre"),  # discards, echo position, encoding space
            _offset("idx", "average"),  # average, slice, contrast, phase
            _offset("idx", "repetition"),  # repetition, set
        ],
        "itemsize": ACQUISITION_HEADER.itemsize,
    }
)


def _run_ends(headers: Headers, flags: npt.NDArray[np.uint64], purposes: np.uint64) -> list[int]:
    """Where the runs of a block end: their readouts go to one k-space, with samples in one place, for one purpose.

    Args:
        headers: ``(n,)`` of the block.
        flags: ``(n,)`` of the block. A run also ends with a readout that may be the last of its k-space.
        purposes: flags that tell what a readout is for.
    """
    route = headers.view(_ROUTE)
    purpose = flags & purposes
    changes = (purpose[1:] != purpose[:-1]) | ((flags[:-1] & np.uint64(LAST)) != 0)
    compared = [route[name] for name in ("counters", "more_counters")]
    if flagged(flags, AcquisitionFlag.REVERSE).any():
        # Readouts of both directions count the echo's sample differently for the same place.
        compared.append(headers["encoding_space_ref"])
        changes |= different_layout(headers)
    else:
        compared.append(route["layout"])
    for values in compared:
        changes |= values[1:] != values[:-1]
    return [*(np.flatnonzero(changes) + 1).tolist(), len(headers)]
