"""Echo-planar scans through the pipeline against their truth, and what their headers and navigators can get wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside import Context, Image, Pipeline, Readouts, Scan, ScanEnd
from scanside.errors import StageError
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    NoiseConfig,
    ReferenceConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TimingConfig,
    simulate,
)
from scanside.stages.epi import EchoPlanar

N = 96
R2 = {"acceleration": (2, 1), "acs": (24, 0), "acs_mode": "separate"}
UNCORRECTED = {"epi.phase": "none", "epi.b0": "none"}
REVERSE = np.uint64(int(AcquisitionFlag.REVERSE))
PHASECORR = AcquisitionFlag.PHASECORR_DATA

Change = Callable[[Readouts], Readouts]


def scan_of(
    sampling: dict[str, Any] | None = None,
    dynamics: dict[str, Any] | None = None,
    *,
    std: float = 0.001,
    n_slices: int = 1,
    geometry: dict[str, Any] | None = None,
    **epi: Any,
) -> SimulatedScan:
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(
                **{"matrix": (N, N, 1), "offset_mm": (0, 0, 20), "n_slices": n_slices, **(geometry or {})}
            ),
            coils=CoilConfig(n_coils=8),
            # Coils that are all alike in noise: images are the truth times the coils' root sum of squares.
            noise=NoiseConfig(std=std, spread=0.0, neighbour_correlation=0.0),
            timing=TimingConfig(tr_ms=1.0),
            sampling=SamplingConfig(**(sampling or {}), epi=EchoPlanarConfig(**epi)),
            dynamics=DynamicsConfig(**(dynamics or {})),
        )
    )


def images_of(
    simulated: SimulatedScan,
    settings: dict[str, Any] | None = None,
    *,
    name: str = "epi",
    change: Change = lambda block: block,
    header: Callable[[str], str] = lambda xml: xml,
    block: int = 256,
) -> tuple[list[Image], Scan]:
    pipeline = Pipeline.load(name, settings)
    pipeline.prepare(Context(device="cpu"))
    scan = Scan.from_xml(header(simulated.header_xml.decode()))
    made: list[Image] = []
    with pipeline.open(scan) as run:
        for item in simulated.items(block):
            item = change(item.copy()) if isinstance(item, Readouts) else item
            made += [out for out in run.push(item) if isinstance(out, Image)]
        made += [out for out in run.finish(ScanEnd()) if isinstance(out, Image)]
    return made, scan


def pixels(image: Image) -> npt.NDArray[Any]:
    return np.abs(np.asarray(image.data[0]))


def error(image: Image, simulated: SimulatedScan) -> float:
    """NRMSE in the object, after the best factor, against the truth as coils of length 1 show it."""
    number = int(image.header["slice"])
    maps = np.sqrt((np.abs(simulated.truth.maps[number]) ** 2).sum(0))
    truth, mask = np.abs(simulated.truth.image(number)) * maps, simulated.truth.mask[number]
    a, b = pixels(image)[mask], truth[mask]
    return float(np.linalg.norm(a * (a @ b) / (a @ a) - b) / np.linalg.norm(b))


def ghost(image: Image, simulated: SimulatedScan) -> float:
    """Mean signal above that of the corners in all that is outside the object, by the mean in it."""
    inside = simulated.truth.mask[int(image.header["slice"])][0]
    near = np.logical_or.reduce([np.roll(inside, (y, x), (0, 1)) for y in range(-5, 6) for x in range(-5, 6)])
    found = pixels(image)[0]
    columns = inside.any(axis=0)[None] & ~near
    return float((found[columns].mean() - found[:, ~near.any(axis=0)].mean()) / found[inside].mean())


def told_level(image: Image) -> float:
    return float(image.meta["ScansideGhost"][0])


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "constant": ({}, {}, {"odd_even_rad": (0.5,)}),
    "constant without ramps": ({}, {}, {"odd_even_rad": (0.5,), "ramp_us": 0}),
    "linear": ({}, {}, {"odd_even_rad": (0.2, 3.0)}),
    "delay": ({}, {}, {"delay_us": 2.0}),
    "delay without ramps": ({}, {}, {"delay_us": 2.5, "ramp_us": 0}),
    "more samples on ramps": ({}, {}, {"odd_even_rad": (0.5, 1.0), "samples": 300, "ramp_us": 240}),
    "off-resonance": ({}, {}, {"odd_even_rad": (0.5,), "b0_hz": (20.0, 0.0)}),
    "partial Fourier": ({"partial_fourier": (0.75, 1.0)}, {}, {"odd_even_rad": (0.6, 2.0)}),
    "R = 2": (R2, {}, {"odd_even_rad": (1.2, -2.0), "delay_us": 1.0}),
    "two shots": ({}, {"segments": 2}, {"odd_even_rad": (0.5, -2.0)}),
    "averages": ({}, {"averages": 2}, {"odd_even_rad": (0.5,)}),
}
WITHOUT_NAVIGATORS = [name for name in CASES if name not in ("off-resonance",)]


@pytest.mark.parametrize("name", CASES)
def test_images_are_the_object_without_ghosts(name: str) -> None:
    sampling, dynamics, epi = CASES[name]
    simulated = scan_of(sampling, dynamics, **epi)
    (image,), scan = images_of(simulated)
    assert not scan.warnings
    assert error(image, simulated) < 0.02
    assert told_level(image) < 0.01
    assert ghost(image, simulated) < 0.01
    (left,), scan = images_of(simulated, UNCORRECTED)
    assert max(told_level(left), ghost(left, simulated)) > 0.1
    assert error(left, simulated) > 0.05
    assert scan.metrics["ghost.above_limit"] == 1
    assert "Nyquist ghosts reach" in scan.warnings[0]


def test_polynomial_phases() -> None:
    simulated = scan_of(odd_even_rad=(0.5, -2.0, 5.0, -6.0))
    (image,), _ = images_of(simulated)
    assert told_level(image) < 0.01
    assert ghost(image, simulated) < 0.01
    for model, least in (("linear", 0.02), ("mean", 0.04), ("none", 0.1)):
        (left,), _ = images_of(simulated, {"epi.phase": model})
        assert max(told_level(left), ghost(left, simulated)) > least


@pytest.mark.parametrize("name", WITHOUT_NAVIGATORS)
def test_least_entropy_takes_the_place_of_navigators(name: str) -> None:
    sampling, dynamics, epi = CASES[name]
    simulated = scan_of(sampling, dynamics, navigators=0, **epi)
    (image,), scan = images_of(simulated)
    assert scan.warnings == [
        "slice 0 of encoding space 0: no navigators came before its lines; the phase between forward and reversed "
        "echoes is estimated from the lines themselves (least entropy: a constant within ±90° and a slope)"
    ]
    assert image.meta["ScansideWarning"] == scan.warnings
    assert error(image, simulated) < 0.02
    assert told_level(image) < 0.01
    assert ghost(image, simulated) < 0.01


def test_navigators_take_off_resonance_out_of_the_image() -> None:
    """Without, the phase from echo to echo moves the object along phase encoding."""
    simulated = scan_of(b0_hz=(30.0, 0.0), odd_even_rad=(0.4,))
    (image,), _ = images_of(simulated)
    (moved,), _ = images_of(simulated, {"epi.b0": "none"})
    assert error(image, simulated) < 0.02 < 0.3 < error(moved, simulated)


@pytest.mark.parametrize("block", [256, 1])
def test_shots_that_share_navigators_begin_anew(block: int) -> None:
    simulated = scan_of({}, {"segments": 2}, b0_hz=(20.0, 0.0), odd_even_rad=(0.4,))

    def of_first_shot(readouts: Readouts) -> Readouts:
        headers = readouts.headers
        return readouts.select(~(flagged(headers["flags"], PHASECORR) & (headers["idx"]["segment"] == 1)))

    (image,), _ = images_of(simulated, change=of_first_shot, block=block)
    assert error(image, simulated) < 0.02


def test_off_resonance_that_changes_along_the_readout() -> None:
    simulated = scan_of(b0_hz=(0.0, 60.0))
    errors = [error(images_of(simulated, {"epi.b0": model})[0][0], simulated) for model in ("linear", "mean")]
    assert errors[0] < 0.03 < 0.2 < errors[1]


def test_each_shot_is_corrected_by_its_own_navigators() -> None:
    """Off-resonance that drifts from repetition to repetition, in slices that take turns."""
    order = ("average", "set", "contrast", "phase", "segment", "slice", "line")
    dynamics = {"repetitions": 3, "segments": 2, "order": order}
    simulated = scan_of({}, dynamics, n_slices=2, drift_hz_s=20.0, odd_even_rad=(0.5, 1.0))
    made, scan = images_of(simulated)
    assert not scan.warnings
    assert len(made) == 6
    assert max(error(image, simulated) for image in made) < 0.035
    assert max(map(told_level, made)) < 0.01
    left, _ = images_of(simulated, {"epi.b0": "none"})
    assert max(error(image, simulated) for image in left) > 0.2

    def of_first_repetition(block: Readouts) -> Readouts:
        late = flagged(block.headers["flags"], PHASECORR) & (block.headers["idx"]["repetition"] > 0)
        return block.select(~late)

    late, _ = images_of(simulated, change=of_first_repetition)
    assert max(error(image, simulated) for image in late) > 0.1


@pytest.mark.parametrize("navigators", [0, 3])
def test_blocks_change_nothing(navigators: int) -> None:
    simulated = scan_of(R2, {"repetitions": 2}, n_slices=2, navigators=navigators, odd_even_rad=(0.5, 1.0))
    whole, parts = (images_of(simulated, block=block)[0] for block in (256, 7))
    assert len(whole) == len(parts) == 4
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() < 1e-5 * pixels(one).max()


def outputs(
    simulated: SimulatedScan, header: str | None = None, **settings: Any
) -> tuple[list[Readouts], Scan]:
    """What the stage alone gives."""
    stage = EchoPlanar(**settings)
    scan = Scan.from_xml(header or simulated.header_xml)
    stage.prepare(Context(device="cpu"))
    stage.open(scan)
    given = [out for item in simulated.items() if isinstance(item, Readouts) for out in stage.process(item)]
    return [*given, *stage.finish(ScanEnd())], scan


@pytest.mark.parametrize("navigators", [0, 3])
def test_readouts_come_in_order_and_are_plain_lines(navigators: int) -> None:
    simulated = scan_of({}, {"segments": 2}, n_slices=2, navigators=navigators)
    given, _ = outputs(simulated)
    headers = np.concatenate([block.headers for block in given])
    received = np.concatenate([item.headers for item in simulated.items() if isinstance(item, Readouts)])
    assert headers["scan_counter"].tolist() == received["scan_counter"].tolist()
    assert (headers["idx"] == received["idx"]).all()
    lines = ~flagged(headers["flags"], PHASECORR, AcquisitionFlag.NOISE_MEASUREMENT)
    assert not flagged(headers["flags"][lines], AcquisitionFlag.REVERSE).any()
    assert flagged(received["flags"][lines], AcquisitionFlag.REVERSE).any()
    assert set(headers["number_of_samples"][lines].tolist()) == {2 * N}
    assert set(headers["center_sample"][lines].tolist()) == {N}


def test_another_encoding_space_passes_unchanged() -> None:
    """A FLASH reference is no echo train."""
    simulated = scan_of(odd_even_rad=(0.5,))
    xml = simulated.header_xml.decode()
    first = xml[xml.index("<encoding>") : xml.index("</encoding>") + len("</encoding>")]
    start, end = (
        first.index("<trajectory>"),
        first.index("</trajectoryDescription>") + len("</trajectoryDescription>"),
    )
    second = first[:start] + "<trajectory>cartesian</trajectory>" + first[end:]
    scan = Scan.from_xml(xml.replace(first, first + second))
    stage = EchoPlanar()
    stage.open(scan)
    for item in simulated.items():
        assert isinstance(item, Readouts)
        item.headers["encoding_space_ref"] = 1
        passed = list(stage.process(item))
        assert np.array_equal(np.concatenate([one.samples for one in passed]), item.samples)
        assert np.concatenate([one.headers for one in passed]).tobytes() == item.headers.tobytes()
    assert not scan.warnings


def test_directions_stay_apart_and_averages_are_added() -> None:
    """As diffusion-weighted scans have them: all directions of an average, then the next average."""
    dynamics = {"averages": 2, "sets": 3}
    simulated = scan_of({}, dynamics, std=0.02, n_slices=2, drift_hz_s=5.0, odd_even_rad=(0.5, 1.0))
    made, scan = images_of(simulated)
    assert not scan.warnings
    places = [(int(image.header["set"]), int(image.header["slice"])) for image in made]
    assert places == [(set_, slice_) for set_ in range(3) for slice_ in range(2)]
    assert max(map(told_level, made)) < 0.01
    for image in made:
        slice_ = int(image.header["slice"])
        assert np.allclose(image.header["position"], simulated.grid.positions[slice_], atol=1e-3)
    one, _ = images_of(scan_of({}, std=0.02, odd_even_rad=(0.5, 1.0)))
    corner = (..., slice(0, 12), slice(0, 12))
    noise = [float(np.sqrt((pixels(image)[corner] ** 2).mean())) for image in (made[0], one[0])]
    assert noise[0] == pytest.approx(noise[1] / np.sqrt(2), rel=0.1)
    apart, _ = images_of(simulated, {"accumulate.averages": "separate"})
    assert sorted(int(image.header["average"]) for image in apart) == [0] * 6 + [1] * 6


def test_averages_whose_shots_differ_in_phase() -> None:
    """As motion between the pulses of a diffusion weighting has it."""
    simulated = scan_of({}, {"averages": 2}, odd_even_rad=(0.5, 1.0))

    def moved(block: Readouts) -> Readouts:
        block.samples[block.headers["idx"]["average"] == 1] *= np.exp(2.8j)
        return block

    (image,), scan = images_of(simulated, name="epi-averages", change=moved)
    assert not scan.warnings
    assert image.meta["ScansideAverages"] == ["2"]
    assert error(image, simulated) < 0.02
    assert told_level(image) < 0.01
    (joined,), _ = images_of(simulated, change=moved)
    inside = simulated.truth.mask[0]
    assert pixels(joined)[inside].mean() < 0.3 * pixels(image)[inside].mean()


# What can be wrong.


def refused(
    simulated: SimulatedScan, text: str, settings: dict[str, Any] | None = None, **changes: Any
) -> None:
    with pytest.raises(StageError, match=text):
        images_of(simulated, settings, **changes)


def test_no_navigators_where_they_are_required() -> None:
    refused(
        scan_of(navigators=0),
        "slice 0 of encoding space 0: no navigators came before its lines, and epi.navigators is 'required'",
        {"epi.navigators": "required"},
    )


def turned_navigators(block: Readouts) -> Readouts:
    """The second navigator without the flag REVERSE."""
    navigators = np.flatnonzero(flagged(block.headers["flags"], PHASECORR))
    block.headers["flags"][navigators[1:2]] &= ~REVERSE
    return block


def test_navigators_in_the_wrong_order_of_directions() -> None:
    simulated = scan_of(odd_even_rad=(0.5, 1.0))
    text = r"its navigators run \+ \+ \+ \(− for the flag REVERSE\), expected directions in turn"
    refused(simulated, text, {"epi.navigators": "required"}, change=turned_navigators)
    (image,), scan = images_of(simulated, change=turned_navigators)
    assert "expected directions in turn; the phase" in scan.warnings[0]
    assert told_level(image) < 0.01


def slower(block: Readouts) -> Iterator[Readouts]:
    block.headers["sample_time_us"][flagged(block.headers["flags"], PHASECORR)] = 7
    yield block


def shorter(block: Readouts) -> Iterator[Readouts]:
    """Navigators of every second sample."""
    is_navigator = flagged(block.headers["flags"], PHASECORR)
    for navigator in (True, False):
        part = block.select(is_navigator == navigator)
        yield part.with_samples(part.samples[..., ::2].copy()) if navigator else part


@pytest.mark.parametrize(
    ("change", "told"), [(slower, "192 samples of 7 µs"), (shorter, "96 samples of 5 µs")]
)
def test_navigators_of_another_echo_spacing(
    change: Callable[[Readouts], Iterator[Readouts]], told: str
) -> None:
    simulated = scan_of(odd_even_rad=(0.5, 1.0))
    text = (
        f"navigators have {told} from 8 channels, its lines 192 samples of 5 µs from 8 channels: they are of"
    )

    def run(settings: dict[str, Any]) -> tuple[list[Image], Scan]:
        pipeline, scan = Pipeline.load("epi", settings), Scan.from_xml(simulated.header_xml)
        pipeline.prepare(Context(device="cpu"))
        with pipeline.open(scan) as opened:
            items = [
                part for item in simulated.items() if isinstance(item, Readouts) for part in change(item)
            ]
            made = [out for part in items if len(part) for out in opened.push(part)]
            made += list(opened.finish(ScanEnd()))
        return [image for image in made if isinstance(image, Image)], scan

    with pytest.raises(StageError, match=text):
        run({"epi.navigators": "required"})
    (image,), scan = run({})
    assert len(scan.warnings) == 1
    assert text in scan.warnings[0]
    assert told_level(image) < 0.01


def test_off_resonance_without_navigators_is_told() -> None:
    _, scan = images_of(scan_of(navigators=0), {"epi.phase": "none"})
    assert (
        "no navigators came before its lines; the phase from echo to echo is not corrected"
        in scan.warnings[0]
    )


def test_two_navigators_do_not_suffice() -> None:
    def one_less(block: Readouts) -> Readouts:
        return block.select(
            ~(flagged(block.headers["flags"], PHASECORR) & (block.headers["idx"]["user"][:, 0] == 0))
        )

    _, scan = images_of(scan_of(), change=one_less)
    assert "2 navigators came before its lines, expected 3 or more" in scan.warnings[0]


def test_references_of_another_echo_spacing() -> None:
    simulated = scan_of()
    xml = simulated.header_xml.decode()
    first = xml[xml.index("<encoding>") : xml.index("</encoding>") + len("</encoding>")]
    second = first.replace(value_of("echoSpacing", 1000), value_of("echoSpacing", 1200))
    assert second != first
    _, scan = images_of(simulated, header=lambda text: text.replace(first, first + second))
    (text,) = [text for text in scan.warnings if "echo spacings differ" in text]
    assert "1000 µs in encoding space 0, 1200 µs in encoding space 1" in text


def value_of(name: str, value: float) -> str:
    return f"<name>{name}</name>\n    <value>{value}</value>"


def changed(name: str, before: float, after: float) -> Callable[[str], str]:
    def change(xml: str) -> str:
        assert value_of(name, before) in xml
        return xml.replace(value_of(name, before), value_of(name, after))

    return change


@pytest.mark.parametrize(
    ("name", "before", "after", "text"),
    [
        (
            "numSamples",
            192,
            180,
            "tells of 180 samples of a readout .numSamples., that with scan counter .* has 192",
        ),
        (
            "flatTopTime",
            760,
            600,
            "contradicts itself: 192 samples of 5 µs take 960 µs, longer than their gradient",
        ),
        ("flatTopTime", 760, -760, "contradicts itself: .* times cannot be negative"),
        ("rampUpTime", 120, 300, "the gradient takes 1180 µs, longer than the echo spacing of 1000 µs"),
        ("dwellTime", 5.0, 9.0, "contradicts itself: 192 samples of 9 µs take 1728 µs"),
        ("dwellTime", 5.0, 0.0, "contradicts itself: .* there must be samples"),
    ],
)
def test_gradients_that_contradict(name: str, before: float, after: float, text: str) -> None:
    simulated = scan_of()
    refused(simulated, text, header=changed(name, before, after))
    images_of(simulated, {"epi.regridding": "none"}, header=changed(name, before, after))


def test_gradients_without_a_time() -> None:
    def nameless(xml: str) -> str:
        return xml.replace("<name>rampDownTime</name>", "<name>other</name>")

    refused(
        scan_of(), "encoding space 0 has no number rampDownTime: have the converter write it", header=nameless
    )


@pytest.mark.parametrize(
    ("name", "before", "after", "text"),
    [
        ("dwellTime", 5.0, 4.8, "tells of a dwell time of 4.8 µs, readouts of 5 µs: the former is taken"),
        ("acqDelayTime", 20, 80, "acqDelayTime of 80 µs, .* 20 µs are taken, as echoes are balanced"),
    ],
)
def test_times_that_differ_a_little_are_told(name: str, before: float, after: float, text: str) -> None:
    _, scan = images_of(scan_of(), header=changed(name, before, after))
    assert any(re.search(text, told) for told in scan.warnings)


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("SomethingElse", "has the identifier 'SomethingElse', expected 'ConventionalEPI'"),
        (
            None,
            "the header has no trajectoryDescription for encoding space 0: samples are taken for equidistant",
        ),
    ],
)
def test_descriptions_that_say_nothing_are_told_and_nothing_is_regridded(
    identifier: str | None, text: str
) -> None:
    simulated = scan_of(identifier=identifier, odd_even_rad=(0.5,), ramp_us=240)
    (image,), scan = images_of(simulated)
    assert any(text in told for told in scan.warnings)
    assert error(image, simulated) > 0.2
    (known,), _ = images_of(scan_of(odd_even_rad=(0.5,), ramp_us=240))
    assert error(known, simulated) < 0.02


def test_samples_that_are_not_finite_are_refused() -> None:
    def broken(block: Readouts) -> Readouts:
        block.samples[block.headers["scan_counter"] == 50, 2, 7] = np.nan
        return block

    for navigators in (0, 3):
        refused(scan_of(navigators=navigators), "scan counter 50", change=broken)


def test_samples_of_nothing_make_an_empty_image() -> None:
    def silent(block: Readouts) -> Readouts:
        block.samples[~flagged(block.headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)] = 0
        return block

    for navigators in (0, 3):
        (image,), _ = images_of(scan_of(navigators=navigators), change=silent)
        assert not pixels(image).any()
        assert "ScansideGhost" not in image.meta


def test_segments_that_count_directions() -> None:
    """A habit of Siemens: forward echoes are segment 0, reversed ones segment 1."""
    simulated = scan_of({}, {"repetitions": 2}, odd_even_rad=(0.5, 1.0))

    def by_direction(block: Readouts) -> Readouts:
        block.headers["idx"]["segment"] = flagged(block.headers["flags"], AcquisitionFlag.REVERSE)
        return block

    def announced(xml: str) -> str:
        start = xml.index("<segment>")
        return xml[:start] + xml[start:].replace("<maximum>0", "<maximum>1", 1)

    made, scan = images_of(simulated, change=by_direction, header=announced)
    assert not scan.warnings
    assert len(made) == 2
    assert max(error(image, simulated) for image in made) < 0.02


def test_no_reversed_lines_are_told() -> None:
    def forwards(block: Readouts) -> Readouts:
        block.headers["flags"] &= ~REVERSE
        return block

    _, scan = images_of(scan_of(navigators=0), change=forwards)
    assert any("run in one direction by their flags" in text for text in scan.warnings)


def test_a_cartesian_header_is_told() -> None:
    simulated = scan_of(identifier=None, ramp_us=0, navigators=0)
    _, scan = images_of(
        simulated, header=lambda xml: xml.replace("<trajectory>epi<", "<trajectory>cartesian<")
    )
    assert "the header's trajectory is cartesian, so that stage 'epi' leaves the readouts as they are" in (
        "\n".join(scan.warnings)
    )


# Calibration lines of a gradient-echo scan, in an encoding space of their own.


@pytest.mark.parametrize("fov_mm", [None, (300.0, 270.0)])
def test_flash_lines_of_another_matrix_calibrate_echo_trains(fov_mm: tuple[float, float] | None) -> None:
    reference = ReferenceConfig(matrix=(48, 40), fov_mm=fov_mm)
    sampling = {"acceleration": (2, 1), "reference": reference}
    simulated = scan_of(sampling, odd_even_rad=(0.8, -2.0), delay_us=1.0)
    (image,), scan = images_of(simulated)
    assert not scan.warnings
    assert image.meta["ScansideCalibration"] == ["40 calibration lines of encoding space 1 were taken"]
    assert error(image, simulated) < 0.02
    assert told_level(image) < 0.01
    assert ghost(image, simulated) < 0.01


def test_flash_lines_from_elsewhere_are_told() -> None:
    simulated = scan_of({"acceleration": (2, 1), "reference": ReferenceConfig()})

    def moved(block: Readouts) -> Readouts:
        block.headers["position"][block.headers["encoding_space_ref"] == 1] += (0, 0, 30)
        return block

    refused(simulated, "they lie 30.0 mm away from the image", change=moved)


def test_calibration_lines_of_another_sample_time_are_told() -> None:
    def slower_lines(block: Readouts) -> Readouts:
        calibrating = flagged(block.headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION)
        block.headers["sample_time_us"][calibrating] = 6
        return block

    _, scan = images_of(scan_of(R2, navigators=0), change=slower_lines)
    assert any("space 0 have sample times of 6 and of 5 µs" in told for told in scan.warnings)


@pytest.mark.parametrize(
    "geometry",
    [
        {"offset_mm": (40.0, 0.0, 20.0)},
        {"offset_mm": (-25.0, 20.0, 20.0), "in_plane_deg": 70.0, "left_handed": True},
    ],
    ids=["axial", "turned"],
)
def test_ramp_samples_off_the_centre_that_were_demodulated_at_one_frequency(geometry: dict[str, Any]) -> None:
    simulated = scan_of(geometry=geometry, odd_even_rad=(0.5,), ramp_us=240, receiver="one-frequency")
    (image,), scan = images_of(simulated, {"epi.receiver": "one-frequency"})
    assert not scan.warnings
    assert error(image, simulated) < 0.02
    (left,), _ = images_of(simulated)
    assert error(left, simulated) > 0.05


# Dual-polarity GRAPPA.

TWO_DIMENSIONAL: dict[str, Any] = {
    "odd_even_rad": (0.5, 1.0),
    "odd_even_y_rad": (0.0, 2.0, -6.0),
    "both_directions": True,
}
DUAL = {"epi.dual_polarity": True}
ACS = {"acs": (32, 0), "acs_mode": "separate"}


@pytest.mark.parametrize(
    "sampling",
    [
        ACS,
        {**ACS, "acceleration": (2, 1), "partial_fourier": (0.75, 1.0)},
    ],
    ids=["all lines", "R = 2, partial Fourier"],
)
def test_phases_along_phase_encoding_by_references_of_both_directions(sampling: dict[str, Any]) -> None:
    simulated = scan_of(sampling, **TWO_DIMENSIONAL)
    (image,), scan = images_of(simulated, DUAL)
    assert not scan.warnings
    assert error(image, simulated) < 0.025
    assert max(told_level(image), ghost(image, simulated)) < 0.01
    (linear,), _ = images_of(simulated)
    assert max(told_level(linear), ghost(linear, simulated)) > 0.025
    assert error(linear, simulated) > 0.05


def test_dual_polarity_in_small_blocks_and_slices() -> None:
    simulated = scan_of({**ACS, "acceleration": (2, 1)}, {"repetitions": 2}, n_slices=2, **TWO_DIMENSIONAL)
    whole, parts = (images_of(simulated, DUAL, block=block)[0] for block in (256, 7))
    assert len(whole) == len(parts) == 4
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() < 1e-5 * pixels(one).max()


def test_references_of_one_direction_are_told() -> None:
    sampling = {**ACS, "acceleration": (2, 1)}
    simulated = scan_of(sampling, odd_even_rad=(0.5, 1.0))
    (image,), scan = images_of(simulated, DUAL)
    assert "0 adjacent ones came in both directions" in scan.warnings[0]
    assert "epi.dual_polarity has no effect" in scan.warnings[0]
    (linear,), _ = images_of(simulated)
    assert np.array_equal(pixels(image), pixels(linear))


def test_dual_polarity_without_references_or_navigators_is_told() -> None:
    _, scan = images_of(scan_of(odd_even_rad=(0.5,)), DUAL)
    assert [text for text in scan.warnings if "no calibration lines that serve came before" in text]
    _, scan = images_of(scan_of(ACS, navigators=0, odd_even_rad=(0.5,)), DUAL)
    assert [text for text in scan.warnings if "which epi.dual_polarity needs: it has no effect" in text]
