from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scanside.errors import CalibrationError, ConfigError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.sense import cg_sense
from scanside_training.evaluation.problem import Problem

NOISE = 0.01
"""Standard deviation that the scan was simulated with."""


def test_from_kspace(kspace: torch.Tensor, mask: torch.Tensor) -> None:
    problem = Problem.from_kspace(kspace, mask)
    assert problem.kspace is not None
    assert not problem.kspace[:, ~mask].any()
    assert problem.n_calibration == 13  # lines 16 to 27, and 28 of the lattice
    assert float(problem.noise) == pytest.approx(NOISE, rel=0.25)
    power = problem.maps.abs().square().sum(0)
    assert torch.isclose(power, torch.ones(())).logical_or(power == 0).all()


def test_cg_sense_is_that_of_recon(kspace: torch.Tensor, mask: torch.Tensor) -> None:
    problem = Problem.from_kspace(kspace, mask)
    expected = cg_sense(
        kspace[:, None], problem.maps[:, None], mask[None], l2=0.01, max_iterations=20
    ).solution[0]
    torch.testing.assert_close(problem.cg_sense(0.01, 20), expected)


def test_calibration_lines_hold_the_centre(kspace: torch.Tensor) -> None:
    mask = torch.zeros(kspace.shape[-2], dtype=torch.bool)
    mask[:14] = True
    with pytest.raises(CalibrationError, match="0 to 13, which does not hold the centre of k-space, line 22"):
        Problem.from_kspace(kspace, mask)


@pytest.mark.parametrize("n_coils", [1, 2])
def test_a_sample_of_one_coil_holds_its_kspace(n_coils: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(12) % 2 == 0).float()[:, None]
    acquired = mask * torch.randn(n_coils, 12, 8, dtype=torch.complex64, generator=generator)
    phases = torch.randn(n_coils, 12, 8, generator=generator)
    maps = torch.polar(torch.full_like(phases, n_coils**-0.5), phases)
    image = (maps.conj() * to_image(acquired)).sum(0)
    sample = {
        "maps": torch.view_as_real(maps).movedim(-1, 1),
        "image": torch.view_as_real(image).movedim(-1, 0),
        "mask": mask,
        "noise": torch.tensor(0.1),
    }
    problem = Problem.from_sample(sample)
    assert problem is not None
    if n_coils > 1:
        assert problem.kspace is None, "the combined image does not tell what each coil saw"
    else:
        assert problem.kspace is not None
        torch.testing.assert_close(problem.kspace, acquired)


def test_masks_over_planes_are_refused() -> None:
    sample = {"mask": torch.ones(16, 12), "image": torch.ones(2, 16, 12), "maps": torch.ones(2, 2, 16, 12)}
    with pytest.raises(ConfigError, match="these samples have masks over two phase encodings"):
        Problem.from_sample(sample)


def test_what_is_added_to_a_scan_is_added_to_all_of_it(kspace: torch.Tensor, mask: torch.Tensor) -> None:
    problem = Problem.from_kspace(kspace, mask)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(kspace.shape[1:], dtype=torch.complex64, generator=generator)
    samples = problem.samples_of(image)
    expected = to_kspace(problem.maps * image) * mask[:, None]
    torch.testing.assert_close(samples, expected)
    noise = torch.randn(kspace.shape, dtype=torch.complex64, generator=generator)
    changed = problem.plus(noise)
    assert changed.kspace is not None
    assert problem.kspace is not None
    torch.testing.assert_close(changed.kspace, problem.kspace + noise * mask[:, None])
    combined = (problem.maps.conj() * to_image(changed.kspace)).sum(0)
    torch.testing.assert_close(changed.adjoint, combined, rtol=1e-4, atol=1e-5)
    unknown = replace(problem, kspace=None).plus(noise)
    assert unknown.kspace is None
    torch.testing.assert_close(unknown.adjoint, changed.adjoint)
    dotproduct = (
        torch.vdot(samples.flatten(), noise.flatten()),
        torch.vdot(image.flatten(), problem.image_of(noise).flatten()),
    )
    torch.testing.assert_close(*dotproduct, rtol=1e-4, atol=1e-3)


def test_gradients_go_through_cg_sense(kspace: torch.Tensor, mask: torch.Tensor) -> None:
    problem = Problem.from_kspace(kspace, mask)
    adjoint = problem.adjoint.clone().requires_grad_()
    weights = torch.randn(adjoint.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    value = (replace(problem, adjoint=adjoint).cg_sense(0.05, 80) * weights.conj()).real.sum()
    (gradient,) = torch.autograd.grad(value, adjoint)
    # Re⟨w, M⁻¹ a⟩ = Re⟨M⁻¹ w, a⟩, as M is Hermitian.
    torch.testing.assert_close(
        gradient, replace(problem, adjoint=weights).cg_sense(0.05, 80), rtol=1e-3, atol=1e-3
    )
