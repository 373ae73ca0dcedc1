"""Whole searches, small ones: what they try, how they go on, and what they leave."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scanside.errors import ConfigError, NonFiniteError, RunError
from scanside_training.config import load_config
from scanside_training.study import Search, load_study, run_search, write_search
from scanside_training.study import training as study_training
from scanside_training.study.search_config import Distribution, set_at, trial_name
from scanside_training.study.search_report import trial_cells, trial_columns
from scanside_training.trainer import train

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")

GRID = {"grid": {"optimiser.lr": [0.01, 1e-6], "model.channels": [2, 4]}}
HALVED = {
    "random": {"optimiser.lr": {"log_uniform": [1e-5, 1e-1]}},
    "samples": 4,
    "asha": {"max_steps": 4, "grace": 2, "reduction": 2},
}


@pytest.fixture
def files(tiny: dict[str, Any], tmp_path: Path) -> Path:
    tiny["max_steps"] = 2
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tiny))
    return tmp_path


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool, int | None]]:
    """The trainings that are begun: name, whether it is resumed, and until when."""
    made: list[tuple[str, bool, int | None]] = []

    def told(config: Any, folder: Path, **options: Any) -> Any:
        made.append((folder.name, options["resume"], options["until"]))
        return train(config, folder, **options)

    monkeypatch.setattr(study_training, "train", told)
    return made


def search(files: Path, what: dict[str, Any], **others: Any) -> Search:
    document = {"name": "small", "base": "base.yaml", "search": what, **others}
    (files / "search.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    study, base, _ = load_study(files / "search.yaml")
    return run_search(study, base, files / "out")


def test_grid(files: Path, begun: list[Any]) -> None:
    steps: list[str] = []
    (files / "search.yaml").write_text(
        yaml.safe_dump({"name": "small", "base": "base.yaml", "search": GRID}, sort_keys=False)
    )
    study, base, _ = load_study(files / "search.yaml")
    result = run_search(study, base, files / "out", on_step=steps.append)
    assert [
        one.settings for one in sorted(result.trials, key=lambda one: begun.index((one.name, False, None)))
    ] == [{"optimiser.lr": lr, "model.channels": n} for lr in (0.01, 1e-6) for n in (2, 4)]
    assert [one.value for one in result.trials] == sorted((one.value for one in result.trials), reverse=True)
    best = result.trials[0]
    assert best.settings["optimiser.lr"] == 0.01, "weights that hardly move are no better"
    assert steps[0].startswith("trial 1 of 4: trial-")
    assert steps[-1].endswith("less than a minute left")

    write_search(result, files / "out")
    config = load_config(files / "out" / "best.yaml")
    assert (config.name, config.optimiser.lr, config.seed) == ("small-best", 0.01, 1)
    assert config.model_dump() | {"name": ""} == best.config.model_dump() | {"name": ""}
    with (files / "out" / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [one.name for one in result.trials]
    assert float(rows[0]["psnr"]) == best.value
    cells = dict(zip(trial_columns(result), trial_cells(result, best), strict=True))
    assert cells["optimiser.lr"] == "0.01"
    html = (files / "out" / "report.html").read_text("utf-8")
    assert "The test was not looked at" in " ".join(html.split())
    assert (files / "out" / "search.png").is_file()


def test_trained_from_the_best_settings(files: Path) -> None:
    result = search(files, {"grid": {"optimiser.lr": [0.02]}})
    write_search(result, files / "out")
    record = train(load_config(files / "out" / "best.yaml"), files / "again")
    assert record.validation["psnr"] == pytest.approx(result.trials[0].value)


def test_cut_off_in_the_middle_and_gone_on_with(
    files: Path, begun: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study_training.train

    def dying(config: Any, folder: Path, **options: Any) -> Any:
        if len(begun) == 2:
            raise KeyboardInterrupt
        return whole(config, folder, **options)

    monkeypatch.setattr(study_training, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        search(files, GRID)
    first = list(begun)
    monkeypatch.setattr(study_training, "train", whole)
    more = {"grid": GRID["grid"] | {"model.channels": [2, 4, 8]}}
    result = search(files, more)
    assert len(begun) == len({name for name, _, _ in begun}) == 6, (
        "none twice, and a larger grid has what there is"
    )
    assert begun[:2] == first
    assert len(result.trials) == 6


def test_halving(files: Path, begun: list[Any], tmp_path: Path) -> None:
    result = search(files, HALVED)
    at_first = [one for one in begun if one[2] == 2]
    assert len(at_first) == 4
    assert not any(resumed for _, resumed, _ in at_first)
    further = [(name, resumed) for name, resumed, until in begun if until == 4]
    assert 2 <= len(further) <= 3
    assert all(resumed for _, resumed in further)
    best = result.trials[0]
    assert (best.steps, len(best.values)) == (4, 2)
    stopped = [one for one in result.trials if one.steps == 2]
    assert {one.name for one in result.trials if one.steps == 4} == {name for name, _ in further}
    assert stopped
    assert result.best.validation.every_steps == 3, "the base's own"
    # A trial that was stopped and gone on with is the one that was never stopped: learning rates too.
    alone = train(best.config, tmp_path / "alone")
    assert alone.validation["psnr"] == pytest.approx(best.value, abs=1e-5)

    before = list(begun)
    again = search(files, HALVED)
    assert begun == before, "all decisions are made again from what was logged"
    assert [(one.name, one.values) for one in again.trials] == [
        (one.name, pytest.approx(one.values)) for one in result.trials
    ]
    write_search(again, files / "out")
    assert "asynchronous successive halving" in (files / "out" / "report.html").read_text("utf-8")


def test_halving_that_was_cut_off(files: Path, begun: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study_training.train

    def dying(config: Any, folder: Path, **options: Any) -> Any:
        if len(begun) == 3:
            raise KeyboardInterrupt
        return whole(config, folder, **options)

    monkeypatch.setattr(study_training, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        search(files, HALVED)
    monkeypatch.setattr(study_training, "train", whole)
    search(files, HALVED)
    jobs = [(name, until) for name, _, until in begun]
    assert len(set(jobs)) == len(jobs)
    assert len([one for one in jobs if one[1] == 2]) == 4


def test_a_trial_that_fails_stops_no_other(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: Any, folder: Path, **options: Any) -> Any:
        if config.optimiser.lr == 0.01:
            raise NonFiniteError("the loss became NaN")
        return train(config, folder, **options)

    monkeypatch.setattr(study_training, "train", fails)
    result = search(files, {"grid": {"optimiser.lr": [0.01, 0.001]}})
    assert [one.failure for one in result.trials] == [None, "the loss became NaN"]
    assert result.trials[0].settings == {"optimiser.lr": 0.001}
    write_search(result, files / "out")
    with pytest.raises(RunError, match="no trial of 'small' could be trained: the loss became NaN"):
        search(files, {"grid": {"optimiser.lr": [0.01]}})


def test_errors_are_better_when_lower(files: Path) -> None:
    result = search(files, GRID | {"metric": "nmse"})
    values = [one.value for one in result.trials]
    assert values == sorted(values)


def test_draws() -> None:
    rng = np.random.default_rng(0)
    drawn = [Distribution(log_uniform=(1e-4, 1e-2)).draw(rng) for _ in range(400)]
    assert min(drawn) >= 1e-4
    assert max(drawn) <= 1e-2
    assert np.median(drawn) == pytest.approx(1e-3, rel=0.3)
    assert {Distribution(integers=(2, 4)).draw(rng) for _ in range(50)} == {2, 3, 4}
    assert {Distribution(choice=("a", None)).draw(rng) for _ in range(50)} == {"a", None}
    assert np.mean([Distribution(uniform=(0, 2)).draw(rng) for _ in range(400)]) == pytest.approx(1, abs=0.1)


def test_more_samples_begin_with_the_same() -> None:
    from scanside_training.study.search_config import SearchConfig

    few, many, other = (
        SearchConfig.model_validate(
            {"random": {"a": {"uniform": [0, 1]}, "b": {"integers": [0, 9]}}, "samples": n, "seed": seed}
        ).trials()
        for n, seed in ((3, 0), (6, 0), (3, 1))
    )
    assert many[:3] == few
    assert other != few
    assert len(SearchConfig.model_validate({"grid": {"a": [1, 2, 1]}}).trials()) == 2
    assert len({trial_name(one) for one in many}) == 6


def test_paths() -> None:
    document = {"loss": {"terms": [{"kind": "l1"}, {"kind": "ssim", "weight": 1}]}, "model": {"channels": 2}}
    assert set_at(document, "loss.terms.1.weight", 0.5)["loss"]["terms"] == [
        {"kind": "l1"},
        {"kind": "ssim", "weight": 0.5},
    ]
    assert set_at(document, "schedule.warmup_steps", 3) == document | {"schedule": {"warmup_steps": 3}}
    assert document["loss"]["terms"][1]["weight"] == 1  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"'loss\.terms\.2\.weight' asks for '2' of a list of 2"):
        set_at(document, "loss.terms.2.weight", 1)
    with pytest.raises(ConfigError, match=r"'model\.channels\.x' asks for 'x' of 2, which has no settings"):
        set_at(document, "model.channels.x", 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": {"a": [1]}, "random": {"b": {"uniform": [0, 1]}}}, "give settings once: as 'grid' or as"),
        ({"metric": "psnr"}, "give settings once"),
        ({"random": {"a": {"uniform": [0, 1]}}}, "'samples' goes with 'random'"),
        ({"grid": {"a": [1]}, "samples": 3}, "'samples' goes with 'random'"),
        ({"grid": {"a": []}}, r"search\.grid.*at least 1 item"),
        ({"random": {"a": {"uniform": [1, 0]}}, "samples": 1}, "a range is"),
        ({"random": {"a": {"uniform": [0, 1], "choice": [2]}}, "samples": 1}, "choice and uniform"),
        ({"random": {"a": {"log_uniform": [0, 1]}}, "samples": 1}, "between numbers above 0"),
        ({"random": {"a": {"normal": [0, 1]}}, "samples": 1}, "has no setting 'normal'"),
        (GRID | {"metric": "psnrr"}, r"search\.metric = 'psnrr'"),
        (GRID | {"asha": {"max_steps": 4, "grace": 4}}, "no trial would be stopped early"),
        (GRID | {"asha": {"max_steps": 40, "grace": 2}}, "of 4 trials none would reach max_steps.* need 27"),
        ({"grid": {"model.chanels": [1]}}, r"trial with model\.chanels 1: model has no setting 'chanels'"),
        ({"grid": {"max_steps.x": [1]}}, "which has no settings"),
    ],
)
def test_searches_that_cannot_work(
    files: Path, begun: list[Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        search(files, settings)
    assert not begun


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"seeds": [1, 2]}, "a search trains each trial with one seed"),
        ({"comparisons": [], "samples": 3}, "that it has no comparisons, samples"),
        (
            {"variations": [{"name": "a"}]},
            "give one of variations, ablation and search; there are variations and",
        ),
    ],
)
def test_studies_that_are_no_searches(files: Path, others: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(files, GRID, **others)


def test_halving_a_base_that_ends_by_itself(files: Path) -> None:
    with pytest.raises(ConfigError, match="the base may end it earlier: set max_minutes and"):
        search(files, HALVED, settings={"max_minutes": 1})


def test_a_figure_that_no_validation_has(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_inside(config: Any, folder: Path, **options: Any) -> Any:
        record = train(config, folder, **options)
        return record.model_copy(update={"validation": {"psnr": record.validation["psnr"]}})

    monkeypatch.setattr(study_training, "train", without_inside)
    with pytest.raises(ConfigError, match="validations have no psnr_inside; they have psnr"):
        search(files, GRID | {"metric": "psnr_inside"})
    assert len(list((files / "out" / "runs").iterdir())) == 1, "found out by the first trial"


def test_shipped_search() -> None:
    configs = Path(__file__).resolve().parents[3] / "training" / "configs"
    study, _, training = load_study(configs / "search.yaml")
    assert study.search is not None
    assert study.search.asha is not None
    assert study.search.asha.rungs == (15, 45, 135)
    assert len(study.search.trials()) == 9
    assert training.data.sources[0].kind == "synthetic"
