"""Whole studies, small ones: what they train, what they keep, and what they tell."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from scanside.errors import ConfigError
from scanside_training.config import load_config
from scanside_training.study import Study, load_study, run_study, write_study
from scanside_training.study.curves import course
from scanside_training.study.report import columns, row_cells
from scanside_training.study.run import plan
from scanside_training.study.tables import differences, rows

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")

STUDY: dict[str, Any] = {
    "name": "small",
    "base": "base.yaml",
    "settings": {"max_steps": 2},
    "seeds": [1, 2],
    "variations": [
        {"name": "teacher", "labels": {"channels": 8}, "settings": {"model": {"channels": 8}}, "seeds": [1]},
        {"name": "alone", "labels": {"channels": 4}},
        {
            "name": "distilled",
            "settings": {"distillation": {"layers": ["body.encoder.0"], "alpha": 0.75}},
            "teacher": "teacher",
        },
    ],
    "samples": 4,
    "speed": {"repeats": 1, "reference": "teacher"},
    "pictures": 1,
    "comparisons": [{"variation": "distilled", "against": "alone"}],
    "similarity": {"teacher": "teacher", "students": ["distilled"], "batch_size": 4},
}


@pytest.fixture
def files(tiny: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tiny))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def run(files: Path, **settings: Any) -> Study:
    study, base, training = load_study(files / "study.yaml", settings)
    return run_study(study, base, training.data, files / "out")


def test_a_seed_of_the_data_is_told_where_seeds_are_compared(
    files: Path, tiny: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tiny["data"]["seed"] = 3
    (files / "base.yaml").write_text(yaml.safe_dump(tiny))
    run(files, variations=[{"name": "alone"}], comparisons=[], similarity=None, speed=None, pictures=0)
    assert "all seeds of 'alone' see the same samples, as data.seed is 3" in caplog.text


def test_study(files: Path) -> None:
    study = run(files)
    names = ["teacher-seed1", "alone-seed1", "alone-seed2", "distilled-seed1", "distilled-seed2"]
    assert list(study.records) == names
    assert study.evaluation.candidates == ["zero-filled", *names]
    runs = files / "out" / "runs"
    distilled = load_config(runs / "distilled-seed2" / "config.yaml")
    assert distilled.distillation is not None
    assert (distilled.distillation.teacher, distilled.seed) == (runs / "teacher-seed1", 2)
    assert load_config(runs / "teacher-seed1" / "config.yaml").max_steps == 2
    seeds = [load_config(runs / f"alone-seed{seed}" / "config.yaml").data.drawn_from for seed in (1, 2)]
    assert seeds == [1, 2], "other samples too, not only other initial weights"

    table = {row.variation: row for row in rows(study)}
    assert [table[name].n_seeds for name in ("teacher", "alone", "distilled")] == [1, 2, 2]
    of_seeds = [
        mean(one.values["psnr"] for one in study.evaluation.scores if one.candidate == f"alone-seed{seed}")
        for seed in (1, 2)
    ]
    assert table["alone"].means["psnr"] == pytest.approx(mean(of_seeds))
    assert table["alone"].spread["psnr"] == pytest.approx(abs(of_seeds[0] - of_seeds[1]) / 2**0.5)
    assert (table["teacher"].n_parameters or 0) > 3 * (table["alone"].n_parameters or 0)

    psnr = next(one for one in differences(study) if one.measure == "psnr")
    assert psnr.second == pytest.approx(of_seeds)
    assert psnr.mean == pytest.approx(table["distilled"].means["psnr"] - table["alone"].means["psnr"])
    assert psnr.better == (psnr.mean > 0)
    nmse = next(one for one in differences(study) if one.measure == "nmse")
    assert nmse.better == (nmse.mean < 0)

    blocks = ("body.encoder.0", "body.encoder.1", "body.bottleneck", "body.decoder.0", "body.decoder.1")
    assert study.similarities["distilled-seed1"].teacher_layers == blocks

    write_study(study, files / "out")
    with (files / "out" / "table.csv").open(newline="", encoding="utf-8") as file:
        assert [row["channels"] for row in csv.DictReader(file)] == ["", "8", "4", ""]
    teacher = table["teacher"]
    assert teacher.epochs == pytest.approx(2 / 3, abs=0.01)
    assert (teacher.memory or 0) > 1.3 * (table["alone"].memory or 0)
    cells = dict(zip(columns(study), row_cells(study, teacher), strict=True))
    gain = teacher.means["psnr"] - table["zero-filled"].means["psnr"]
    assert float(cells["gain, dB"]) == pytest.approx(gain, abs=0.006)
    html = (files / "out" / "report.html").read_text("utf-8")
    assert "distilled against alone" in html
    assert "times smaller" in html
    assert (files / "out" / "similarity-distilled-seed1.png").is_file()


def test_films(files: Path, tiny_films: dict[str, Any]) -> None:
    (files / "base.yaml").write_text(yaml.safe_dump(tiny_films))
    dual = {"kind": "dual-unet", "n_frames": 4, "channels": 2, "pools": 2, "fusion_channels": 2}
    variations = [
        {"name": "dual", "settings": {"model": dual, "loss": {"terms": [{"kind": "l2"}]}}},
        {"name": "ours"},
    ]
    study = run(
        files,
        settings={"max_steps": 2, "max_minutes": 5, "schedule": {"over": "minutes"}},
        variations=variations,
        candidates=[{"kind": "view-sharing"}],
        seeds=[1],
        samples=2,
        speed={"repeats": 1, "reference": "dual"},
        comparisons=[{"variation": "ours", "against": "dual"}],
        similarity=None,
    )
    assert not study.failures
    assert not study.evaluation.failures
    assert [row.variation for row in rows(study)] == ["zero-filled", "view sharing", "dual", "ours"]
    write_study(study, files / "out")
    assert (files / "out" / "curves.png").is_file()
    steps, losses = course(files / "out" / "runs" / "ours-seed1" / "metrics.csv", "train/loss", 20)
    assert steps.tolist() == [1, 2]
    assert min(losses) > 0


def test_finished_runs_are_kept_and_others_made(files: Path) -> None:
    short = {"variations": STUDY["variations"][:2], "comparisons": [], "similarity": None, "seeds": [1]}
    run(files, **short)
    record = files / "out" / "runs" / "alone-seed1" / "training.json"
    before = record.stat().st_mtime_ns
    study = run(files, **short | {"seeds": [1, 2]})
    assert record.stat().st_mtime_ns == before
    assert list(study.records) == ["teacher-seed1", "alone-seed1", "alone-seed2"]
    changed = [STUDY["variations"][0], {"name": "alone", "settings": {"optimiser": {"lr": 0.5}}}]
    with pytest.raises(ConfigError, match=r"alone-seed1 holds a run with other settings \(optimiser\)"):
        run(files, **short | {"variations": changed})


def test_a_run_that_is_there_is_taken(files: Path) -> None:
    short = {"comparisons": [], "similarity": None, "seeds": [1], "speed": None}
    run(files, variations=STUDY["variations"][:1], **short)
    there = files / "out" / "runs" / "teacher-seed1"
    variations = [{"name": "teacher", "run": str(there)}, STUDY["variations"][2]]
    study = run(files, variations=variations, **short)
    assert study.evaluation.candidates == ["zero-filled", "teacher", "distilled-seed1"]
    distilled = load_config(files / "out" / "runs" / "distilled-seed1" / "config.yaml")
    assert distilled.distillation is not None
    assert distilled.distillation.teacher == there


def test_a_variation_begins_with_the_weights_of_another(files: Path) -> None:
    variations = [{"name": "first"}, {"name": "tuned", "initial": "first", "settings": {"max_steps": 1}}]
    run(files, variations=variations, comparisons=[], similarity=None, speed=None, seeds=[1], pictures=0)
    runs = files / "out" / "runs"
    assert load_config(runs / "tuned-seed1" / "config.yaml").initial == runs / "first-seed1"
    assert load_config(runs / "first-seed1" / "config.yaml").initial is None


def test_a_training_that_fails_stops_no_other(files: Path) -> None:
    variations = [
        {"name": "broken", "settings": {"distillation": {"layers": ["no.layer"], "teacher": "nowhere"}}},
        {"name": "alone"},
    ]
    study = run(files, variations=variations, comparisons=[], similarity=None, speed=None, seeds=[1])
    assert "nowhere is no folder of a training run" in study.failures["broken-seed1"]
    assert study.evaluation.candidates == ["zero-filled", "alone-seed1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variation": []}, r"has no setting 'variation'.*did you mean 'variations'"),
        ({"variations": [{"name": "a"}, {"name": "a"}]}, "variations of the same name: a"),
        ({"variations": [{"name": "a", "teacher": "b"}, {"name": "b"}]}, "no variation before has that name"),
        ({"variations": [{"name": "a", "initial": "b"}, {"name": "b"}]}, "initial of 'a' is 'b'"),
        ({"comparisons": [{"variation": "x", "against": "alone"}]}, "there is no variation x"),
        (
            {"variations": [{"name": "a", "run": "r", "seeds": [1]}]},
            "takes no settings, seeds, teacher or initial",
        ),
        ({"candidates": [{"kind": "cg-sense", "name": "alone"}]}, "candidates whose names are taken: alone"),
    ],
)
def test_configuration_that_cannot_work(files: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(files / "study.yaml", settings)


def test_shipped_studies_are_read() -> None:
    configs = Path(__file__).resolve().parents[3] / "training" / "configs"
    for name, n in (("study-centre-weights.yaml", 8), ("study-distillation.yaml", 7)):
        study, _, training = load_study(configs / name)
        assert len(study.variations) == n
        assert training.data.sources[0].kind == "brain-t2-complex"
    study, base, training = load_study(configs / "study-cine.yaml")
    assert training.data.sources[0].kind == "cine-sax-films"
    planned = {one.variation.name: one.config for one in plan(study, base, configs)}
    assert list(planned) == [
        "none",
        "dropout-schedule",
        "l1",
        "attention",
        "cascades-2",
        "cascades-3",
        "ours",
    ]
    # All have the same time, and are told apart by what their names say.
    assert len({one.max_minutes for one in planned.values() if one is not None}) == 1


@pytest.mark.parametrize(
    ("name", "second"), [("study-adversarial.yaml", "adversarial"), ("study-regions.yaml", "weighted_l2")]
)
def test_shipped_comparisons_of_losses(name: str, second: str) -> None:
    configs = Path(__file__).resolve().parents[3] / "training" / "configs"
    study, base, _ = load_study(configs / name)
    losses = [
        [term.kind for term in one.config.loss.terms] for one in plan(study, base, configs) if one.config
    ]
    assert len(losses) == 2
    assert second not in losses[0]
    assert second in losses[1]
