"""Frames joined into windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Pipeline, Scan, ScanEnd
from scanside.errors import ConfigError, NonFiniteError, StageConfigError
from scanside.execution import execute
from scanside.items import Calibration, KSpace
from scanside.mrd.header import Limit
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
from scanside.stages.coil_compression import CompressCoils
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.fourier import Fourier
from scanside.stages.window import JoinFrames
from scanside.testing import small_kspace, small_scan
from scanside.testing.compare import difference

Windows = list[KSpace]


def frame(number: int, along: str = "repetition", **counters: int) -> KSpace:
    """A frame whose samples are all its number, with every second line."""
    kspace = small_kspace()
    headers = kspace.headers.copy()
    headers["idx"][along] = number
    return kspace.replace(
        data=torch.full_like(kspace.data, number) * kspace.mask[:, :, None],
        headers=headers,
        counters={**kspace.counters, along: number, **counters},
    )


def limited(kspace: KSpace, counter: str, n: int) -> KSpace:
    limits = {**kspace.encoding.limits, counter: Limit(0, n - 1, 0)}
    return kspace.replace(encoding=replace(kspace.encoding, limits=limits))


class Film:
    """Sends frames to the stage one by one, and keeps what came after which."""

    def __init__(self, **settings: Any) -> None:
        self.stage = JoinFrames(**settings)
        self.scan = small_scan()
        self.stage.open(self.scan)
        self.along = self.stage.config.along

    def send(self, *frames: KSpace) -> list[tuple[list[int], list[int]]]:
        return [self.told(window) for one in frames for window in self.stage.process(one)]

    def end(self, end: ScanEnd | None = None) -> list[tuple[list[int], list[int]]]:
        return [self.told(window) for window in self.stage.finish(end or ScanEnd())]

    def told(self, window: KSpace) -> tuple[list[int], list[int]]:
        """Frames of a window by their samples, and those whose images it gives."""
        assert window.other == (self.along,)
        assert self.along not in window.counters
        assert window.wanted is not None
        frames = window.data[:, 0, 0, 12, 0].real.int().tolist()
        assert window.headers["idx"][self.along][:, 0, 12].tolist() == frames
        assert window.meta["ScansideWindow"] == [self.along, *map(str, frames)]
        return frames, [frames[i] for i in window.wanted]


def test_windows_leave_as_soon_as_they_are_full() -> None:
    film = Film(size=5, stride=1, look_ahead=1)
    assert film.send(*map(frame, range(4))) == []
    assert film.send(frame(4)) == [([0, 1, 2, 3, 4], [0, 1, 2, 3])]
    assert film.send(frame(5)) == [([1, 2, 3, 4, 5], [4])]
    assert film.send(frame(6)) == [([2, 3, 4, 5, 6], [5])]
    assert film.end() == [([2, 3, 4, 5, 6], [6])]
    assert film.scan.warnings == []


def test_stride_and_the_rest() -> None:
    film = Film(size=5, stride=3, look_ahead=1)
    assert film.send(*map(frame, range(9))) == [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3]),
        ([3, 4, 5, 6, 7], [4, 5, 6]),
    ]
    assert film.end() == [([4, 5, 6, 7, 8], [7, 8])]


@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "look_ahead"), [(1, 1, 0), (4, 2, 1), (5, 1, 4), (5, 5, 0), (6, 4, 2)]
)
@pytest.mark.parametrize("n", [1, 3, 5, 6, 11, 12])
def test_every_frame_becomes_an_image_once(
    n: int, size: int, stride: int, look_ahead: int, cyclic: bool
) -> None:
    film = Film(size=size, stride=stride, look_ahead=look_ahead, cyclic=cyclic)
    windows = film.send(*map(frame, range(n))) + film.end()
    assert sorted(number for _, wanted in windows for number in wanted) == list(range(n))
    assert {len(frames) for frames, _ in windows} == {size}
    assert bool(film.scan.warnings) == (n < size)


def test_memory_stays_flat() -> None:
    film = Film(size=3, stride=1, look_ahead=1)
    for number in range(50):
        film.send(frame(number))
    (held,) = film.stage._films.values()
    assert len(held.frames) == 3


def test_a_beat_closes() -> None:
    film = Film(along="phase", size=5, stride=1, look_ahead=2, cyclic=True)
    phases = [limited(frame(i, "phase"), "phase", 6) for i in range(6)]
    assert film.send(*phases[:5]) == [([0, 1, 2, 3, 4], [2])]
    # The last phase that the header announces ends the beat: nobody waits for the end of the scan.
    assert film.send(phases[5]) == [
        ([1, 2, 3, 4, 5], [3]),
        ([2, 3, 4, 5, 0], [4]),
        ([3, 4, 5, 0, 1], [5]),
        ([4, 5, 0, 1, 2], [0]),
        ([5, 0, 1, 2, 3], [1]),
    ]
    assert film.end() == []
    assert film.scan.warnings == []


def test_a_beat_that_the_scan_cuts_short_does_not_close() -> None:
    film = Film(along="phase", size=5, stride=1, look_ahead=2, cyclic=True)
    windows = film.send(*(frame(i, "phase") for i in range(6)))
    windows += film.end(ScanEnd(complete=False, reason="the host vanished"))
    assert windows == [
        ([0, 1, 2, 3, 4], [2]),
        ([1, 2, 3, 4, 5], [3]),
        ([0, 1, 2, 3, 4], [0, 1]),
        ([1, 2, 3, 4, 5], [4, 5]),
    ]
    assert film.scan.warnings == ["the film ends early, with slice 0, phase 5: the host vanished"]


def test_the_announced_last_frame_ends_a_series() -> None:
    film = Film(size=3, stride=1, look_ahead=1)
    frames = [limited(frame(i), "repetition", 4) for i in range(4)]
    assert film.send(*frames)[-1] == ([1, 2, 3], [3])
    assert film.end() == []


def test_slices_are_films_of_their_own() -> None:
    film = Film(size=3, stride=1, look_ahead=0)
    sent = [film.send(frame(i, slice=s)) for i in range(3) for s in (0, 1)]
    assert [len(windows) for windows in sent] == [0, 0, 0, 0, 1, 1]


def test_beats_that_lack_a_phase_end_with_the_next_repetition() -> None:
    film = Film(along="phase", size=3, stride=1, look_ahead=0)
    film.send(*(limited(frame(i, "phase", repetition=0), "phase", 5) for i in range(4)))
    assert len(film.stage._films) == 1
    film.send(limited(frame(0, "phase", repetition=1), "phase", 5))
    assert len(film.stage._films) == 1


def test_scan_that_stops_in_mid_window() -> None:
    film = Film(size=5, stride=2, look_ahead=2)
    windows = film.send(*map(frame, range(6)))
    assert windows == [([0, 1, 2, 3, 4], [0, 1, 2])]
    assert film.end(ScanEnd(complete=False)) == [([1, 2, 3, 4, 5], [3, 4, 5])]
    assert film.scan.warnings == ["the film ends early, with slice 0, repetition 5: the scan ended early"]


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([0, 1, 2, 4, 5, 6], ["frames are missing: repetition 3 did not come"]),
        ([0, 1, 5, 6, 7, 8], ["frames are missing: repetition 2 to 4 did not come"]),
        ([0, 1, 2, 2, 3, 4], ["repetition 2 came after 2: frames stay in the order"]),
        (
            [0, 2, 1, 3, 4, 5],
            ["repetition 1 did not come", "repetition 1 came after 2", "repetition 2 did not"],
        ),
        ([65533, 65534, 65535, 0, 1, 2], []),
    ],
)
def test_missing_and_repeated_frames(numbers: list[int], told: list[str]) -> None:
    film = Film(size=3, stride=1, look_ahead=1)
    windows = film.send(*map(frame, numbers)) + film.end()
    assert [number for _, wanted in windows for number in wanted] == numbers
    assert len(film.scan.warnings) == len(told)
    assert all(text in warning for text, warning in zip(told, film.scan.warnings, strict=True))


def test_many_flaws_are_told_a_few_times() -> None:
    film = Film(size=2, stride=1, look_ahead=0)
    film.send(*map(frame, range(0, 100, 2)))
    assert len(film.scan.warnings) == 9
    assert film.scan.warnings[-1] == "more is wrong with the films of this scan than is told here"


def test_changing_matrix_begins_a_new_film() -> None:
    film = Film(size=3, stride=1, look_ahead=1)

    def wider(number: int) -> KSpace:
        kspace = frame(number)
        return kspace.replace(data=torch.nn.functional.pad(kspace.data, (0, 8)))

    assert film.send(*map(frame, range(4))) == [([0, 1, 2], [0, 1]), ([1, 2, 3], [2])]
    assert film.send(wider(4)) == [([1, 2, 3], [3])]
    assert film.send(wider(5), wider(6)) == [([4, 5, 6], [4, 5])]
    assert film.end() == [([4, 5, 6], [6])]
    (warning,) = film.scan.warnings
    assert "repetition 4: the k-space changes from (4, 1, 24, 24) to (4, 1, 24, 32)" in warning
    other = Film(size=3, stride=1, look_ahead=1)
    other.send(frame(0), frame(1).replace(field_of_view_mm=(200.0, 240.0, 5.0)))
    assert "the field of view changes" in other.scan.warnings[0]


def test_window_longer_than_the_film_is_filled() -> None:
    film = Film(size=7, stride=1, look_ahead=2)
    assert film.send(*map(frame, range(3))) == []
    assert film.end() == [([0, 1, 2, 1, 0, 1, 2], [0, 1, 2])]
    assert "the film of 3 frames that ends with slice 0, repetition 2 is shorter" in film.scan.warnings[0]
    single = Film(size=3, stride=1, look_ahead=1)
    assert single.send(frame(8)) + single.end() == [([8, 8, 8], [8])]
    beat = Film(size=4, stride=1, look_ahead=1, cyclic=True)
    assert beat.send(*map(frame, range(2))) + beat.end() == [([0, 1, 0, 1], [0]), ([1, 0, 1, 0], [1])]


def test_what_is_not_complete_is_told_of_all_images_that_it_is_in() -> None:
    stage = JoinFrames(size=3, stride=1, look_ahead=1)
    stage.open(small_scan())
    frames = [frame(i) for i in range(6)]
    frames[1] = frames[1].replace(incomplete="a line was lost")
    windows = [window for one in frames for window in stage.process(one)]
    assert [window.incomplete for window in windows] == ["a line was lost", "a line was lost", None, None]


def test_images_of_wanted_frames_only() -> None:
    film = Film(size=3, look_ahead=1)
    kspaces = [window for i in range(5) for window in film.stage.process(frame(i))]
    kspaces += film.stage.finish(ScanEnd())
    stage = Fourier()
    stage.open(small_scan())
    images = [image for kspace in kspaces for image in stage.process(kspace)]
    assert [int(image.header["repetition"]) for image in images] == list(range(5))
    for number, image in enumerate(images):
        (alone,) = stage.process(frame(number))
        assert torch.equal(image.data, alone.data)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(
        StageConfigError, match="a window of 3 frames cannot give 2 images with 2 frames behind them"
    ):
        JoinFrames(size=3, stride=2, look_ahead=2)


def test_frames_that_are_together_already_are_refused() -> None:
    film = Film()
    kspace = frame(0)
    together = kspace.replace(
        data=kspace.data[None], mask=kspace.mask[None], headers=kspace.headers[None], other=("repetition",)
    )
    with pytest.raises(ConfigError, match=r"leave repetition out of accumulate\.together"):
        film.send(together)


def test_compression_before_the_window_is_refused() -> None:
    film = Film(size=3)
    stage = CompressCoils(n_coils=2)
    stage.open(small_scan())
    with pytest.raises(ConfigError, match="put 'coil-compression' behind 'window'"):
        film.send(*(item for i in range(2) for item in stage.process(small_kspace(repetition=i))))  # type: ignore[arg-type]


SERIES = SamplingConfig(pattern="kt", acceleration=(3, 1))


def series(accumulated: Any, sampling: SamplingConfig = SERIES, repetitions: int = 6) -> list[KSpace]:
    """Undersampled frames of an object that keeps still."""
    _, items, _ = accumulated(
        sampling=sampling,
        dynamics=DynamicsConfig(repetitions=repetitions, beat="still"),
        phantom=PhantomConfig(kind="cardiac"),
    )
    frames = [item for item in items if isinstance(item, KSpace)]
    # In front of 'window', accumulate leaves it to that stage to calibrate frames that have no lines for it.
    return frames if any(sampling.acs) else [frame.replace(reference=None) for frame in frames]


def windows_of(frames: Sequence[Any], **settings: Any) -> Windows:
    stage = JoinFrames(**{"size": 4, "look_ahead": 1, **settings})
    stage.open(small_scan())
    return [window for one in frames for window in stage.process(one)]


def test_reference_is_the_average_where_it_is_fully_sampled(accumulated: Any) -> None:
    frames = series(accumulated)
    _, whole, _ = accumulated(
        dynamics=DynamicsConfig(beat="still"),
        phantom=PhantomConfig(kind="cardiac"),
        sampling=SamplingConfig(),
    )
    windows = windows_of(frames)
    reference = windows[0].reference
    assert reference is not None
    assert bool(reference.mask.all())
    assert reference.data.shape == whole[0].data.shape
    torch.testing.assert_close(reference.data, whole[0].data, rtol=1e-5, atol=1e-5)
    assert bool((reference.headers["version"] > 0).all())
    # One serves all windows, unless each is to have its own.
    assert all(window.reference is reference for window in windows)
    each = windows_of(frames, calibrate="each")
    assert each[1].reference is not each[0].reference


def test_own_calibration_lines_are_kept_where_they_are_more(accumulated: Any) -> None:
    few = SamplingConfig(
        pattern="variable-density", acceleration=(3, 1), acs=(6, 0), vary=True, density_power=1
    )
    (window, *_) = windows_of(series(accumulated, few))
    assert window.reference is not None
    assert window.reference.mask.shape[1] > 6
    apart = few.model_copy(update={"acs_mode": "separate", "acs": (30, 0), "acceleration": (6, 1)})
    frames = series(accumulated, apart)
    (window, *_) = windows_of(frames)
    assert window.reference is frames[0].reference


def test_maps_from_the_average_are_those_of_the_whole(accumulated: Any) -> None:
    """Coil maps of frames that have no calibration lines."""
    frames = series(accumulated)
    scan, whole, _ = accumulated(
        dynamics=DynamicsConfig(beat="still"),
        phantom=PhantomConfig(kind="cardiac"),
        sampling=SamplingConfig(),
    )
    stage = CoilMaps()
    stage.open(Scan.from_xml(scan.header_xml))
    (of_window,) = stage.process(windows_of(frames)[0])
    stage.open(Scan.from_xml(scan.header_xml))
    (of_whole,) = stage.process(whole[0])
    assert of_window.coil_maps is not None
    assert of_whole.coil_maps is not None
    assert of_window.coil_maps.shape == of_whole.coil_maps.shape
    assert float((of_window.coil_maps - of_whole.coil_maps).abs().max()) < 1e-3


def test_samples_that_are_no_numbers_are_found_in_their_frame(accumulated: Any) -> None:
    frames = series(accumulated)
    line = int(np.flatnonzero(frames[2].headers["version"][0])[0])
    frames[2].data[0, 0, line, 0] = torch.nan
    counter = int(frames[2].headers["scan_counter"][0, line])
    with pytest.raises(NonFiniteError, match=f"scan counter {counter} "):
        windows_of(frames)


def test_calibration_of_single_frames_is_not_handed_on() -> None:
    kspace = small_kspace()
    film = Film(size=2, look_ahead=0)
    assert list(film.stage.process(Calibration(kspace))) == []


def test_blocks_do_not_matter() -> None:
    scan = simulate(
        ScanConfig(
            phantom=PhantomConfig(kind="cardiac"),
            coils=CoilConfig(n_coils=2),
            geometry=GeometryConfig(matrix=(24, 24, 1)),
            sampling=SamplingConfig(pattern="golden", acceleration=(3, 1)),
            dynamics=DynamicsConfig(repetitions=5, beat="time"),
        )
    )
    document = {"name": "t", "stages": ["accumulate", {"window": {"size": 3, "look_ahead": 1}}, "fourier"]}
    pipeline = Pipeline.from_config(document)
    pipeline.prepare(Context(device="cpu"))
    made: list[list[Any]] = []
    for block in (1, 7, 1000):
        images: list[Any] = []
        with pipeline.open(Scan.from_xml(scan.header_xml)) as run:
            execute(run, scan.items(block), images.append)
        made.append(images)
    assert [int(image.header["repetition"]) for image in made[0]] == list(range(5))
    assert difference(made[1], made[0]) is None
    assert difference(made[2], made[0]) is None
