"""Whole analyses: with what is known of detectability, as part of an evaluation, and with what cannot be."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from scanside.errors import ConfigError, FormatError
from scanside_training.evaluation import compare, load_evaluation, write_evaluation
from scanside_training.evaluation.candidates.base import Candidate, Job, Silent
from scanside_training.evaluation.candidates.classical import CgSense, ZeroFilled
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.perturbation import PerturbationConfig, Perturbed, perturb
from scanside_training.evaluation.perturbation.sheet import read_sheet
from scanside_training.evaluation.perturbation.structures import StructuresConfig
from scanside_training.evaluation.perturbation.worst_case import WorstCaseConfig

Scan = Callable[..., Case]

pytestmark = pytest.mark.usefixtures("one_thread")


class Cases:
    """Cases that are there already."""

    def __init__(self, *cases: Case) -> None:
        self._cases = cases

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, number: int) -> Case:
        return self._cases[number]

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)


class Broken(Silent):
    """A candidate that reconstructs nothing."""

    n_parameters = None
    timed = False
    facts: dict[str, str] = {}  # noqa: RUF012

    def job(self, case: Case) -> Job:
        raise ConfigError(f"{case.name} is too much for this one")


def structures(**settings: Any) -> StructuresConfig:
    return StructuresConfig(
        **{"diameters": (3.0,), "contrasts": (0.1,), "places": 2, "realisations": 0, **settings}
    )


def perturbed(case: Case, config: StructuresConfig, **candidates: Candidate) -> Perturbed:
    return perturb(PerturbationConfig(structures=config), Cases(case), candidates)


def test_detectability_in_white_noise_is_the_norm_of_the_structure(scan: Scan) -> None:
    """``d' = ‖s‖ / σ`` where all lines are there and maps are normalised: noise is white then in the image."""
    config = structures(realisations=150, contrasts=(0.05, -0.05), diameters=(2.0,), places=((24.0, 30.0),))
    case = scan(noise=0.04)
    result = perturbed(case, config, full=ZeroFilled())
    (disc,) = {one.structure.diameter: one for one in _added(case, config)}.values()
    expected = 0.05 * float(np.linalg.norm(disc.profile)) / 0.04
    for one in result.responses:
        assert one.detectability == pytest.approx(expected, rel=0.12)
        assert one.measured.kept == pytest.approx(1, abs=1e-3)
    assert {one.contrast for one in result.responses} == {0.05, -0.05}


def _added(case: Case, config: StructuresConfig) -> Any:
    from scanside_training.evaluation.perturbation.structures import added_to

    assert case.problem is not None
    return added_to(case, case.problem, config)


def test_a_method_that_blurs_detects_less_than_it_keeps(scan: Scan, third: torch.Tensor) -> None:
    """Noise that undersampling amplifies hides what is kept."""
    config = structures(realisations=40, contrasts=(0.2,), diameters=(2.0,), places=((24.0, 30.0),))
    full = perturbed(scan(), config, one=CgSense()).responses[0]
    less = perturbed(scan(third), config, one=CgSense()).responses[0]
    assert full.detectability is not None
    assert less.detectability is not None
    assert less.detectability < 0.8 * full.detectability
    assert full.auc == 1


def test_one_that_fails_stops_no_other(scan: Scan) -> None:
    told: list[int] = []
    config = PerturbationConfig(structures=structures(), worst_case=WorstCaseConfig(steps=1, restarts=1))
    candidates: dict[str, Candidate] = {"broken": Broken(), "full": ZeroFilled()}
    result = perturb(config, Cases(scan()), candidates, on_unit=lambda: told.append(1))
    assert (
        {one.candidate for one in result.responses} == {"full"} == {one.candidate for one in result.attacked}
    )
    assert [(one.candidate, one.reason) for one in result.failures] == [
        ("broken", "structures: boxes is too much for this one"),
        ("broken", "worst case: boxes is too much for this one"),
    ]
    assert len(told) == 2 + 1


def test_cases_are_spread_over_the_data(scan: Scan) -> None:
    cases = Cases(*(replace(scan(), name=f"case {number}") for number in range(5)))
    config = PerturbationConfig(structures=structures(), cases=2)
    result = perturb(config, cases, {"full": ZeroFilled()})
    assert result.cases == ["case 1", "case 3"]
    (row,) = result.rows
    assert (row.n, row.deviations["kept"]) == (4, pytest.approx(0, abs=1e-3))


def test_nothing_that_could_be_perturbed(scan: Scan) -> None:
    case = scan()
    with pytest.raises(ConfigError, match=r"boxes is an image without coil maps.*no candidate takes k-space"):
        perturbed(replace(case, problem=None), structures(), full=ZeroFilled())
    film = np.stack([case.whole] * 2)
    with pytest.raises(ConfigError, match="boxes is a film"):
        perturbed(replace(case, problem=None, whole=film, inside=film), structures(), full=ZeroFilled())
    with pytest.raises(ConfigError, match=r"no candidate takes perturbed k-space.*broken: .*too much"):
        perturbed(case, structures(), broken=Broken())
    with pytest.raises(ConfigError, match="no noise, without which detectability says nothing"):
        perturbed(scan(noise=0.0), structures(realisations=3), full=ZeroFilled())


def test_a_structure_outside_is_told_before_anything_is_made(scan: Scan) -> None:
    config = structures(places=((3.0, 25.0),))
    with pytest.raises(ConfigError, match="does not lie in the object"):
        perturbed(scan(), config, broken=Broken())


@pytest.fixture
def document(scan_folder: Path) -> dict[str, Any]:
    return {
        "name": "test",
        "data": {"kind": "cfl", "root": str(scan_folder), "kspace": "scan/full", "masks": {"half": "scan/half.npy"}},
        "candidates": [
            {"kind": "cg-sense", "iterations": 30},
            {"kind": "grappa"},
            {"kind": "pipeline", "pipeline": "sense"},
        ],
        "perturbation": {
            "structures": {"diameters": [2, 4], "contrasts": [0.3], "places": 2, "realisations": 3},
            "worst_case": {"epsilon": 0.5, "steps": 3, "restarts": 1},
        },
        "pictures": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_an_evaluation_with_perturbed_scans(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(document))
    seen: list[tuple[int, int | None]] = []
    result = compare(load_evaluation(path), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3 + 3 * 5, 3 + 3 * 5)
    assert result.failures == []
    assert result.perturbation is not None
    rows = {(one.candidate, one.diameter): one for one in result.perturbation.rows}
    assert set(rows) == {(name, d) for name in ("CG-SENSE", "GRAPPA", "pipeline sense") for d in (2.0, 4.0)}
    for row in rows.values():
        assert row.means["kept"] == pytest.approx(1, abs=0.15)
        assert row.means["displacement"] < 0.2
        assert row.means["detectability"] > 2
    attacked = {one.candidate: one for one in result.perturbation.attacked}
    worst = attacked["CG-SENSE"].worst
    assert worst is not None
    assert worst >= attacked["CG-SENSE"].random
    assert attacked["GRAPPA"].worst is None
    assert "no gradient" in attacked["GRAPPA"].note

    folder = tmp_path / "out"
    write_evaluation(result, folder)
    html = (folder / "report.html").read_text("utf-8")
    for text in ("Small structures", "Worst changes", "no gradient goes through it", "non-prewhitening"):
        assert text in html
    with (folder / "perturbation.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert float(table[0]["kept_mean"]) == pytest.approx(rows["CG-SENSE", 2.0].means["kept"])
    with (folder / "responses.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 * 4
    with (folder / "worst-case.csv").open(newline="", encoding="utf-8") as file:
        assert [row["worst"] == "" for row in csv.DictReader(file)] == [False, True, True]
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert {name for name in pictures if name.startswith("perturbation")} == {
        "perturbation-curves.png",
        "perturbation-responses.png",
        "perturbation-worst.png",
    }
    assert "perturbation" in json.loads((folder / "results.json").read_text("utf-8"))

    sheet = read_sheet(folder / "perturbation.json", ("other", "GRAPPA"))
    text = sheet.markdown("picture.png")
    assert "| **GRAPPA** | 2 | +0.3 |" in text
    assert "| CG-SENSE | 4 | +0.3 |" in text
    assert "added to 1 scan (" in text
    assert "at 2 places" in text
    assert "![" in text
    sheet.draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(
        ConfigError, match="tells of CG-SENSE, GRAPPA, pipeline sense, and of none named mine"
    ):
        read_sheet(folder / "perturbation.json", ("mine",))


def test_blocks_that_cannot_be(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"

    def load(**perturbation: Any) -> None:
        path.write_text(yaml.safe_dump(document | {"perturbation": perturbation}))
        load_evaluation(path)

    with pytest.raises(ConfigError, match="give 'structures', 'worst_case' or both"):
        load()
    with pytest.raises(ConfigError, match=r"perturbation\.worst_case\.epsilon"):
        load(worst_case={"epsilon": -1})
    with pytest.raises(ConfigError, match="a contrast of 0 adds nothing"):
        load(structures={"diameters": [2], "contrasts": [0]})
    with pytest.raises(ConfigError, match=r"diameters"):
        load(structures={"diameters": [-2], "contrasts": [0.1]})
    with pytest.raises(ConfigError, match=r"has no setting 'diameter'.*did you mean 'diameters'"):
        load(structures={"diameter": [2], "contrasts": [0.1]})


def test_files_that_are_no_analysis(tmp_path: Path) -> None:
    path = tmp_path / "perturbation.json"
    with pytest.raises(ConfigError, match="does not exist: 'scanside evaluate' writes"):
        read_sheet(path, ("mine",))
    for text in ("{", "[]", '{"structures": [{}], "config": {}}'):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"is no perturbation\.json"):
            read_sheet(path, ("mine",))
    path.write_text('{"structures": [], "config": {"structures": null}}')
    with pytest.raises(ConfigError, match="tells nothing of structures"):
        read_sheet(path, ("mine",))
