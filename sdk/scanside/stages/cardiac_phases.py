"""Readouts sorted by the phase of the heart."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from scanside.items import Readouts, Waveform
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.header import Limit
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.stages._heartbeat import Beats, Clock, StampTriggers, WaveformTriggers

__all__ = ["SortByCardiacPhase"]

logger = logging.getLogger(__name__)

_ECG = 0  # number of an ECG among waveforms
_TOLD = 8  # so many implausible beats are told one by one
_ENDS = np.uint64((1 << 18) - 1)  # flags FIRST_ and LAST_ of all counters
_CALIBRATION = AcquisitionFlag.PARALLEL_CALIBRATION
_CALIBRATION_TOO = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING

_UNKNOWN, _AS_IT_IS, _NO_PHASE, _BAD_BEAT = -1, -2, -3, -4


class SortByCardiacPhase(Stage[Readouts | Waveform, Readouts | Waveform]):
    """Gives readouts of a scan that runs on over several beats the counter ``phase`` of the heart.

    Triggers come from an ECG among the waveforms, or from the readouts' physiology time stamps, which count from the
    last trigger on. ``retrospective`` divides every beat, from one trigger to the next, into equal phases, and holds
    its readouts until it is over; ``prospective`` counts phases of a fixed length from the last trigger on without
    waiting, and leaves out what comes after the last of them. All beats fill the same phases: the repetition
    becomes 0, LAST flags are taken off, and images are made at the end of the scan. The header's limits that later
    stages see say so.

    Beats are checked: an interval between two triggers that is no beat by the heart's own rhythm (an ECG that drops
    out, false triggers) is told to the operator, and its lines are dropped or kept as the settings say. Images that
    lack such lines say so where that can be found out (stage ``accumulate``). Lines before the first trigger and,
    prospectively, between the last phase and the next trigger have no phase and are left out; they are counted in
    the log. Of a scan that has no trigger for longer than a beat can last, all readouts pass as they came, and the
    operator is told.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            phases: number of phases of a beat.
            gating: ``retrospective`` or ``prospective``, as described above.
            phase_ms: prospective: length of a phase.
            source: of the triggers: ``ecg``, ``time-stamps``, or ``auto``: the ECG if the header announces one.
            channel: channel of the ECG that tells of triggers; −1 is the last, where scanners put trigger marks.
            threshold: a trigger is where that channel rises above this value.
            shortest_ms: shortest interval that can be a beat.
            longest_ms: longest interval that can be a beat.
            tolerance: by which part of it an interval may differ from the median of the latest ones.
            implausible: lines of intervals that are no beat: ``drop`` them, or ``keep`` them; then those of a short
                one are sorted by its own length, those of a long one as if the heart had gone on beating.
                Prospectively, triggers that come too early are ignored or taken.
        """

        phases: int = Field(20, ge=1)
        gating: Literal["retrospective", "prospective"] = "retrospective"
        phase_ms: float | None = Field(None, gt=0)
        source: Literal["auto", "ecg", "time-stamps"] = "auto"
        channel: int = -1
        threshold: int = Field(0, ge=0)
        shortest_ms: float = Field(300.0, gt=0)
        longest_ms: float = Field(2000.0, gt=0)
        tolerance: float = Field(0.3, gt=0)
        implausible: Literal["drop", "keep"] = "drop"

        @model_validator(mode="after")
        def _fits(self) -> SortByCardiacPhase.Config:
            if (self.phase_ms is None) != (self.gating == "retrospective"):
                raise ValueError(
                    "prospective gating needs phase_ms, the length of a phase; retrospective gating divides each beat"
                )
            if self.shortest_ms >= self.longest_ms:
                raise ValueError(
                    f"shortest_ms {self.shortest_ms:g} must be below longest_ms {self.longest_ms:g}"
                )
            return self

    config: Config

    def open(self, scan: Scan) -> None:
        """A new scan: no beat is known."""
        config = self.config
        self._scan = scan
        self._header = scan.header
        limits = {"phase": Limit(0, config.phases - 1, 0), "repetition": Limit(0, 0, 0)}
        scan.header = replace(
            scan.header,
            encodings=tuple(
                replace(encoding, limits={**encoding.limits, **limits}) for encoding in scan.header.encodings
            ),
        )
        announced = _ECG in scan.header.waveform_names
        self._by_ecg = config.source == "ecg" or (config.source == "auto" and announced)
        self._clock = Clock()
        self._ecg = WaveformTriggers(config.channel, config.threshold, self._clock)
        self._stamps = StampTriggers(self._clock)
        self._beats = Beats((config.shortest_ms, config.longest_ms), config.tolerance)
        self._held: list[Readouts] = []
        self._first_ms: float | None = None
        self._latest_ms = -np.inf
        self._sorting = True
        self._skipped = 0
        self._counts: Counter[str] = Counter()

    def process(self, item: Readouts | Waveform) -> Iterator[Readouts | Waveform]:
        """Take readouts or a piece of the ECG; give the readouts whose phase is known by now."""
        if isinstance(item, Waveform):
            if self._by_ecg and self._sorting and int(item.header["waveform_id"]) == _ECG:
                self._add(self._ecg.find(item))
                yield from self._known()
            yield item
            return
        if not self._sorting:
            yield item
            return
        # Of readouts that need no phase, such as noise and prescans, the stamps may mean anything.
        lines = item.headers[~_as_they_are(item)]
        if len(lines):
            if not self._by_ecg:
                self._add(self._stamps.find(lines))
            times = self._clock.ms(lines["acquisition_time_stamp"])
            if self._first_ms is None:
                self._first_ms = float(times[0])
            self._latest_ms = max(self._latest_ms, float(times.max()))
        self._held.append(item.copy())
        yield from self._known()

    def finish(self, end: ScanEnd) -> Iterator[Readouts | Waveform]:
        """Sort what was held: the last beat, whose end nobody saw, by the length of those before it."""
        if self._sorting and self._held and not self._beats.triggers_ms:
            yield from self._give_up("no trigger came")
        yield from self._known(ended=True)
        for what, n in self._counts.items():
            if what != "implausible":
                logger.info("cardiac phases: %d lines %s", n, what)
        n = self._counts["implausible"]
        if n > _TOLD:
            self._scan.warn(f"{n} intervals between triggers were no beats; the first {_TOLD} are told")

    def close(self) -> None:
        """Forget what is held."""
        self._held = []

    def _add(self, triggers_ms: Iterator[float]) -> None:
        dropping = self.config.implausible == "drop"
        for time_ms in triggers_ms:
            before = self._beats.triggers_ms[-1:]
            flaw = self._beats.add(time_ms, refuse_early=dropping and self.config.gating == "prospective")
            if flaw is None:
                continue
            self._counts["implausible"] += 1
            if self._counts["implausible"] <= _TOLD:
                since = 0.0 if self._first_ms is None else (before[0] - self._first_ms) / 1e3
                likely = "a false trigger" if flaw == "short" else "a missing trigger"
                self._scan.warn(
                    f"{time_ms - before[0]:.0f} ms from one trigger to the next, {since:.2f} s after the scan's "
                    f"first readout, are too {flaw} for a beat of {self._beats.usual_ms or 0:.0f} ms: {likely}; "
                    f"cardiac-phases.implausible is '{self.config.implausible}'"
                )

    def _is_hopeless(self) -> bool:
        """Whether no trigger came within the time that a beat can last."""
        if self._first_ms is None:
            return False
        until = self._beats.triggers_ms[0] if self._beats.triggers_ms else self._latest_ms
        return until - self._first_ms > self.config.longest_ms

    def _give_up(self, why: str) -> Iterator[Readouts]:
        source = "ECG" if self._by_ecg else "physiology time stamps"
        self._scan.warn(
            f"readouts are not sorted by the phase of the heart: {why} ({source}); they pass as they came. Check the "
            "leads, or cardiac-phases.source, channel and threshold"
        )
        self._scan.header = self._header
        self._sorting = False
        yield from self._held
        self._held = []

    def _known(self, *, ended: bool = False) -> Iterator[Readouts]:
        """The held readouts up to the first one whose phase is not known yet."""
        if self._sorting and self._is_hopeless():
            yield from self._give_up(f"for {self.config.longest_ms / 1e3:g} s no trigger came")
        while self._held:
            block = self._held[0]
            phases = self._phases(block, ended=ended)
            unknown = np.flatnonzero(phases == _UNKNOWN)
            n = int(unknown[0]) if len(unknown) else len(block)
            if n:
                yield from self._sorted(block.select(slice(0, n)), phases[:n])
            if n < len(block):
                self._held[0] = block.select(slice(n, None))
                return
            del self._held[0]

    def _sorted(self, block: Readouts, phases: npt.NDArray[np.int64]) -> Iterator[Readouts]:
        """The readouts of a block that have a phase, or need none."""
        headers = block.headers.copy()
        skipped, bad = phases == _NO_PHASE, phases == _BAD_BEAT
        # What is left out on purpose leaves no gap in the numbers of the readouts: nothing was lost there.
        headers["scan_counter"] -= (self._skipped + np.cumsum(skipped)).astype(np.uint32)
        self._skipped += int(skipped.sum())
        for which, what in (
            (skipped, "without a phase were left out"),
            (bad, "of intervals that are no beat dropped"),
        ):
            if which.any():
                self._counts[what] += int(which.sum())
        gated = phases >= 0
        headers["idx"]["phase"][gated] = phases[gated]
        headers["idx"]["repetition"][gated] = 0
        headers["flags"][gated] &= ~_ENDS
        kept = ~(skipped | bad)
        if kept.any():
            yield Readouts(headers, block.samples, block.trajectory).select(kept)

    def _phases(self, block: Readouts, *, ended: bool) -> npt.NDArray[np.int64]:
        """Phase of each readout ``(n,)``, or one of the negative numbers above."""
        as_it_is = _as_they_are(block)
        if as_it_is.all():
            return np.full(len(block), _AS_IT_IS, np.int64)
        times = self._clock.ms(block.headers["acquisition_time_stamp"])
        beat = self._beats.of(times)
        sort = self._prospective if self.config.gating == "prospective" else self._retrospective
        phases = np.full(len(block), _UNKNOWN, np.int64)
        for number in np.unique(beat).tolist():
            of_beat = beat == number
            phases[of_beat] = sort(times[of_beat], number, ended)
        return np.where(as_it_is, _AS_IT_IS, phases)

    def _retrospective(
        self, times: npt.NDArray[np.float64], number: int, ended: bool
    ) -> npt.NDArray[np.int64]:
        """Phases of readouts of one beat."""
        beats, nothing = self._beats, np.zeros(len(times), np.int64)
        if number < 0:
            return nothing + (_NO_PHASE if beats.triggers_ms else _UNKNOWN)
        begun, usual = beats.triggers_ms[number], beats.usual_ms
        over = number < len(beats.flaws)
        overdue = not over and self._latest_ms - begun > self.config.longest_ms
        if not (over or overdue or ended):
            return nothing + _UNKNOWN
        flawed = overdue or (over and beats.flaws[number] is not None)
        if flawed and self.config.implausible == "drop":
            return nothing + _BAD_BEAT
        length = beats.triggers_ms[number + 1] - begun if over else usual
        if flawed and (length is None or length > (usual or 0)):
            length = usual
        if length is None:
            return nothing + _NO_PHASE
        share = (times - begun) / length
        phases = np.floor(share % 1.0 * self.config.phases).astype(np.int64)
        return phases if over or flawed else np.where(share < 1, phases, _NO_PHASE)

    def _prospective(self, times: npt.NDArray[np.float64], number: int, ended: bool) -> npt.NDArray[np.int64]:
        """Phases of readouts of one beat."""
        assert self.config.phase_ms is not None
        if number < 0:
            waiting = not (self._beats.triggers_ms or ended)
            return np.full(len(times), _UNKNOWN if waiting else _NO_PHASE)
        phases = ((times - self._beats.triggers_ms[number]) // self.config.phase_ms).astype(np.int64)
        phases[phases >= self.config.phases] = _NO_PHASE
        if self._by_ecg and not ended and number == len(self._beats.flaws):
            # A trigger may stand in a piece of the ECG that has not come yet; an ECG that stopped is not awaited.
            stopped = self._latest_ms - self._ecg.covered_ms > self.config.longest_ms
            phases[(times >= self._ecg.covered_ms) & (not stopped)] = _UNKNOWN
        return phases


def _as_they_are(block: Readouts) -> npt.NDArray[np.bool_]:
    """Which readouts ``(n,)`` need no phase: those that are no lines of an image, and separate calibration lines."""
    flags = block.headers["flags"]
    return flagged(flags, NOT_IMAGING) | (flagged(flags, _CALIBRATION) & ~flagged(flags, _CALIBRATION_TOO))
