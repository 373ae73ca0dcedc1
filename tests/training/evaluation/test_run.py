"""Whole evaluations: what they measure, what they write, and what one that fails leaves."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanside.errors import ConfigError
from scanside_training.config import read_config
from scanside_training.data import ReconstructionData
from scanside_training.evaluation import compare, load_evaluation, write_evaluation
from scanside_training.trainer import train

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")


def written(path: Path, **settings: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": "test", **settings}, sort_keys=False))
    return path


@pytest.fixture
def measured(scan_folder: Path) -> dict[str, Any]:
    masks = {
        "half": "scan/half.npy",
        "drawn": {"patterns": ["random"], "acceleration": [2, 2], "acs": [12, 12]},
    }
    return {"kind": "cfl", "root": str(scan_folder), "kspace": "scan/full", "masks": masks}


def test_one_that_fails_stops_no_other(measured: dict[str, Any], tmp_path: Path) -> None:
    candidates = [
        {"kind": "run", "folder": str(tmp_path / "nowhere")},
        {"kind": "zero-filled"},
        {"kind": "grappa"},
        {"kind": "cg-sense", "iterations": 10},
        {"kind": "pipeline", "pipeline": "grappa"},
    ]
    path = written(
        tmp_path / "e.yaml", data=measured, candidates=candidates, speed={"repeats": 1}, pictures=1
    )
    seen: list[tuple[int, int | None]] = []
    result = compare(load_evaluation(path), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)
    assert result.candidates == ["zero-filled", "GRAPPA", "CG-SENSE", "pipeline grappa"]
    failed = {one.candidate: one for one in result.failures}
    assert failed["nowhere"].cases == ()
    assert "no folder of a training run" in failed["nowhere"].reason
    assert failed["GRAPPA"].cases == ("scan-drawn",)
    assert failed["pipeline grappa"].cases == ("scan-drawn",)
    assert "irregular sampling" in failed["pipeline grappa"].reason
    assert set(result.milliseconds) == {"GRAPPA", "CG-SENSE"}

    folder = tmp_path / "out"
    write_evaluation(result, folder)
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    overall = {row["candidate"]: row for row in table if row["stratum"] == "all"}
    assert float(overall["CG-SENSE"]["psnr_mean"]) > float(overall["zero-filled"]["psnr_mean"]) + 3
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        images = list(csv.DictReader(file))
    own = [float(row["psnr"]) for row in images if row["candidate"] == "CG-SENSE"]
    assert sum(own) / 2 == pytest.approx(float(overall["CG-SENSE"]["psnr_mean"]))
    document = json.loads((folder / "results.json").read_text("utf-8"))
    assert document["config"]["candidates"][3]["iterations"] == 10
    html = (folder / "report.html").read_text("utf-8")
    assert "Research use only" in html
    assert "no folder of a training run" in html
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    made = ("zero-filled", "GRAPPA", "CG-SENSE", "pipeline-grappa")
    assert pictures == {"scan-drawn.png", *(f"worst-of-{name}.png" for name in made)}


def test_networks_on_simulated_data(tiny: dict[str, Any], tmp_path: Path) -> None:
    train(read_config(tiny, "tiny"), tmp_path / "run")
    data = {"kind": "simulated", "data": tiny["data"], "part": "validation", "samples": 3}
    path = written(tmp_path / "e.yaml", data=data, candidates=[{"kind": "zero-filled"}, {"kind": "cg-sense"}])
    result = compare(load_evaluation(path, candidates=[str(tmp_path / "run")]))
    assert [(row.candidate, row.n) for row in result.summaries if row.stratum == "all"] == [
        ("zero-filled", 3),
        ("run", 3),
    ]
    assert result.parameters == {"run": 7346}
    assert "images only" in result.failures[0].reason
    only = load_evaluation(path, candidates=["zero-filled"], only=True)
    assert [one.kind for one in only.candidates] == ["zero-filled"]


def many_subjects(tiny: dict[str, Any]) -> dict[str, Any]:
    """Simulated scans of eight subjects, two slices each, that classical methods can reconstruct."""
    data = copy.deepcopy(tiny["data"])
    data["sources"] = [data["sources"][0] | {"n_subjects": 9, "split": {"validation": 0, "test": 0.89}}]
    data["simulation"] |= {
        "task": {"kind": "unrolled"},
        "k0": [48, 48],
        "k1": [48, 48],
        "readout_crop": None,
        "snr": [10, 100],
        "coils": {"n_coils": [4, 4], "measured": 0},
    }
    return {"kind": "simulated", "data": data, "samples": 16}


@pytest.mark.slow
def test_statistics_over_subjects(tiny: dict[str, Any], tmp_path: Path) -> None:
    document = {
        "data": many_subjects(tiny),
        "candidates": [
            {"kind": "cg-sense", "name": "first", "iterations": 20},
            {"kind": "zero-filled", "name": "a_b & c"},
        ],
        "by": ["slice", "volume", "subject"],
        "regions": {"middle": {"kind": "boxes", "boxes": [[14, 14, 20, 20]]}},
        "contrasts": {"edge": {"of": "middle"}},
        "non_inferiority": {"against": "first", "margin": 100},
        "curves": ["snr", "weight"],
        "pictures": 0,
        "worst": 2,
    }
    result = compare(load_evaluation(written(tmp_path / "e.yaml", **document)))
    assert result.config.compared_with == "first"
    psnr = next(one for one in result.comparisons if one.stratum == "all" and one.measure == "psnr")
    assert (psnr.candidate, psnr.people.n_subjects, psnr.people.n_images) == ("a_b & c", 8, 8)
    assert psnr.people.low is not None
    assert {one.measure for one in result.comparisons} >= {"psnr@middle", "contrast@edge"}
    assert result.non_inferiority[0].verdict == "not inferior"
    assert [len(shown) for shown in result.worst_of.values()] == [2, 2]
    folder = tmp_path / "out"
    write_evaluation(result, folder)
    html = (folder / "report.html").read_text("utf-8")
    for title in (
        "Over subjects",
        "Volumes",
        "Regions and contrast",
        "Differences to first",
        "Non-inferiority",
    ):
        assert f"<h2>{title}</h2>" in html
    assert "No curve over weight: images have no three values of it, but of " in html
    assert "uniform window 7 × 7" in html
    text = (folder / "tables" / "differences-to-first.tex").read_text("utf-8")
    assert r"a\_b \& c" in text
    found = json.loads((folder / "provenance.json").read_text("utf-8"))
    assert found["configuration"] in text
    assert found["n_cases"] == 16
    assert {"torch", "scipy", "scanside"} <= set(found["versions"])
    with (folder / "differences.csv").open(newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["measure"] == "psnr")
    assert float(row["low_95"]) == psnr.people.low
    for name in ("curves.csv", "volumes.csv", "non-inferiority.csv", "pictures/curve-snr.png"):
        assert (folder / name).is_file()
    again = compare(load_evaluation(tmp_path / "e.yaml"))
    assert again.rows == again.summaries
    again.config = again.config.model_copy(update={"by": ("volume",), "worst": 0})
    write_evaluation(again, tmp_path / "volumes")
    html = (tmp_path / "volumes" / "report.html").read_text("utf-8")
    assert "<h2>Volumes</h2>" in html
    assert "<h2>All images</h2>" not in html
    assert [(one.candidate, one.n) for one in again.rows if one.stratum == "all"] == [
        ("first", 8),
        ("a_b & c", 8),
    ]
    again = compare(load_evaluation(tmp_path / "e.yaml"))
    assert again.provenance == result.provenance
    other = load_evaluation(tmp_path / "e.yaml", {"data": {"data": {"seed": 3}}})
    assert compare(other).provenance["data"] != result.provenance["data"]


def test_figures_are_those_of_validation(tiny: dict[str, Any], tmp_path: Path) -> None:
    record = train(read_config(tiny, "tiny"), tmp_path / "run")
    data = {"kind": "simulated", "data": tiny["data"], "part": "validation"}
    path = written(tmp_path / "e.yaml", data=data)
    result = compare(load_evaluation(path, candidates=[str(tmp_path / "run")]))
    means = result.summaries[0].means
    for name in ("psnr", "ssim", "nmse", "psnr_inside"):
        assert means[name] == pytest.approx(record.validation[name], rel=1e-4), name


def test_configuration_that_cannot_work(measured: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    with pytest.raises(ConfigError, match=r"has no setting 'kspaces'.*did you mean 'kspace'"):
        load_evaluation(written(path, data=measured | {"kspaces": "x"}))
    with pytest.raises(ConfigError, match="candidates of the same name: zero-filled"):
        load_evaluation(written(path, data=measured, candidates=[{"kind": "zero-filled"}] * 2))
    with pytest.raises(ConfigError, match=r"speed\.reference is 'x'"):
        load_evaluation(written(path, data=measured, speed={"reference": "x"}))
    both = [{"kind": "zero-filled"}, {"kind": "cg-sense"}]
    with pytest.raises(ConfigError, match=r"reference is 'x', and candidates are zero-filled, CG-SENSE"):
        load_evaluation(written(path, data=measured, candidates=both, reference="x"))
    settled: dict[str, Any] = {"against": "x", "margin": 0.5}
    with pytest.raises(ConfigError, match=r"non_inferiority\.against is 'x', and candidates are"):
        load_evaluation(written(path, data=measured, candidates=both, non_inferiority=settled))
    settled = {"against": "CG-SENSE", "margin": -0.5}
    with pytest.raises(ConfigError, match=r"margin.*greater than 0"):
        load_evaluation(written(path, data=measured, candidates=both, non_inferiority=settled))
    with pytest.raises(ConfigError, match="'fastmri' is one of volumes"):
        load_evaluation(written(path, data=measured, definition="fastmri"))
    with pytest.raises(ConfigError, match="name slice, volume or subject, each once"):
        load_evaluation(written(path, data=measured, by=["slice", "slice"]))
    with pytest.raises(ConfigError, match="contrasts name b, and regions are none"):
        load_evaluation(written(path, data=measured, contrasts={"a": {"of": "b"}}))
    with pytest.raises(ConfigError, match="names of regions are letters"):
        load_evaluation(written(path, data=measured, regions={"a b": {"kind": "marked"}}))
    with pytest.raises(ConfigError, match="has no candidates"):
        compare(load_evaluation(written(path, data=measured)))
    with pytest.raises(ConfigError, match="give the data once"):
        load_evaluation(written(path, data={"kind": "simulated"}))


@pytest.mark.slow
def test_subjects_that_were_learned_are_told(tiny: dict[str, Any], tmp_path: Path) -> None:
    """The test's subjects are those that the network, or what it began with, was trained on."""
    train(read_config(tiny, "tiny"), tmp_path / "learned")
    (source,) = tiny["data"]["sources"]
    parts = ReconstructionData(read_config(tiny, "tiny").data)
    learned = parts.samples("train").provenance[0].subjects
    elsewhere = sorted(set(map(str, range(source["n_subjects"]))) - set(learned))
    child = copy.deepcopy(tiny) | {"name": "child", "initial": str(tmp_path / "learned"), "max_steps": 1}
    child["data"]["sources"] = [source | {"seed": 77}]
    train(read_config(child, "child"), tmp_path / "child")
    data = copy.deepcopy(tiny["data"])
    data["sources"] = [source | {"split": {"train": elsewhere, "test": list(learned)}}]
    document = {
        "data": {"kind": "simulated", "data": data, "samples": 4},
        "candidates": [{"kind": "zero-filled"}],
        "pictures": 0,
    }
    folders = [str(tmp_path / "learned"), str(tmp_path / "child")]
    result = compare(load_evaluation(written(tmp_path / "e.yaml", **document), candidates=folders))
    assert result.learned == {"learned": 4, "child": 4}
    write_evaluation(result, tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "learned was trained on subjects of 4 of these 4 images" in html
    with (tmp_path / "out" / "table.csv").open(newline="", encoding="utf-8") as file:
        told = {row["candidate"]: row["n_seen_in_training"] for row in csv.DictReader(file)}
    assert told == {"zero-filled": "0", "learned": "4", "child": "4"}

    document["data"] = {"kind": "simulated", "data": tiny["data"], "samples": 4}
    result = compare(load_evaluation(written(tmp_path / "e.yaml", **document), candidates=folders))
    assert result.learned == {}
    write_evaluation(result, tmp_path / "own")
    assert "seen in training" not in (tmp_path / "own" / "report.html").read_text("utf-8")
