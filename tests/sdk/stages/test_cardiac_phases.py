"""Readouts sorted by the phase of the heart, whose beats are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside import Pipeline, Scan, ScanEnd
from scanside.errors import StageConfigError
from scanside.items import Item, Readouts, Waveform
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TimingConfig,
    WaveformConfig,
    simulate,
)
from scanside.stages.cardiac_phases import SortByCardiacPhase
from scanside.testing.compare import joined

BEAT_MS = 800.0
TICK_MS = 2.5


def real_time(ecg: bool = True, repetitions: int = 50, **parts: Any) -> SimulatedScan:
    """About six seconds of a heart that beats every 800 ms, 120 ms for each frame."""
    config: dict[str, Any] = {
        "phantom": PhantomConfig(kind="cardiac", supersampling=(1, 1, 1)),
        "coils": CoilConfig(n_coils=2),
        "noise": NoiseConfig(std=0.0, scan="none"),
        "geometry": GeometryConfig(matrix=(24, 24, 1), fov_mm=(300.0, 300.0, 8.0)),
        "dynamics": DynamicsConfig(repetitions=repetitions, beat="time"),
        "timing": TimingConfig(tr_ms=5.0, heart_rate_bpm=60_000 / BEAT_MS),
        "waveforms": WaveformConfig(ecg=ecg),
    }
    return simulate(ScanConfig(**{**config, **parts}))


def run(scan: SimulatedScan, items: Sequence[Item], **settings: Any) -> tuple[Readouts, Scan]:
    """All readouts that the stage gave, and the scan."""
    stage = SortByCardiacPhase(**settings)
    told = Scan.from_xml(scan.header_xml)
    stage.open(told)
    out = [result for item in items for result in stage.process(item)] + list(stage.finish(ScanEnd()))
    stage.close()
    blocks = joined([item for item in out if isinstance(item, Readouts)])
    if not blocks:
        return next(item for item in items if isinstance(item, Readouts)).select(slice(0, 0)), told
    (readouts,) = blocks
    assert isinstance(readouts, Readouts)
    return readouts, told


def since_start_ms(readouts: Readouts) -> npt.NDArray[np.float64]:
    return readouts.headers["acquisition_time_stamp"] * TICK_MS - 43_200e3


def change_triggers(items: Sequence[Item], change: Callable[[list[int]], list[int]]) -> list[Item]:
    """The ECG with other trigger marks: their times in ms since the start go through a function."""
    pieces = [item for item in items if isinstance(item, Waveform)]
    n = pieces[0].data.shape[1]
    marks = np.concatenate([piece.data[1] for piece in pieces])
    times = (np.flatnonzero(marks) * TICK_MS).astype(int).tolist()
    marks = np.zeros_like(marks)
    marks[(np.array(change(times), int) / TICK_MS).astype(int)] = 1
    changed = [
        Waveform(piece.header, np.stack([piece.data[0], marks[i * n : (i + 1) * n]]))
        for i, piece in enumerate(pieces)
    ]
    rest = iter(changed)
    return [next(rest) if isinstance(item, Waveform) else item for item in items]


def at_midnight(item: Item) -> Item:
    """The same, measured so that midnight is three seconds after the start of the scan."""
    assert isinstance(item, Readouts | Waveform)
    day, earlier = int(86_400e3 / TICK_MS), int((43_200e3 + 3e3) / TICK_MS)
    moved = item.copy() if isinstance(item, Readouts) else Waveform(item.header.copy(), item.data)
    if isinstance(moved, Readouts):
        stamps = moved.headers["acquisition_time_stamp"]
        stamps[:] = (stamps.astype(int) - earlier) % day
    else:
        moved.header["time_stamp"] = (int(moved.header["time_stamp"]) - earlier) % day
    return moved


@pytest.mark.parametrize("source", ["ecg", "time-stamps"])
def test_retrospective_phases(source: str) -> None:
    scan = real_time()
    items = list(scan.items(7))
    readouts, told = run(scan, items, phases=8, source=source)
    times = since_start_ms(readouts)
    n = sum(len(item) for item in items if isinstance(item, Readouts))
    assert len(readouts) == n
    expected = (times % BEAT_MS) // (BEAT_MS / 8)
    found = readouts.headers["idx"]["phase"]
    # Time stamps are coarse, so that a line at the edge of a phase may fall on either side.
    edge = np.abs((times + BEAT_MS / 16) % (BEAT_MS / 8) - BEAT_MS / 16) <= 2 * TICK_MS
    assert (found == expected)[~edge].all()
    assert ((found - expected) % 8 <= 1)[edge].all() or ((expected - found) % 8 <= 1)[edge].all()
    assert set(found.tolist()) == set(range(8))
    assert not readouts.headers["idx"]["repetition"].any()
    ends = AcquisitionFlag.LAST_IN_REPETITION | AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.FIRST_IN_SLICE
    assert not flagged(readouts.headers["flags"], ends).any()
    assert flagged(readouts.headers["flags"], AcquisitionFlag.LAST_IN_MEASUREMENT).sum() == 1
    assert told.warnings == []
    assert told.encoding().limit("phase").n == 8
    assert told.encoding().limit("repetition").n == 1


@pytest.mark.parametrize("gating", [{}, {"gating": "prospective", "phase_ms": 50.0}])
@pytest.mark.parametrize("source", ["ecg", "time-stamps"])
def test_a_beat_goes_on_at_midnight(source: str, gating: dict[str, Any]) -> None:
    """Scanners count from midnight on, and a scan that crosses it is sorted like any other."""
    scan = real_time()
    settings = {"phases": 8, "source": source, **gating}
    expected, _ = run(scan, list(scan.items(7)), **settings)
    found, told = run(scan, [at_midnight(item) for item in scan.items(7)], **settings)
    assert np.diff(found.headers["acquisition_time_stamp"].astype(int)).min() < -30_000_000
    assert len(found) == len(expected)
    assert (found.headers["idx"] == expected.headers["idx"]).all()
    assert told.warnings == []


def test_source_of_the_header() -> None:
    """Without an ECG in the header, time stamps tell."""
    scan = real_time(ecg=False)
    readouts, told = run(scan, list(scan.items()), phases=4)
    assert set(readouts.headers["idx"]["phase"].tolist()) == set(range(4))
    assert told.warnings == []


def test_a_beat_is_held_until_it_is_over() -> None:
    scan = real_time()
    stage = SortByCardiacPhase(phases=8)
    stage.open(Scan.from_xml(scan.header_xml))
    given, newest = 0.0, 0.0
    for item in scan.items(1):
        if isinstance(item, Readouts):
            newest = float(since_start_ms(item)[-1])
        for result in stage.process(item):
            if isinstance(result, Readouts):
                given = float(since_start_ms(result)[-1])
        # One beat, and the piece of the ECG that is still to come.
        assert newest - given <= BEAT_MS + 120
    assert given >= 6 * BEAT_MS


@pytest.mark.parametrize("source", ["ecg", "time-stamps"])
def test_prospective_phases(source: str) -> None:
    scan = real_time()
    items = list(scan.items(7))
    readouts, told = run(scan, items, phases=10, gating="prospective", phase_ms=50.0, source=source)
    times = since_start_ms(readouts)
    assert (times % BEAT_MS < 500 + TICK_MS).all()
    expected = (times % BEAT_MS) // 50
    assert (np.abs(readouts.headers["idx"]["phase"] - expected) <= 1).all()
    assert (readouts.headers["idx"]["phase"] == expected).mean() > 0.9
    # What was left out on purpose is no loss.
    assert (np.diff(readouts.headers["scan_counter"].astype(int)) == 1).all()
    assert told.warnings == []


def test_prospective_phases_do_not_wait_for_the_beat() -> None:
    scan = real_time()
    stage = SortByCardiacPhase(phases=10, gating="prospective", phase_ms=50.0)
    stage.open(Scan.from_xml(scan.header_xml))
    newest = 0.0
    for item in scan.items(1):
        if isinstance(item, Readouts):
            newest = float(since_start_ms(item)[-1])
        for result in stage.process(item):
            if isinstance(result, Readouts):
                assert newest - float(since_start_ms(result)[0]) <= 120


@pytest.mark.parametrize(
    ("change", "told", "interval"),
    [
        (
            lambda times: [t for t in times if abs(t - 3200) > 5],
            "1600 ms from one trigger to the next, 2.40 s",
            (2400, 4000),
        ),
        (lambda times: sorted([*times, 3500]), "300 ms from one trigger to the next, 3.20 s", (3200, 4000)),
    ],
    ids=["drop-out", "false trigger"],
)
def test_intervals_that_are_no_beats(
    change: Callable[[list[int]], list[int]], told: str, interval: tuple[int, int]
) -> None:
    scan = real_time()
    items = change_triggers(list(scan.items()), change)
    readouts, dropped = run(scan, items, phases=8)
    times = since_start_ms(readouts)
    within = (times >= interval[0]) & (times < interval[1])
    assert not within.any()
    assert len(times) == 50 * 24 - (interval[1] - interval[0]) // 5
    assert any(told in warning and "implausible is 'drop'" in warning for warning in dropped.warnings)
    # Lines of bad beats leave a gap in the numbers of the readouts, so that their images can say so.
    assert (np.diff(readouts.headers["scan_counter"].astype(int)) > 1).sum() == 1
    kept, warned = run(scan, items, phases=8, implausible="keep")
    assert len(kept) == 50 * 24
    assert any(told in warning and "implausible is 'keep'" in warning for warning in warned.warnings)
    if interval == (2400, 4000):  # the heart went on
        times = since_start_ms(kept)
        within = (times >= interval[0]) & (times < interval[1])
        expected = (times % BEAT_MS) // 100
        assert ((kept.headers["idx"]["phase"] == expected) | ~within).mean() > 0.98


def test_early_triggers_are_ignored_prospectively() -> None:
    scan = real_time()
    items = change_triggers(list(scan.items()), lambda times: sorted([*times, 3500]))
    settings: dict[str, Any] = {"phases": 10, "gating": "prospective", "phase_ms": 70.0}
    plain, _ = run(scan, list(scan.items()), **settings)
    ignored, told = run(scan, items, **settings)
    np.testing.assert_array_equal(ignored.headers, plain.headers)
    assert "too short for a beat" in told.warnings[0]
    taken, _ = run(scan, items, **settings, implausible="keep")
    times = since_start_ms(taken)
    assert taken.headers["idx"]["phase"][times >= 3500][0] == 0


def test_a_heart_that_becomes_faster_is_followed() -> None:
    scan = real_time(repetitions=120)
    items = change_triggers(
        list(scan.items()), lambda times: [t for t in times if t < 4000] + list(range(4000, 14000, 450))
    )
    readouts, told = run(scan, items, phases=4)
    assert 1 <= len(told.warnings) <= 6
    assert (since_start_ms(readouts) > 8000).sum() > 1000


def test_an_ecg_that_stops() -> None:
    """What came before is sorted; the rest is no beat."""
    scan = real_time(repetitions=80)
    items = change_triggers(list(scan.items()), lambda times: [t for t in times if t < 4000])
    readouts, _ = run(scan, items, phases=8)
    times = since_start_ms(readouts)
    assert times.max() < 3200 + BEAT_MS
    assert (times < 3200).sum() == 640
    stopped = [item for item in items if isinstance(item, Readouts) or int(item.header["scan_counter"]) < 40]
    again, _ = run(scan, stopped, phases=8)
    np.testing.assert_array_equal(again.headers, readouts.headers)
    pro, _ = run(scan, stopped, phases=8, gating="prospective", phase_ms=50.0)
    assert since_start_ms(pro).max() < 3600


@pytest.mark.parametrize("block", [1, 500])
@pytest.mark.parametrize("change", [lambda _: [], lambda times: [t for t in times if t > 3000]])
def test_without_triggers_readouts_pass_as_they_came(
    change: Callable[[list[int]], list[int]], block: int
) -> None:
    scan = real_time()
    items = change_triggers(list(scan.items(block)), change)
    readouts, told = run(scan, items)
    (expected,) = joined([item for item in items if isinstance(item, Readouts)])
    assert isinstance(expected, Readouts)
    np.testing.assert_array_equal(readouts.headers, expected.headers)
    (warning,) = told.warnings
    assert "not sorted by the phase of the heart: for 2 s no trigger came (ECG)" in warning
    assert told.encoding().limit("repetition").n == 50


def test_short_scan_without_a_trigger() -> None:
    scan = real_time(repetitions=3)
    readouts, told = run(scan, change_triggers(list(scan.items()), lambda _: []))
    assert len(readouts) == 72
    assert "no trigger came (ECG)" in told.warnings[0]


def test_lines_before_the_first_trigger_are_left_out() -> None:
    scan = real_time()
    readouts, told = run(scan, change_triggers(list(scan.items()), lambda times: times[1:]), phases=8)
    assert since_start_ms(readouts).min() >= BEAT_MS - TICK_MS
    assert told.warnings == []


def test_waveform_by_level() -> None:
    """The ECG itself instead of marks: R waves rise above everything else."""
    scan = real_time()
    marks, _ = run(scan, list(scan.items()), phases=8)
    rises, told = run(scan, list(scan.items()), phases=8, channel=0, threshold=2800)
    assert told.warnings == []
    # An R wave rises a little before its peak.
    n = min(len(marks), len(rises))
    assert (marks.headers["idx"]["phase"][-n:] == rises.headers["idx"]["phase"][-n:]).mean() > 0.85


def test_noise_and_separate_calibration_pass() -> None:
    scan = real_time(
        noise=NoiseConfig(readouts=8),
        sampling=SamplingConfig(acceleration=(2, 1), acs=(8, 0), acs_mode="separate"),
    )
    stage = SortByCardiacPhase(phases=8)
    stage.open(Scan.from_xml(scan.header_xml))
    out = [r for item in scan.items() for r in stage.process(item)] + list(stage.finish(ScanEnd()))
    headers = np.concatenate([item.headers for item in out if isinstance(item, Readouts)])
    assert flagged(headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT).sum() == 8
    calibration = flagged(headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION)
    assert calibration.sum() == 8
    assert (headers["scan_counter"][:16] == np.arange(16)).all()


def test_a_film_of_one_beat_from_many(reconstruct_film: Any) -> None:
    """Lines of a real-time scan, sorted into a beat: what gated imaging sees."""
    images, truth = reconstruct_film
    assert sorted(int(image.header["phase"]) for image in images) == list(range(8))
    errors = np.array(
        [
            [np.linalg.norm(image.data[0].numpy() - one) / np.linalg.norm(one) for one in truth]
            for image in sorted(images, key=lambda image: int(image.header["phase"]))
        ]
    )
    by_shift = [np.mean([errors[phase, (phase + shift) % 8] for phase in range(8)]) for shift in range(8)]
    assert by_shift[0] < 0.1
    assert int(np.argmin(by_shift)) in (0, 1)  # a phase shows its middle, the truth its beginning


@pytest.fixture
def reconstruct_film() -> Any:
    from scanside import Context
    from scanside.execution import execute

    scan = real_time(repetitions=100, sampling=SamplingConfig(pattern="golden", acceleration=(4, 1)))
    gated = simulate(
        scan.config.model_copy(update={"dynamics": DynamicsConfig(phases=8), "sampling": SamplingConfig()})
    )
    document = {
        "name": "gated",
        "stages": [
            {"cardiac-phases": {"phases": 8}},
            "accumulate",
            {"window": {"along": "phase", "size": 3, "look_ahead": 1, "cyclic": True}},
            "view-sharing",
            "fourier",
            "finish",
        ],
    }
    pipeline = Pipeline.from_config(document)
    pipeline.prepare(Context(device="cpu"))
    images: list[Any] = []
    with pipeline.open(Scan.from_xml(scan.header_xml)) as opened:
        execute(opened, scan.items(), images.append)
    shading = np.linalg.norm(gated.truth.maps[0], axis=0)
    truth = [np.abs(gated.truth.image(phase=phase)) * shading for phase in range(8)]
    return [image for image in images if hasattr(image, "meta")], truth


def test_settings_that_cannot_be() -> None:
    with pytest.raises(StageConfigError, match="prospective gating needs phase_ms"):
        SortByCardiacPhase(gating="prospective")
    with pytest.raises(StageConfigError, match="must be below longest_ms"):
        SortByCardiacPhase(shortest_ms=3000)


@pytest.mark.parametrize("stamp", [0, 40_000_000])
@pytest.mark.parametrize("source", ["ecg", "time-stamps"])
def test_readouts_that_are_no_lines_tell_no_time(source: str, stamp: int) -> None:
    """Noise and prescans come long before, or have stamps that mean nothing: beats and phases stay what they are."""
    scan = real_time()
    items = list(scan.items(7))
    expected, _ = run(scan, items, phases=8, source=source)
    first = next(item for item in items if isinstance(item, Readouts))
    other = first.copy()
    other.headers["flags"] = int(AcquisitionFlag.NAVIGATION_DATA)
    other.headers["acquisition_time_stamp"] = stamp
    other.headers["physiology_time_stamp"] = 7
    mixed = [other]
    for i, item in enumerate(items):
        mixed += [item, other] if i % 10 == 5 else [item]
    found, told = run(scan, mixed, phases=8, source=source)
    lines = ~flagged(found.headers["flags"], AcquisitionFlag.NAVIGATION_DATA)
    assert (found.headers["idx"]["phase"][lines] == expected.headers["idx"]["phase"]).all()
    assert told.warnings == []
