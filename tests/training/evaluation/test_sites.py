"""Scans of other sites: factors are balanced, and a raw stream leads to the truth that comes with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from scanside.metrics import psnr
from scanside_training.evaluation.candidates.classical import CgSense
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.config import EvaluationConfig, load_evaluation
from scanside_training.evaluation.floor import verdicts
from scanside_training.evaluation.measured import CflData
from scanside_training.evaluation.run import compare
from scanside_training.evaluation.sites import OtherSitesData
from scanside_training.evaluation.sites.arrays import drawn_maps
from scanside_training.evaluation.sites.data import OtherSitesCases
from scanside_training.evaluation.sites.objects import drawn_object
from scanside_training.evaluation.sites.plan import Array, Object, SitePlan, planned

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = Path(__file__).parents[3] / "training" / "configs" / "evaluate-other-sites.yaml"

PLAN = SitePlan(
    number=1,
    object="knee",
    n_coils=4,
    array="unequal",
    lines=64,
    aspect=1.25,
    acceleration=2,
    pattern="regular",
    acs=16,
    snr=60,
    noise="correlated",
    extent="within",
    swapped=False,
)


def case_of(plan: SitePlan) -> Case:
    cases = OtherSitesCases(OtherSitesData(scans=24))
    cases._plans = (plan,)
    return cases[0]


@pytest.mark.parametrize("count", [24, 60, 72])
def test_every_level_is_seen_equally_often(count: int) -> None:
    plans = planned(count, 0)
    assert all(plan.is_possible for plan in plans)
    for factor in PLAN.strata:
        counts = Counter(getattr(plan, factor) for plan in plans)
        assert max(counts.values()) - min(counts.values()) <= 1, factor
    assert planned(count, 0) == plans != planned(count, 1)


def test_lines_suffice_for_what_is_planned() -> None:
    assert PLAN.is_possible
    assert not replace(PLAN, pattern="random", acceleration=4).is_possible
    assert not replace(PLAN, array="measured", n_coils=1).is_possible
    assert PLAN.columns == 80
    assert replace(PLAN, aspect=0.75).columns == 64


def test_the_quick_ones_need_no_data(tmp_path: Path) -> None:
    plans = OtherSitesData(quick=True, root=tmp_path).plans
    assert len(plans) == 10
    assert not any(plan.needs_data for plan in plans)
    # They are scans of the long list, as they are there.
    assert set(plans) < set(OtherSitesData().plans)


@pytest.mark.parametrize("kind", [one for one in get_args(Object) if "measured" not in one])
def test_objects_are_drawn(kind: Any) -> None:
    one, again, other = (drawn_object(kind, None, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)
    assert one.is_complex()
    assert bool(torch.isfinite(one.abs()).all())
    occupied = one.abs() > 0.05 * one.abs().max()
    assert 0.05 < float(occupied.float().mean()) < 0.9


@pytest.mark.parametrize("kind", [one for one in get_args(Array) if one != "measured"])
@pytest.mark.parametrize("n_coils", [1, 4, 32])
def test_coils_hear_differently_and_the_object_everywhere(kind: Any, n_coils: int) -> None:
    maps = drawn_maps(kind, n_coils, (300.0, 240.0), (90.0, 80.0), (60, 48), None, np.random.default_rng(3))
    assert maps.shape == (n_coils, 60, 48)
    inside = maps[:, 12:48, 8:40]  # of the object's extent
    power = inside.abs().square().sum(0)
    assert float(power.min()) > 0
    flat = inside.flatten(1)
    assert int(torch.linalg.matrix_rank(flat @ flat.mH, hermitian=True, rtol=1e-6)) >= min(n_coils, 4)


def test_measured_arrays_and_objects(shared_data: Path) -> None:
    maps = drawn_maps("measured", 8, (300, 300), (90, 90), (60, 48), shared_data, np.random.default_rng(3))
    assert maps.shape == (8, 60, 48)
    for kind in ("t2-measured", "chest-measured"):
        assert drawn_object(kind, shared_data, np.random.default_rng(1)).ndim == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_the_scan_leads_to_its_truth(swapped: bool) -> None:
    case = case_of(replace(PLAN, swapped=swapped, snr=1000))
    assert case.whole.shape == (64, 80)
    assert case.problem is not None
    assert case.recorded is not None
    assert 64 / 2 < int(case.problem.mask.sum()) < 64
    pipeline = PipelineRun(pipeline="sense").open().job(case)()
    ours = CgSense(l2=1e-4, iterations=50).open().job(case)()
    for image in (pipeline, ours):
        assert psnr(image.abs().numpy(), case.whole) > 30
    assert psnr(np.roll(pipeline.numpy(), 2, 0), case.whole) < 27


def test_noise_is_white_after_its_measurement_and_as_strong_as_planned() -> None:
    case = case_of(PLAN)
    assert case.problem is not None
    assert float(case.problem.noise) == pytest.approx(1, rel=0.1)
    bright = np.quantile(case.whole, 0.99)
    assert 0.7 * PLAN.snr < bright < 1.6 * PLAN.snr


def test_tissue_ends_where_it_is_planned() -> None:
    ends = {extent: case_of(replace(PLAN, extent=extent, object="body")) for extent in ("within", "beyond")}
    rim = {extent: float(case.whole[[0, -1]].max() / case.whole.max()) for extent, case in ends.items()}
    assert rim["within"] < 0.05 < 0.2 < rim["beyond"]


def test_one_side_only_is_told_by_the_stream() -> None:
    case = case_of(replace(PLAN, pattern="one-sided", lines=96))
    assert case.problem is not None
    lines = case.problem.mask.nonzero().flatten()
    assert min(int(lines[0]), 95 - int(lines[-1])) == 0 or int(lines[-1] - lines[0]) < 80
    assert int(lines[-1] - lines[0]) < 0.8 * 96


def test_measured_scans_come_last(scan_folder: Path) -> None:
    measured = CflData(root=scan_folder, kspace=Path("scan/full"), masks={"half": Path("scan/half.npy")})
    cases = OtherSitesData(scans=24, measured=(measured,)).open()
    assert len(cases) == 25
    case = cases[24]
    assert case.name == "scan-half"
    assert case.strata == {"object": "scan", "n_coils": "4", "subject": "scan"}
    with pytest.raises(IndexError):
        cases[25]
    assert len(OtherSitesData(scans=72, measured=(measured,), quick=True).open()) == 10


def test_the_shipped_configuration_is_read() -> None:
    config = load_evaluation(CONFIG)
    assert isinstance(config.data, OtherSitesData)
    assert len(config.data.plans) == 72
    assert config.floor is not None
    assert "scans of other sites" in config.data.title


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_learned_pipelines_beside_classical_ones() -> None:
    document = load_evaluation(CONFIG).model_dump()
    document["candidates"] = [one for one in document["candidates"] if one["kind"] == "pipeline"]
    document["data"] |= {"quick": True, "measured": ()}
    document["floor"] |= {"tuned": None, "worst": 2}
    result = compare(EvaluationConfig.model_validate(document))
    assert result.config.floor is not None
    found = verdicts(result.scores, result.config.floor)
    assert len(found) == 20
    # Where a learned image is worse than a classical one, an operator can know.
    assert [one.case for one in found if one.is_worse and not one.is_told] == []
    assert len(result.worst) == 2
    assert all({"unrolled", "student"} <= set(shown.images) for shown in result.worst)
