"""Which pipelines can take a scan: what is foretold, and what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from scanside.context import Context
from scanside.errors import MissingExtra, ScansideError
from scanside.inspection import Inspection, inspect_file
from scanside.items import Image
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.header import Limit
from scanside.outline import Outline
from scanside.pipeline import Pipeline, pipeline_names
from scanside.registry import load_stage
from scanside.scan import Scan, ScanEnd
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    MultibandConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)
from scanside.simulate.presets import preset
from scanside.stages.noise_maps import MapNoise
from scanside.stages.noncartesian_engine import RunNonCartesianEngine
from scanside.stages.pics import Pics
from scanside.suitability import Suitability, by_reason, pipelines_for

CLASSICAL = (
    "fft",
    "grappa",
    "snr",
    "sense",
    "spirit",
    "pics",
    "epi",
    "epi-averages",
    "multiband",
    "multiband-epi",
    "radial",
    "radial-realtime",
    "radial-pics",
    "spiral",
    "cine-view-sharing",
)


def _small(sampling: SamplingConfig, **settings: object) -> ScanConfig:
    return ScanConfig(
        phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
        coils=CoilConfig(n_coils=4),
        noise=NoiseConfig(readouts=8),
        sampling=sampling,
        geometry=GeometryConfig(matrix=(32, 32, 1)),
    ).model_copy(update=settings)


def _off_grid(name: str) -> ScanConfig:
    config = preset(name)
    return config.model_copy(
        update={
            "geometry": config.geometry.model_copy(update={"matrix": (48, 48, 1), "n_slices": 1}),
            "coils": CoilConfig(n_coils=4),
        }
    )


def _shifted() -> ScanConfig:
    return ScanConfig(
        phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
        coils=CoilConfig(n_coils=4),
        noise=NoiseConfig(readouts=8),
        sampling=SamplingConfig(acceleration=(2, 2), shift=1, acs=(10, 10)),
        geometry=GeometryConfig(matrix=(20, 20, 20), fov_mm=(240.0, 240.0, 192.0)),
    )


def _multiband() -> ScanConfig:
    config = preset("multiband")
    geometry = {"matrix": (48, 48, 1), "n_slices": 2, "slice_gap_mm": 50.0}
    return config.model_copy(
        update={
            "phantom": PhantomConfig(supersampling=(1, 1, 1)),
            "geometry": config.geometry.model_copy(update=geometry),
            "coils": CoilConfig(n_coils=8),
            "sampling": config.sampling.model_copy(
                update={"acs": (24, 0), "multiband": MultibandConfig(factor=2, shift=2)}
            ),
        }
    )


SCANS = {
    "full": lambda: _small(SamplingConfig()),
    "regular": lambda: _small(SamplingConfig(acceleration=(2, 1), acs=(12, 0))),
    "without calibration": lambda: _small(SamplingConfig(acceleration=(2, 1))),
    "random": lambda: _small(SamplingConfig(pattern="variable-density", acceleration=(2, 1), acs=(12, 0))),
    "film": lambda: _small(
        SamplingConfig(pattern="kt", acceleration=(4, 1)), dynamics=DynamicsConfig(repetitions=8)
    ),
    "radial": lambda: _off_grid("radial"),
    "spiral": lambda: _off_grid("spiral"),
    "epi": lambda: _off_grid("epi"),
    "multiband": _multiband,
    "shifted lattice": _shifted,
}


@dataclass(frozen=True)
class Case:
    """A scan, what is in it, and what is foretold of it."""

    name: str
    scan: SimulatedScan
    found: Inspection
    told: dict[str, Suitability]

    @property
    def outline(self) -> Outline:
        assert self.found.outline is not None
        return self.found.outline


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    @cache
    def case(name: str) -> Case:
        scan = simulate(SCANS[name]())
        found = _inspected(scan, tmp_path_factory.mktemp("scan") / "scan.h5")
        suitable = pipelines_for(found.outline, found.broken, CLASSICAL)
        return Case(name, scan, found, {one.pipeline: one for one in suitable})

    return case


@pytest.fixture(params=SCANS, ids=lambda name: name.replace(" ", "-"))
def scanned(request: pytest.FixtureRequest, case_of: Callable[[str], Case]) -> Case:
    return case_of(request.param)


def _inspected(scan: SimulatedScan, path: Path) -> Inspection:
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return inspect_file(path)


@cache
def _prepared(name: str) -> Pipeline:
    pipeline = Pipeline.load(name)
    pipeline.prepare(Context())
    return pipeline


def _images(name: str, scan: SimulatedScan) -> int:
    with _prepared(name).open(Scan.from_xml(scan.header_xml)) as run:
        made = [one for item in scan.items() for one in run.push(item)]
        made += run.finish(ScanEnd())
    return sum(isinstance(one, Image) for one in made)


def test_what_is_foretold_happens(scanned: Case) -> None:
    for name, told in scanned.told.items():
        refuses = False
        try:
            refuses = _images(name, scanned.scan) == 0
        except ScansideError:
            refuses = True
        assert refuses == (told.verdict == "refuses"), (name, told.refusals)


BEST = {
    "full": "sense",
    "regular": "sense",
    "without calibration": "fft",
    "random": "sense",
    "film": "cine-view-sharing",
    "radial": "radial",
    "spiral": "spiral",
    "epi": "epi",
    "multiband": "multiband",
    "shifted lattice": "sense",
}


def test_the_best_comes_first(scanned: Case) -> None:
    assert next(iter(scanned.told)) == BEST[scanned.name]


def test_reasons_tell_what_was_found(scanned: Case) -> None:
    expected = {
        "regular": ("fft", "lines are missing between the"),
        "without calibration": ("sense", "needs calibration (ACS) lines"),
        "random": ("grappa", "needs a regular lattice"),
        "film": ("radial", "a trajectory of 0 dimensions"),
        "radial": ("grappa", "trajectory; this stage grids Cartesian lines only"),
        "spiral": ("radial", "it is made for radial or goldenangle, and the header's trajectory is spiral"),
        "epi": ("grappa", "these are echo-planar readouts"),
        "multiband": ("sense", "multiband factor 2"),
        "shifted lattice": ("fft", "lines are missing between the"),
        "full": ("cine-view-sharing", "the scan has no film along repetition"),
    }[scanned.name]
    assert expected[1] in "; ".join(scanned.told[expected[0]].reasons)


def test_networks_say_what_they_were_trained_for(case_of: Callable[[str], Case]) -> None:
    (told,) = pipelines_for(case_of("regular").outline, names=["unrolled"])
    assert told.verdict == "doubtful"
    assert "the network 'multicoil-unrolled' was not trained for it: matrix 32, trained for" in told.doubts[0]


def test_a_shifted_lattice_is_filled(case_of: Callable[[str], Case]) -> None:
    told = case_of("shifted lattice").told
    assert told["grappa"].verdict == told["spirit"].verdict == "fits"


def test_nothing_takes_what_is_broken(case_of: Callable[[str], Case]) -> None:
    outline = case_of("full").outline
    assert {one.refusals for one in pipelines_for(outline, ["it is broken"])} == {("it is broken",)}
    assert all(one.verdict == "refuses" for one in pipelines_for(None))


def test_missing_torch_is_told(case_of: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise MissingExtra("torch", "torch", f"stage '{name}'")

    monkeypatch.setattr("scanside.pipeline.load_stage", missing)
    suitable = pipelines_for(case_of("regular").outline)
    assert {one.pipeline for one in suitable} == set(pipeline_names())
    assert all("needs the package 'torch', which is not installed" in one.refusals[0] for one in suitable)


def test_those_that_refuse_for_the_same_reasons_stand_together() -> None:
    one, other = (Suitability(name, refusals=("it is broken",)) for name in "ab")
    fits, also_fits = (Suitability(name) for name in "cd")
    assert by_reason([fits, one, also_fits, other]) == [[fits], [one, other], [also_fits]]


def test_a_missing_bundle_is_told(case_of: Callable[[str], Case]) -> None:
    pipeline = Pipeline.load("unrolled", {"engine.bundle": "no-such-bundle"})
    assert "no-such-bundle" in pipeline.foresee(case_of("regular").outline).refusals[0]


def test_a_trajectory_of_unknown_unit_is_told(case_of: Callable[[str], Case]) -> None:
    outline = replace(case_of("radial").outline, reach=7.7)
    (told,) = pipelines_for(outline, names=["radial"])
    assert "the unit of the trajectory cannot be told: it reaches 7.7" in told.refusals[0]


def test_a_measured_trajectory_takes_the_place_of_the_carried_one(case_of: Callable[[str], Case]) -> None:
    outline = replace(case_of("radial").outline, reach=7.7)
    pipeline = Pipeline.load("radial", {"gather.trajectory": "measured.h5"})
    assert not pipeline.foresee(outline).refusals


@pytest.mark.parametrize(
    ("stage", "settings", "told"),
    [
        ("sense", {}, "SENSE needs coil maps, but no stage before it made them: add 'coil-maps'"),
        ("pics", {}, "compressed sensing needs coil maps"),
        ("low-rank-sparse", {}, "low-rank plus sparse reconstruction needs coil maps"),
        ("engine", {"bundle": "multicoil-unrolled"}, "the network needs coil maps"),
        (
            "noncartesian-sense",
            {},
            "SENSE needs coil maps, but no stage before it made them: add 'centre-maps'",
        ),
        ("noncartesian-pics", {}, "compressed sensing needs coil maps"),
        ("noncartesian-engine", {"bundle": "no-such-bundle"}, "the network needs coil maps"),
        ("spirit", {"kernel_k0": 31, "kernel_k1": 11}, "is too small: a kernel of (31, 11, 5)"),
        ("girf", {"file": "no-such-file.h5"}, "no-such-file.h5"),
    ],
)
def test_stages_tell_what_they_lack(
    case_of: Callable[[str], Case], stage: str, settings: dict[str, Any], told: str
) -> None:
    foreseen = load_stage(stage)(**settings).foresee(case_of("regular").outline)
    assert told in foreseen.refusals[0]


def test_frames_together_need_a_window(case_of: Callable[[str], Case]) -> None:
    outline = replace(case_of("film").outline, coil_maps=True)
    pipeline = Pics(frames="together")
    assert "put 'window' before it" in pipeline.foresee(outline).refusals[0]
    assert not pipeline.foresee(replace(outline, window=8)).refusals


def test_a_missing_network_of_trajectories_is_told(case_of: Callable[[str], Case]) -> None:
    outline = replace(case_of("radial").outline, coil_maps=True)
    foreseen = RunNonCartesianEngine(bundle="no-such-bundle").foresee(outline)
    assert "no-such-bundle" in foreseen.refusals[0]


def test_slices_at_once_without_references_are_told(case_of: Callable[[str], Case]) -> None:
    outline = replace(case_of("multiband").outline, calibration=None, calibrated_elsewhere=False)
    (told,) = pipelines_for(outline, names=["multiband"])
    assert "each slice holds 2 slices at once (multiband), and they cannot be separated" in told.refusals[0]


def test_a_single_average_is_told(case_of: Callable[[str], Case]) -> None:
    outline = case_of("epi").outline
    (told,) = pipelines_for(outline, names=["epi-averages"])
    assert "the header announces one average" in told.doubts[0]
    limits = {**outline.encoding.limits, "average": Limit(0, 1, 0)}
    several = replace(outline, encoding=replace(outline.encoding, limits=limits))
    assert pipelines_for(several, names=["epi", "epi-averages"])[0].pipeline == "epi-averages"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "the g-factor compares with what coil maps allow, but no stage before 'noise-maps' made them"),
        ({"maps": ["snr"], "stages": ["fourier"]}, "there are formulas for the noise of 'sense'"),
        ({"maps": ["snr"], "stages": ["grappa", "fourier"], "method": "replicas"}, "needs a regular lattice"),
    ],
)
def test_maps_of_the_noise_ask_the_stages_that_make_the_images(
    case_of: Callable[[str], Case], settings: dict[str, Any], told: str
) -> None:
    foreseen = MapNoise(**settings).foresee(case_of("random").outline)
    assert told in foreseen.refusals[0]
