"""Responses of methods of which it is known what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import fourier_gaussian, fourier_shift

from scanside.errors import ScanError
from scanside.metrics import Real
from scanside_training.evaluation.candidates.classical import CgSense
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.perturbation.responses import (
    Measured,
    Reading,
    measured,
    replica_shifts,
)
from scanside_training.evaluation.perturbation.structures import Added, StructuresConfig, added_to
from scanside_training.evaluation.problem import Problem

Scan = Callable[..., Case]


def discs(case: Case, *places: tuple[float, float], edge: float = 0.0, diameter: float = 4.0) -> list[Added]:
    assert case.problem is not None
    config = StructuresConfig(diameters=(diameter,), contrasts=(-0.4,), places=places, edge=edge)
    return added_to(case, case.problem, config)


def response(case: Case, added: Added, make: Callable[[Problem], torch.Tensor]) -> Measured:
    problem = case.problem
    assert problem is not None
    without = make(problem)
    reading = Reading.of(without, case.inside, case.roi)
    change = reading.change(make(problem.plus(problem.samples_of(added.image))), without)
    return measured(change, reading.seen(change), added, replica_shifts(problem.mask))


def cg(problem: Problem, l2: float = 0.01) -> torch.Tensor:
    return problem.cg_sense(l2, 60)


@pytest.mark.parametrize("make", [lambda problem: problem.adjoint, cg], ids=["zero-filled", "cg-sense"])
@pytest.mark.parametrize("noisy", [False, True])
def test_linear_methods_keep_all_of_a_full_scan(
    scan: Scan, make: Callable[[Problem], torch.Tensor], noisy: bool
) -> None:
    case = scan(noisy=noisy)
    for added in discs(case, (24.0, 30.0), (20.4, 25.7)):
        found = response(case, added, make)
        # With noise, the phase of a pixel is known to NOISE / signal, whose cosine is kept.
        assert found.kept == pytest.approx(1, abs=2e-3)
        assert found.displacement == pytest.approx(0, abs=5e-3)
        assert found.blurring == pytest.approx(0, abs=5e-3)
        assert found.elsewhere < 1e-5
        assert found.replicas is None


def test_a_gain_counts_for_nothing(scan: Scan) -> None:
    case = scan()
    (added,) = discs(case, (24.0, 30.0))
    assert response(case, added, lambda problem: 700 * problem.adjoint).kept == pytest.approx(1, abs=1e-3)
    magnitude = response(case, added, lambda problem: 0.01 * problem.adjoint.abs())
    assert magnitude.kept == pytest.approx(1, abs=1e-3)


def test_undersampling_is_seen(scan: Scan, third: torch.Tensor) -> None:
    case = scan(third)
    (added,) = discs(case, (24.0, 30.0), diameter=2.0)
    zero_filled, solved = response(case, added, lambda one: one.adjoint), response(case, added, cg)
    assert zero_filled.kept < solved.kept - 0.1
    assert zero_filled.elsewhere > 3 * solved.elsewhere


def test_superposition_holds_for_linear_methods(scan: Scan, third: torch.Tensor) -> None:
    problem = scan(third, noisy=True).problem
    assert problem is not None
    case = scan(third)
    first, second = discs(case, (24.0, 30.0), (25.0, 31.0))

    def change(*added: Added) -> torch.Tensor:
        samples = sum(problem.samples_of(one.image) for one in added)
        assert isinstance(samples, torch.Tensor)
        # The solution is what is linear: steps that end early are not quite.
        return problem.plus(samples).cg_sense(0.01, 300) - problem.cg_sense(0.01, 300)

    both, apart = change(first, second), change(first) + change(second)
    torch.testing.assert_close(both, apart, rtol=0, atol=2e-3 * float(apart.abs().max()))
    # A method that is not linear fails this by far more.
    shrunk = torch.nn.functional.softshrink
    adjoint = [problem.plus(problem.samples_of(one.image)).adjoint.abs() for one in (first, second)]
    with_both = problem.plus(problem.samples_of(first.image + second.image)).adjoint.abs()
    parts = sum(shrunk(one, 0.6) - shrunk(problem.adjoint.abs(), 0.6) for one in adjoint)
    assert isinstance(parts, torch.Tensor)
    other = shrunk(with_both, 0.6) - shrunk(problem.adjoint.abs(), 0.6)
    assert float((other - parts).abs().max()) > 0.01 * float(parts.abs().max())


@pytest.mark.parametrize("shift", [(0.3, 0.0), (-0.45, 0.6), (1.25, -0.8)])
def test_a_shift_by_parts_of_a_pixel_is_found(scan: Scan, shift: tuple[float, float]) -> None:
    case = scan()
    (added,) = discs(case, (24.0, 30.0), edge=1.0)

    def moved(problem: Problem) -> torch.Tensor:
        # The object stays, by which a change is read; what was added moves.
        assert case.problem is not None
        change = (problem.adjoint - case.problem.adjoint).numpy()
        there = np.fft.ifft2(fourier_shift(np.fft.fft2(change), shift))
        return case.problem.adjoint + torch.from_numpy(there).to(torch.complex64)

    found = response(case, added, moved)
    assert found.displacement == pytest.approx(np.hypot(*shift), abs=0.02)
    assert found.blurring == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("blur", [0.8, 1.4])
def test_blurring_is_that_of_gaussians(scan: Scan, blur: float) -> None:
    """The square of a Gaussian of standard deviation σ has the root-mean-square radius σ in two dimensions."""
    case, own = scan(), 1.2
    (disc,) = discs(case, (22.0, 26.0))
    y, x = np.indices(case.inside.shape)
    profile = np.exp(-((y - 22.0) ** 2 + (x - 26.0) ** 2) / (2 * own**2))
    added = replace(disc, profile=profile, amplitude=1.0, reach=5.0)
    blurred = np.fft.ifft2(fourier_gaussian(np.fft.fft2(profile), blur)).real
    found = measured(blurred, blurred, added, ())
    assert found.blurring == pytest.approx(np.hypot(own, blur) - own, abs=0.01)
    # ∫ g_own · g_blurred / ∫ g_own², both Gaussians.
    assert found.kept == pytest.approx(2 * own**2 / (2 * own**2 + blur**2), rel=1e-3)


def test_aliases_are_counted_where_they_fall(scan: Scan) -> None:
    case = scan()
    (added,) = discs(case, (13.0, 30.0))
    truth: Real = added.amplitude * added.profile
    half = len(truth) // 2
    aliased = truth + 0.5 * np.roll(truth, half, axis=0) + 0.1 * np.roll(truth, 10, axis=1)
    found = measured(aliased, aliased, added, (half,))
    assert found.replicas == pytest.approx(0.25)
    assert found.elsewhere == pytest.approx(0.25 + 0.01, rel=1e-3)
    assert found.kept == pytest.approx(1)


def test_regular_lines_fold_to_known_places(third: torch.Tensor) -> None:
    n = len(third)
    assert replica_shifts(third) == (round(n / 3), round(2 * n / 3))
    irregular = torch.zeros(n, dtype=torch.bool)
    irregular[[1, 4, 9, 12, *range(16, 28), 31, 36, 38, 43]] = True
    assert replica_shifts(irregular) == ()
    assert replica_shifts(torch.ones(n, dtype=torch.bool)) == ()


def test_what_vanished_has_no_place(scan: Scan) -> None:
    (added,) = discs(scan(), (24.0, 30.0))
    nothing = np.zeros(added.profile.shape)
    assert measured(nothing, nothing, added, ()) == Measured(0, None, None, 0, None)


def test_an_empty_image_is_refused(scan: Scan) -> None:
    case = scan()
    with pytest.raises(ScanError, match="0 times the reference"):
        Reading.of(torch.zeros(case.inside.shape), case.inside, case.roi)


def test_cg_sense_is_the_candidate_that_is_compared(scan: Scan, third: torch.Tensor) -> None:
    case = scan(third)
    assert case.problem is not None
    torch.testing.assert_close(CgSense().job(case)(), case.problem.cg_sense(0.002, 50))
