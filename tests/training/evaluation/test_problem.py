from __future__ import annotations

import pytest
import torch

from scanside.errors import CalibrationError, ConfigError
from scanside.recon.fourier import to_image
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
