"""Which pipelines can take a scan: what is foretold, and what happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scanside.context import Context
from scanside.errors import ScansideError
from scanside.inspection import Inspection, inspect_file
from scanside.items import Image
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)
from scanside.simulate.presets import preset
from scanside.suitability import Suitability, pipelines_for

CLASSICAL = ("fft", "grappa", "sense", "epi", "radial", "radial-realtime", "spiral", "cine-view-sharing")


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
            "geometry": config.geometry.model_copy(update={"matrix": (64, 64, 1), "n_slices": 1}),
            "coils": CoilConfig(n_coils=4),
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
}


@pytest.fixture(scope="module", params=SCANS, ids=lambda name: name.replace(" ", "-"))
def scanned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, SimulatedScan, Inspection]:
    scan = simulate(SCANS[request.param]())
    return request.param, scan, _inspected(scan, tmp_path_factory.mktemp("scan") / "scan.h5")


def _inspected(scan: SimulatedScan, path: Path) -> Inspection:
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return inspect_file(path)


def _images(name: str, scan: SimulatedScan) -> int:
    pipeline = Pipeline.load(name)
    pipeline.prepare(Context())
    with pipeline.open(Scan.from_xml(scan.header_xml)) as run:
        made = [one for item in scan.items() for one in run.push(item)]
        made += run.finish(ScanEnd())
    return sum(isinstance(one, Image) for one in made)


def _by_name(found: Inspection) -> dict[str, Suitability]:
    return {one.pipeline: one for one in pipelines_for(found.outline, found.broken, CLASSICAL)}


def test_what_is_foretold_happens(scanned: tuple[str, SimulatedScan, Inspection]) -> None:
    _, scan, found = scanned
    for name, told in _by_name(found).items():
        refuses = False
        try:
            refuses = _images(name, scan) == 0
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
}


def test_the_best_comes_first(scanned: tuple[str, SimulatedScan, Inspection]) -> None:
    name, _, found = scanned
    assert next(iter(_by_name(found))) == BEST[name]


def test_reasons_tell_what_was_found(scanned: tuple[str, SimulatedScan, Inspection]) -> None:
    name, _, found = scanned
    told = _by_name(found)
    expected = {
        "regular": ("fft", "lines are missing between the"),
        "without calibration": ("sense", "needs calibration (ACS) lines"),
        "random": ("grappa", "needs a regular lattice"),
        "film": ("radial", "a trajectory of 0 dimensions"),
        "radial": ("grappa", "trajectory; this stage grids Cartesian lines only"),
        "spiral": ("radial", "it is made for radial or goldenangle, and the header's trajectory is spiral"),
        "epi": ("grappa", "these are echo-planar readouts"),
        "full": ("cine-view-sharing", "the scan has no film along repetition"),
    }[name]
    assert expected[1] in "; ".join(told[expected[0]].reasons)


def test_networks_say_what_they_were_trained_for(tmp_path: Path) -> None:
    found = _inspected(simulate(SCANS["regular"]()), tmp_path / "scan.h5")
    (told,) = pipelines_for(found.outline, names=["unrolled"])
    assert told.verdict == "doubtful"
    assert "the network 'multicoil-unrolled' was not trained for it: matrix 32, trained for" in told.doubts[0]


def test_nothing_takes_what_is_broken(tmp_path: Path) -> None:
    found = _inspected(simulate(SCANS["full"]()), tmp_path / "scan.h5")
    assert {one.refusals for one in pipelines_for(found.outline, ["it is broken"], CLASSICAL)} == {
        ("it is broken",)
    }
    assert all(one.verdict == "refuses" for one in pipelines_for(None, names=CLASSICAL))


def test_a_missing_bundle_is_told(tmp_path: Path) -> None:
    found = _inspected(simulate(SCANS["regular"]()), tmp_path / "scan.h5")
    assert found.outline is not None
    pipeline = Pipeline.load("unrolled", {"engine.bundle": "no-such-bundle"})
    assert "no-such-bundle" in pipeline.foresee(found.outline).refusals[0]


def test_a_trajectory_of_unknown_unit_is_told(tmp_path: Path) -> None:
    found = _inspected(simulate(SCANS["radial"]()), tmp_path / "scan.h5")
    assert found.outline is not None
    (told,) = pipelines_for(replace(found.outline, reach=77.0), names=["radial"])
    assert "the unit of the trajectory cannot be told: it reaches 77" in told.refusals[0]
