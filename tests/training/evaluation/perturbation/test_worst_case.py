from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.sparse.linalg import LinearOperator, svds

from scanside.errors import ConfigError
from scanside_training.config import read_config
from scanside_training.evaluation.candidates.base import Candidate, Traceable
from scanside_training.evaluation.candidates.classical import CgSense, GrappaFill
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.perturbation.config import WorstCaseConfig
from scanside_training.evaluation.perturbation.worst_case import Adversary, Imaging, Worst
from scanside_training.evaluation.problem import Problem
from scanside_training.trainer import train

Scan = Callable[..., Case]

L2 = 0.02


def attacked(case: Case, candidate: Candidate, **settings: Any) -> tuple[Worst, Adversary, list[Problem]]:
    """The worst change, and all problems that an image was made of."""
    assert case.problem is not None
    seen: list[Problem] = []

    def image(problem: Problem) -> torch.Tensor:
        seen.append(problem)
        return candidate.job(Case("x", {}, case.whole, case.inside, case.roi, problem))()

    config = WorstCaseConfig(**{"l2": L2, "iterations": 100, **settings})
    adversary = Adversary(case, case.problem, config, seed=5)
    imaging: Imaging = image
    return adversary.attack(candidate, imaging), adversary, seen


def test_of_a_full_scan_nothing_is_worse_than_anything(scan: Scan) -> None:
    """CG-SENSE is ``Aᴴ δ / (1 + l2)`` there, and its gain ``1 / (1 + l2)``."""
    worst, adversary, _ = attacked(scan(), CgSense(l2=L2, iterations=100), steps=60, step=2.0)
    assert max(worst.found) == pytest.approx(1, abs=0.02)
    assert max(worst.found) <= 1.001
    assert adversary.reference_worst == pytest.approx(max(worst.found), rel=1e-3)
    assert worst.random < 0.6  # most of a random change is combined away, and lies in the air


@pytest.mark.slow
def test_the_worst_of_cg_sense_is_its_largest_singular_value(scan: Scan, third: torch.Tensor) -> None:
    case = scan(third)
    problem = case.problem
    assert problem is not None
    shape, n_inside = problem.maps.shape, int(case.roi.sum())

    def forward(flat: Any) -> Any:
        samples = torch.from_numpy(np.asarray(flat).reshape(shape).astype(np.complex64))
        made: torch.Tensor = Problem(
            problem.mask, problem.maps, problem.image_of(samples), problem.noise
        ).cg_sense(L2, 100)
        return made.numpy()[case.roi]

    def backward(flat: Any) -> Any:
        image = torch.zeros(shape[1:], dtype=torch.complex64)
        image[torch.from_numpy(case.roi)] = torch.from_numpy(np.asarray(flat).ravel().astype(np.complex64))
        solved = Problem(problem.mask, problem.maps, image, problem.noise).cg_sense(L2, 100)
        return problem.samples_of(solved).numpy().ravel()

    operator = LinearOperator((n_inside, problem.maps.numel()), forward, backward, dtype=np.complex64)
    (largest,) = svds(operator, k=1, return_singular_vectors=False, rng=np.random.default_rng(0))
    gain = (np.abs(problem.cg_sense(L2, 100).numpy()) * case.inside).sum() / (case.inside**2).sum()
    worst, _, _ = attacked(case, CgSense(l2=L2, iterations=100), steps=50, step=4.0, restarts=1)
    assert max(worst.found) == pytest.approx(largest / gain, rel=0.02)
    assert max(worst.found) <= 1.002 * largest / gain
    assert worst.random < 0.5 * max(worst.found)


def test_changes_are_as_long_as_the_bound(scan: Scan, third: torch.Tensor) -> None:
    case = scan(third)
    _, adversary, seen = attacked(case, CgSense(l2=L2), epsilon=0.5, steps=3, restarts=3)
    problem = case.problem
    assert problem is not None
    assert problem.kspace is not None
    n_samples = 4 * int(third.sum()) * case.inside.shape[1]
    assert adversary.bound == pytest.approx(0.5 * float(problem.noise) * np.sqrt(2 * n_samples))
    for one in seen[1:]:
        assert one.kspace is not None
        change = one.kspace - problem.kspace
        assert float(torch.linalg.vector_norm(change)) == pytest.approx(adversary.bound, rel=1e-4)
        assert not change[:, ~third].any()
    assert len(seen) == 1 + 3 + 3


def test_candidates_without_gradients_are_told(scan: Scan, third: torch.Tensor) -> None:
    worst, _, _ = attacked(scan(third, noisy=True), GrappaFill(), steps=2)
    assert worst.found == ()
    assert worst.random > 0


@pytest.fixture
def run(tiny: dict[str, Any], tmp_path: Path, slice_cache: Path, one_thread: None, request: Any) -> Path:
    """Folder of a run of a network of two coils."""
    model = {"kind": request.param, "n_cascades": 2, "channels": 4, "pools": 1}
    simulation = tiny["data"]["simulation"] | {
        "task": {"kind": "unrolled"}, "coils": {"n_coils": [2, 2], "measured": 0}
    }  # fmt: skip
    settings = tiny | {"model": model, "data": tiny["data"] | {"simulation": simulation}, "max_steps": 1}
    train(read_config(settings, "tiny"), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("run", ["unrolled", "exact"], indirect=True)
def test_a_network_is_misled_by_its_gradient(scan: Scan, third: torch.Tensor, run: Path) -> None:
    case, candidate = scan(third, noisy=True), Run(folder=run).open()
    problem = case.problem
    assert problem is not None
    assert isinstance(candidate, Traceable)
    traced = candidate.traced(case)
    torch.testing.assert_close(traced.detach(), candidate.job(case)(), rtol=1e-4, atol=1e-5)

    # The gradient predicts what a small change does.
    adjoint = problem.adjoint.clone().requires_grad_()
    held = Case(
        "x", {}, case.whole, case.inside, case.roi, Problem(third, problem.maps, adjoint, problem.noise)
    )
    weights = torch.randn(traced.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((candidate.traced(held).abs() * weights).sum(), adjoint)
    small = 1e-3 * gradient / torch.linalg.vector_norm(gradient)
    ends = []
    for sign in (1, -1):
        moved = Problem(third, problem.maps, problem.adjoint + sign * small, problem.noise)
        image = candidate.job(Case("x", {}, case.whole, case.inside, case.roi, moved))()
        ends.append(float((image.abs().double() * weights).sum()))
    predicted = 2e-3 * float(torch.linalg.vector_norm(gradient))
    assert ends[0] - ends[1] == pytest.approx(predicted, rel=0.1)

    worst, adversary, _ = attacked(case, candidate, steps=8, epsilon=0.2)
    assert len(worst.found) == 2
    assert max(worst.found) > 1.2 * worst.random
    assert 0 < worst.reference_there <= 1.05 * adversary.reference_worst
    assert worst.change.shape == worst.reference_change.shape == case.inside.shape


def test_the_region_is_where_changes_count(scan: Scan, third: torch.Tensor) -> None:
    case = scan(third)
    whole, _, _ = attacked(case, CgSense(l2=L2), steps=8, restarts=1)
    part, _, _ = attacked(case, CgSense(l2=L2), steps=8, restarts=1, region=(20.0, 25.0, 6.0))
    assert max(part.found) < max(whole.found)
    near = np.hypot(*np.ogrid[-20:24, -25:25]) <= 3
    assert float(np.linalg.norm(part.change[near])) > 0.3 * float(np.linalg.norm(part.change))
    with pytest.raises(ConfigError, match=r"region at \(2, 2\).*does not lie in the object"):
        attacked(case, CgSense(), region=(2.0, 2.0, 3.0))
    with pytest.raises(ConfigError, match=r"region at \(90, 2\).*does not lie in the object"):
        attacked(case, CgSense(), region=(90.0, 2.0, 3.0))


@pytest.mark.parametrize("epsilon", [0.0, -1.0])
def test_a_bound_that_cannot_be(epsilon: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        WorstCaseConfig(epsilon=epsilon)


def test_without_noise_there_is_no_bound(scan: Scan) -> None:
    with pytest.raises(ConfigError, match="boxes has no noise, to which the bound"):
        attacked(scan(noise=0.0), CgSense())
