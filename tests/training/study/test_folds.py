"""Studies over folds: everybody is tested once by networks that did not see them; and ablations."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from scanside.errors import ConfigError
from scanside_training.checkpoint import write_config
from scanside_training.config import load_config
from scanside_training.evaluation.candidates import Run
from scanside_training.evaluation.leaks import seen_by
from scanside_training.record import read_record
from scanside_training.study import Study, load_study, run_study, write_study
from scanside_training.study import training as study_training
from scanside_training.study.folds import check_samples, count_folds
from scanside_training.study.report import columns, row_cells
from scanside_training.study.run import plan
from scanside_training.study.tables import differences, rows
from scanside_training.study.training import time_left
from scanside_training.trainer import train

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")

STUDY: dict[str, Any] = {
    "name": "small",
    "base": "base.yaml",
    "folds": 3,
    "variations": [{"name": "first"}],
    "samples": 4,
    "speed": None,
    "pictures": 1,
}
TWO = {
    "variations": [{"name": "first"}, {"name": "other", "settings": {"optimiser": {"lr": 0.001}}}],
    "comparisons": [{"variation": "first", "against": "other"}],
}


@pytest.fixture
def files(tiny: dict[str, Any], tmp_path: Path) -> Path:
    tiny["max_steps"] = 1
    tiny["data"]["sources"][0] |= {"seed": 5, "split": {"folds": 3, "validation": 0.3, "seed": 2}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tiny))
    return tmp_path


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainings that are begun."""
    made: list[str] = []

    def told(config: Any, folder: Path, **options: Any) -> Any:
        made.append(folder.name)
        return train(config, folder, **options)

    monkeypatch.setattr(study_training, "train", told)
    return made


def run(files: Path, steps: list[str] | None = None, **settings: Any) -> Study:
    (files / "study.yaml").write_text(yaml.safe_dump(STUDY | settings))
    study, base, training = load_study(files / "study.yaml")
    return run_study(
        study, base, training.data, files / "out", on_step=(steps if steps is not None else []).append
    )


def test_everybody_is_tested_once_by_networks_that_did_not_see_them(files: Path, begun: list[str]) -> None:
    steps: list[str] = []
    study = run(files, steps, seeds=[1, 2], **TWO)
    assert begun == [
        f"{name}-seed{seed}-fold{fold}" for name in ("first", "other") for seed in (1, 2) for fold in range(3)
    ]
    assert study.n_folds == 3
    assert steps[11].startswith("12 of 12: other-seed2-fold2, ")
    names = ["zero-filled", "first-seed1", "first-seed2", "other-seed1", "other-seed2"]
    assert study.evaluation.candidates == names
    for name in names:
        own = [one for one in study.evaluation.scores if one.candidate == name]
        assert Counter(one.strata["subject"] for one in own) == {str(n): 2 for n in range(6)}
        tested = {one.strata["subject"]: one.strata["fold"] for one in own}
        assert sorted(Counter(tested.values()).values()) == [2, 2, 2]
        for fold in range(3):
            if name == "zero-filled":
                continue
            record = read_record(files / "out" / "runs" / f"{name}-fold{fold}")
            assert record is not None
            here = {who for who, where in tested.items() if where == str(fold)}
            assert not here & set(record.data[0].subjects)
            assert len(here | set(record.data[0].subjects)) == 5, "and one in the validation"
    assert not study.evaluation.leaks

    table = {row.variation: row for row in rows(study)}
    own = [one.values["psnr"] for one in study.evaluation.scores if one.candidate.startswith("first-")]
    assert table["first"].means["psnr"] == pytest.approx(mean(own))
    assert table["first"].n_seeds == 2
    cells = dict(zip(columns(study), row_cells(study, table["first"]), strict=True))
    assert cells["networks"] == "2 seeds of 3 folds"
    psnr = next(one for one in differences(study) if one.measure == "psnr")
    assert psnr.people is not None
    assert (psnr.people.n_subjects, psnr.people.n_images) == (6, 12)
    assert psnr.people.low is not None, "three folds of two have the six that an interval needs"

    write_study(study, files / "out")
    html = " ".join((files / "out" / "report.html").read_text("utf-8").split())
    assert (
        "3 folds, 4 images of each: every subject is measured by networks that were trained on other" in html
    )
    with (files / "out" / "table.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["networks"], row["images"]) for row in csv.DictReader(file)][1] == ("6", "12")
    with (files / "out" / "evaluation" / "images.csv").open(newline="", encoding="utf-8") as file:
        assert len({(row["candidate"], row["case"]) for row in csv.DictReader(file)}) == 5 * 12


def test_a_network_of_another_fold_would_be_found(files: Path) -> None:
    study = run(files)
    case = study.evaluation.shown[0].case
    assert case.name.startswith("fold0-")
    runs = [files / "out" / "runs" / f"first-seed1-fold{fold}" for fold in range(3)]
    saw = [bool(case.identities & seen_by(Run(folder=folder))) for folder in runs]
    assert not saw[0]
    assert any(saw[1:])


def test_cut_off_in_the_middle_and_gone_on_with(
    files: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study_training.train

    def dying(config: Any, folder: Path, **options: Any) -> Any:
        if len(begun) == 2:
            folder.mkdir(parents=True)
            write_config(config, folder)  # all that there is before the first checkpoint
            raise KeyboardInterrupt
        return whole(config, folder, **options)

    monkeypatch.setattr(study_training, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        run(files)
    monkeypatch.setattr(study_training, "train", whole)
    study = run(files)
    assert begun == [f"first-seed1-fold{fold}" for fold in range(3)], "the two that were finished are kept"
    assert list(study.records) == begun
    run(files)
    assert len(begun) == 3


def test_a_fold_that_fails_takes_its_network_out(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: Any, folder: Path, **options: Any) -> Any:
        if folder.name == "other-seed1-fold1":
            raise RuntimeError("out of memory")
        return train(config, folder, **options)

    monkeypatch.setattr(study_training, "train", fails)
    study = run(files, **TWO)
    assert study.failures == {"other-seed1-fold1": "out of memory"}
    assert study.evaluation.candidates == ["zero-filled", "first-seed1"]
    assert differences(study) == []
    write_study(study, files / "out")


def test_teachers_are_of_the_same_fold(files: Path) -> None:
    variations = [
        {"name": "teacher"},
        {
            "name": "student",
            "teacher": "teacher",
            "settings": {"distillation": {"layers": ["body.encoder.0"]}},
        },
        {"name": "tuned", "initial": "teacher"},
    ]
    study = run(files, variations=variations)
    runs = files / "out" / "runs"
    for fold in range(3):
        student = load_config(runs / f"student-seed1-fold{fold}" / "config.yaml")
        tuned = load_config(runs / f"tuned-seed1-fold{fold}" / "config.yaml")
        assert student.distillation is not None
        assert student.distillation.teacher == tuned.initial == runs / f"teacher-seed1-fold{fold}"
    assert not study.evaluation.leaks


def test_leave_one_subject_out(files: Path, tiny: dict[str, Any]) -> None:
    tiny["data"]["sources"][0] |= {"n_subjects": 3, "split": {"leave_out": "one", "validation": 0.5}}
    (files / "base.yaml").write_text(yaml.safe_dump(tiny))
    study = run(files, folds="leave-one-out", samples=1)
    assert [one.strata["subject"] for one in study.evaluation.scores if one.candidate == "first-seed1"] == [
        "0", "1", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 4}, r"asks for folds: 4, and data\.sources\[0\] \(synthetic\) has 3: the numbers must be"),
        ({"folds": 1}, r"folds\.?.* = 1"),
        (
            {"folds": "leave-one-out"},
            "its base is split by a number of folds: write 'split: {leave_out: one}'",
        ),
        (
            {"samples": 1},
            r"1 images of fold 0 would leave out 1 of its 2 subjects \(.\): raise samples, up to the 4",
        ),
        ({"variations": [{"name": "a", "run": "there"}]}, "a: a finished run was trained on one split"),
        ({"part": "validation"}, "folds are of the test: leave 'part' out"),
        (
            {"variations": [{"name": "a", "settings": {"data": {"sources": [{"kind": "synthetic"}]}}}]},
            "'a' has other splits than the base",
        ),
    ],
)
def test_folds_that_cannot_be(files: Path, begun: list[str], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(files, **settings)
    assert not begun


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([{"split": {"validation": 0.3, "test": 0.3}}], "no source of its base is split by folds|is no fold"),
        (
            [{"split": {"folds": 3}}, {"seed": 9, "split": {"test": ["1"]}}],
            r"sources\[1\] .* has a test that is no",
        ),
        ([{"split": {"train": ["0", "1"], "validation": ["2"]}}], "no source of its base is split by folds"),
        (
            [{"split": {"folds": 3}}, {"seed": 9, "split": {"folds": 2}}],
            r"\[0\] \(synthetic\) has 3, .*\[1\] .* has 2",
        ),
    ],
)
def test_bases_without_folds(
    files: Path, tiny: dict[str, Any], more: list[dict[str, Any]], message: str
) -> None:
    tiny["data"]["sources"] = [tiny["data"]["sources"][0] | {"split": {}} | one for one in more]
    (files / "base.yaml").write_text(yaml.safe_dump(tiny))
    with pytest.raises(ConfigError, match=message):
        run(files)


ABLATION = {
    "variations": [],
    "ablation": {
        "dropout": {"model": {"dropout": 0}},
        "width": {"model": {"channels": 2}},
    },
}


def test_ablation(files: Path) -> None:
    study = run(files, **ABLATION)
    names = ["full", "without-dropout", "without-width"]
    assert [row.variation for row in rows(study)] == ["zero-filled", *names]
    assert [row.labels for row in rows(study)][2] == {"left out": "dropout"}
    found = [one for one in differences(study) if one.measure == "psnr"]
    assert [(one.variation, one.against) for one in found] == [("full", name) for name in names[1:]]
    means = {row.variation: row.means["psnr"] for row in rows(study)}
    for one in found:
        assert one.mean == pytest.approx(means["full"] - means[one.against])
        assert one.people is not None
        assert one.people.low is not None
        assert one.people.low <= one.people.mean <= (one.people.high or 0)
    write_study(study, files / "out")
    assert "What each part is worth" in (files / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"variations": [], "ablation": {"nothing": {"max_steps": 1}}},
            "ablation 'without-nothing' changes nothing",
        ),
        (ABLATION | {"variations": [{"name": "a"}]}, "there are variations and ablation"),
        ({"variations": []}, "there is none"),
        ({"variations": [], "ablation": {"a b": {}}}, r"ablation"),
    ],
)
def test_ablations_that_cannot_be(files: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(files, **settings)


def test_time_left() -> None:
    assert time_left(0, 0, 3) == ""
    assert time_left(60, 1, 0) == ""
    assert time_left(20, 2, 3) == ", less than a minute left"
    assert time_left(600, 2, 3) == ", about 15 min left"
    assert time_left(3600, 1, 2) == ", about 2.0 h left"


def test_shipped_study(slice_cache: Path) -> None:
    configs = Path(__file__).resolve().parents[3] / "training" / "configs"
    study, base, training = load_study(configs / "study-folds.yaml")
    assert study.folds is not None
    n_folds = count_folds(training.data, study.folds)
    check_samples(training.data, study.samples, n_folds)
    planned = plan(study, base, configs, n_folds)
    assert len(planned) == 15
    assert {one.variation.name for one in planned} == {
        "full",
        "without-second-cascade",
        "without-averaged-weights",
    }
