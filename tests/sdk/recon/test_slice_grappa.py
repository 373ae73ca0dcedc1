"""Split slice-GRAPPA: its weights, what it gives, and what leaks."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon import slice_grappa


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_weights_and_leakage_are_those_of_the_least_squares_problem() -> None:
    """Own samples from the own slice, nothing from the others, position by position."""
    references, r, w1 = random(3, 2, 1, 14, 9), 2, 3
    weights = slice_grappa.calibrate(references, r, (3, w1), regularisation=0.01)
    equations = []
    for one in references[:, :, 0]:
        at = [(y, x) for y in range(2, 12) for x in range(1, 8)]
        a = torch.stack(
            [torch.cat([one[:, y + r * t, x + d] for d in (-1, 0, 1) for t in (-1, 0, 1)]) for y, x in at]
        )
        equations.append((a, torch.stack([one[:, y, x] for y, x in at])))
    everything = torch.cat([a for a, _ in equations])
    damping = (0.01 * everything.abs().square().sum() / everything.shape[1]).sqrt()
    system = torch.cat([everything, damping * torch.eye(everything.shape[1], dtype=everything.dtype)])
    for z in range(3):
        wanted = torch.cat([b if i == z else torch.zeros_like(b) for i, (_, b) in enumerate(equations)])
        wanted = torch.cat([wanted, wanted.new_zeros(everything.shape[1], 2)])
        expected = torch.linalg.lstsq(system, wanted).solution
        torch.testing.assert_close(weights.values[z].mT, expected, rtol=1e-8, atol=1e-8)
        for i, (a, b) in enumerate(equations):
            lost = a @ expected - (b if i == z else 0)
            torch.testing.assert_close(weights.leakage[z, i], lost.norm() / b.norm(), rtol=1e-6, atol=1e-9)
    off = weights.leakage - weights.leakage.diagonal().diag()
    assert weights.worst_leakage == float(off.max())


def test_slices_are_weighted_sums_of_acquired_lines() -> None:
    kspace, values = random(2, 3, 1, 11, 6, seed=1), random(2, 3, 3 * 3 * 3, seed=2)
    sampled = torch.zeros(1, 11, dtype=torch.bool)
    sampled[0, 3:10:2] = True
    sampled[0, 6] = True  # a line that is none of the lattice
    weights = slice_grappa.SliceWeights(values, 2, (3, 3), torch.zeros(2, 2))
    found = slice_grappa.separate(weights, kspace, sampled)
    assert found.shape == (2, 2, 3, 1, 11, 6)
    for y in range(11):
        if y not in (3, 5, 7, 9):
            assert not found[..., y, :].any()
            continue
        for x in range(6):
            read = [
                kspace[:, :, 0, y + 2 * t, (x + d) % 6]
                if 3 <= y + 2 * t <= 9
                else torch.zeros(2, 3, dtype=kspace.dtype)
                for d in (-1, 0, 1)
                for t in (-1, 0, 1)
            ]
            given = torch.einsum("zcs,os->zoc", values, torch.cat(read, -1))
            torch.testing.assert_close(found[..., 0, y, x], given)


def test_what_does_not_fit_is_an_error() -> None:
    references = random(2, 4, 1, 16, 12).to(torch.complex64)
    with pytest.raises(ShapeError, match="odd"):
        slice_grappa.calibrate(references, 2, (4, 3))
    with pytest.raises(ShapeError, match=r"references \(slice, coil, 1, k1, k0\), got"):
        slice_grappa.calibrate(references[0], 2)
    with pytest.raises(
        CalibrationError, match=r"of 6 lines with 12 samples are too few.*needs 15 lines side by side"
    ):
        slice_grappa.calibrate(references[..., :6, :], 2)
    with pytest.raises(CalibrationError, match="zero or not finite"):
        slice_grappa.calibrate(torch.zeros_like(references), 2, (3, 3))
    weights = slice_grappa.calibrate(references, 2, (3, 3))
    sampled = torch.ones(1, 16, dtype=torch.bool)
    with pytest.raises(ShapeError, match="for 4 coils"):
        slice_grappa.separate(weights, references[0, :3], sampled)
    with pytest.raises(ShapeError, match="a mask"):
        slice_grappa.separate(weights, references[0], sampled[:, :10])
