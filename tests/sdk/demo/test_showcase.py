"""Further pipelines of the demonstration, on small scans through one server."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from scanside.cli.app import app
from scanside.cli.console import console
from scanside.demo.exhibits import EXHIBITS, Exhibit, Way
from scanside.demo.result import Showcase
from scanside.demo.run import run_demo
from scanside.demo.showcase import Shown, is_map, run_showcase
from scanside.demo.showcase_section import in_words, showcase_sections
from scanside.errors import MissingExtra
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.pipeline import Pipeline
from scanside.report.page import Movie, Picture, Rows, Text
from scanside.simulate import ScanConfig, preset
from scanside.testing.small import small_image


def small(config: ScanConfig, matrix: int, **sampling: object) -> ScanConfig:
    """A scan with fewer voxels and coils, two slices at most."""
    sizes = {"matrix": (matrix, matrix, 1), "n_slices": min(config.geometry.n_slices, 2)}
    parts = {
        "phantom": config.phantom.model_copy(update={"supersampling": (1, 1, 1)}),
        "coils": config.coils.model_copy(update={"n_coils": 6}),
        "geometry": config.geometry.model_copy(update=sizes),
        "sampling": config.sampling.model_copy(update=sampling),
    }
    return ScanConfig.model_validate(config.model_copy(update=parts).model_dump())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("showcase")


@pytest.fixture(scope="module")
def steps() -> list[str]:
    """What was told."""
    return []


@pytest.fixture(scope="module")
def made(folder: Path, steps: list[str]) -> Showcase:
    """Spokes, echo trains, and spokes in real time; the scan is long enough for a busy machine."""
    radial, epi = (one for one in EXHIBITS if one.name in ("radial", "epi"))
    stream = small(preset("radial-cine"), 48)
    slower = {
        "dynamics": stream.dynamics.model_copy(update={"repetitions": 5}),
        "timing": stream.timing.model_copy(update={"tr_ms": 10.0}),
    }
    exhibits = [
        Exhibit(radial.name, radial.title, lambda: small(radial.scan(), 48), radial.beside),
        Exhibit(epi.name, epi.title, lambda: small(epi.scan(), 48, acs=(16, 0)), epi.beside, told=epi.told),
    ]
    return run_showcase(
        folder, shown=Shown(exhibits, stream.model_copy(update=slower)), device="cpu", on_step=steps.append
    )


def test_pipelines_are_nearer_to_the_truth_than_what_is_beside_them(made: Showcase) -> None:
    radial, epi = made.exhibits
    assert radial.nrmse["radial"] < 0.8 * radial.nrmse["gridding"]
    assert epi.nrmse["epi"] < 0.3 * epi.nrmse["epi, uncorrected"]
    assert [one.slice for one in epi.slices] == [0, 1]
    assert all(one.distance_mm < 1e-3 for result in made.exhibits for one in result.slices)


def test_ghosts_are_told_before_and_after(made: Showcase) -> None:
    told = made.exhibits[1].told
    assert told["epi"]["ScansideGhost"] < 0.5 * told["epi, uncorrected"]["ScansideGhost"]
    assert made.exhibits[0].told == {"gridding": {}, "radial": {}}


def test_node_gives_the_same_pixels(made: Showcase) -> None:
    assert [one.same_pixels for one in made.exhibits] == [True, True]


def test_images_come_while_the_scan_runs(made: Showcase) -> None:
    stream = made.stream
    assert stream.film.truth.shape == (4, 48, 48)
    assert stream.film.quality["radial-realtime"].psnr_db > 15
    assert len(stream.delays_ms) == stream.n_during
    assert all(delay >= 0 for delay in stream.delays_ms)
    text = in_words(stream)
    assert f"{stream.n_during} of 4 images came" in text or "None of 4 images" in text


def test_sections_and_files(made: Showcase, folder: Path) -> None:
    sections = showcase_sections(made)
    assert list(sections) == ["radial", "epi", "radial-realtime"]
    for section in sections.values():
        assert any(isinstance(part, Picture) for part in section.parts)
    assert any(isinstance(part, Movie) for part in sections["radial-realtime"].parts)
    (rows,) = (part for part in sections["epi"].parts if isinstance(part, Rows))
    assert {"ghost, % of the signal", "NRMSE in the object, %"} <= set(rows.columns)
    assert [row[0] for row in rows.rows] == ["epi, uncorrected", "epi"]
    assert all(len(row) == len(rows.columns) for row in rows.rows)
    (said,) = (part for part in sections["epi"].parts if isinstance(part, Text))
    assert "bit for bit" in said.text
    files = {path.name for path in (folder / "epi").iterdir()}
    assert files == {"scan.h5", "truth.npz", "epi-uncorrected.h5", "epi.h5"}
    with Hdf5Reader(folder / "radial-realtime" / "radial-realtime.h5") as reader:
        assert sum(len(list(reader.images(series))) for series in reader.image_series()) == 4


def test_maps_that_came_with_an_image_are_shown(made: Showcase) -> None:
    epi = made.exhibits[1]
    assert epi.maps == []
    image = small_image()
    image = image.replace(data=image.data.abs())
    assert not is_map(image)
    image.meta.update({"DataRole": ["G-factor"], "RescaleSlope": ["0.01"]})
    assert is_map(image)
    section = showcase_sections(replace(made, exhibits=[replace(epi, maps=[image])]))["epi"]
    captions = [part.caption for part in section.parts if isinstance(part, Picture)]
    assert len(captions) == 2
    assert captions[1].startswith("G-factor, with the image (black 0, white")


def test_every_step_is_told(made: Showcase, steps: list[str]) -> None:
    assert "starting a server for further pipelines" in steps
    for name in ("gridding", "radial", "epi, uncorrected", "epi"):
        assert f"reconstructing it in a Gadgetron node: {name}" in steps


def test_the_command_tells_figures_of_further_pipelines_where_they_are_asked_for(
    made: Showcase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Shown | None] = []

    def run(folder: Path, *, shown: Shown | None, **_: object) -> object:
        asked.append(shown)
        part = SimpleNamespace(slices=made.exhibits[0].slices, methods=[])
        return SimpleNamespace(
            slices=part.slices,
            learned=part,
            checked=part,
            film=made.stream.film,
            same_pixels=True,
            showcase=None if shown is None else made,
        )

    monkeypatch.setattr("scanside.demo.run_demo", run)
    monkeypatch.setattr(console, "width", 200)
    plain, whole = (
        CliRunner().invoke(app, ["demo", *options, "-o", str(tmp_path)]) for options in ([], ["--all"])
    )
    assert (plain.exit_code, whole.exit_code) == (0, 0), whole.output
    assert [shown is None for shown in asked] == [True, False]
    assert "Further pipelines" not in plain.output
    assert "ghost, % of the signal" in whole.output
    assert f"radial-realtime: {in_words(made.stream)}" in whole.output


def test_nothing_is_shown_that_nobody_asked_for() -> None:
    assert showcase_sections(None) == {}


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda one: one.name)
def test_exhibits_are_shipped_pipelines_on_scans_of_theirs(exhibit: Exhibit) -> None:
    assert list(exhibit.ways)[-1] == exhibit.name
    assert exhibit.ways[exhibit.name] == Way(exhibit.name, exhibit.settings)
    for way in exhibit.ways.values():
        Pipeline.load(way.pipeline, way.settings)
    config = exhibit.scan()
    assert config.dynamics.repetitions == 1
    assert np.prod(config.geometry.matrix) >= 96 * 96


def test_without_finufft_it_says_so_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scanside\[noncartesian\]'"):
        run_demo(tmp_path / "demo", shown=Shown())
    assert not (tmp_path / "demo").exists()
