"""Two sets of coil maps: against BART's, against the truth of objects larger than the field of view."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.metrics import psnr
from scanside.recon.coil_maps import turned_to, virtual_coil
from scanside.recon.columns import ColumnSystem
from scanside.recon.combine import combine_sets, root_sum_of_squares
from scanside.recon.espirit import espirit, espirit_sets
from scanside.recon.explained import second_where_needed
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.sense import SoftSenseOperator, cg_sense, solve
from scanside.recon.stacked import StackedMaps
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
from scanside.testing import assert_adjoint

N = 96
FIELDS = {"phase": (240.0, 150.0, 6.0), "readout": (110.0, 240.0, 6.0)}


def kspace_of(fov_mm: tuple[float, float, float], std: float = 0.01) -> tuple[torch.Tensor, torch.Tensor]:
    """K-space ``(coil, 1, y, x)`` of a head, and the root sum of squares of its coil images without noise."""
    scan = simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(N, N, 1), fov_mm=fov_mm, offset_mm=(0.0, 0.0, 20.0)),
            phantom=PhantomConfig(saturated=False),
            coils=CoilConfig(n_coils=8),
            noise=NoiseConfig(std=0, scan="none"),
            sampling=SamplingConfig(oversampling=1),
        )
    )
    samples = np.concatenate([block.samples for block in scan.items()])
    kspace = torch.from_numpy(samples.swapaxes(0, 1).copy())[:, None]
    truth = root_sum_of_squares(to_image(kspace))
    noise = torch.randn(kspace.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    return kspace + 2**0.5 * std * noise, truth


def lines(acceleration: int = 3, acs: int = 24) -> torch.Tensor:
    """``(1, k1)``: a random third of the lines and the middle."""
    mask = torch.zeros(N, dtype=torch.bool)
    mask[torch.randperm(N, generator=torch.Generator().manual_seed(1))[: N // acceleration - acs // 3]] = True
    mask[N // 2 - acs // 2 : N // 2 + acs // 2] = True
    return mask[None]


def maps_of(kspace: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Calibration lines, and both sets of maps."""
    block = kspace[:, :, N // 2 - 12 : N // 2 + 12]
    first, second = espirit_sets(block, (1, N, N))
    assert second is not None
    return block, first, second


def soft(kspace: torch.Tensor, sets: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    operator = SoftSenseOperator(sets, mask)
    result = solve(operator, operator.adjoint(kspace), l2=0.002, tolerance=1e-5, max_iterations=300)
    assert bool(result.converged)
    return result.solution


def decibels(image: torch.Tensor, truth: torch.Tensor) -> float:
    return float(psnr(image.abs().numpy(), truth.numpy()))


@pytest.mark.parametrize("direction", FIELDS)
def test_both_sets_are_those_of_bart(run_bart: Any, direction: str) -> None:
    """Which vectors span the plane of two eigenvalues of 1 is chance: the plane itself is compared."""
    kspace, _ = kspace_of(FIELDS[direction])
    _, first, second = maps_of(kspace)
    theirs = torch.from_numpy(run_bart.sets("ecalib", "-k6", "-r24", "-m2", kspace.numpy()))
    ours = torch.stack((first, second))
    twice, theirs_twice = second.abs().sum(0) > 0, theirs[1].abs().sum(0) > 0
    assert 0.05 < twice.float().mean() < 0.4
    assert (twice != theirs_twice).float().mean() < 0.02
    both = twice & theirs_twice
    overlap = torch.einsum("sczyx,tczyx->stzyx", ours.conj(), theirs)[..., both].abs().square()
    assert overlap.sum((0, 1)).mean() / 2 > 0.99
    assert overlap[0, 0].mean() < 0.99, "one set alone is not what is compared"
    assert torch.equal(first, espirit(kspace[:, :, N // 2 - 12 : N // 2 + 12], (1, N, N)))
    assert (first.conj() * second).sum(0).abs().max() < 1e-4
    everywhere, still = espirit_sets(kspace[:, :, N // 2 - 12 : N // 2 + 12], (1, N, N), crop=0.0)
    assert bool((everywhere != 0).any(0).all())
    assert still is not None
    assert torch.equal(still, second), "a map everywhere is no reason for a second one"


@pytest.mark.parametrize("direction", FIELDS)
def test_image_of_both_sets_is_nearer_to_the_truth_and_no_worse_than_barts(
    run_bart: Any, direction: str
) -> None:
    kspace, truth = kspace_of(FIELDS[direction])
    mask = lines()
    acquired = kspace * mask[..., None]
    block, first, second = maps_of(kspace)
    one = decibels(cg_sense(acquired, first, mask, l2=0.002, max_iterations=300).solution, truth)
    both = decibels(combine_sets(soft(acquired, (first, second), mask)), truth)
    theirs = run_bart.sets("ecalib", "-k6", "-r24", "-m2", acquired.numpy())
    images = run_bart.sets("pics", "-l2", "-r0.002", "-i300", acquired.numpy(), theirs)
    bart = decibels(root_sum_of_squares(torch.from_numpy(images).movedim(1, 0))[0], truth)
    gain = {"phase": 5.0, "readout": 0.3}[direction]
    assert both > one + gain
    assert both > bart - 0.2
    needed = second_where_needed(block, first, second)
    assert needed is not None
    there = combine_sets(soft(acquired, (first, needed), mask))
    assert decibels(there, truth) > both - 0.2
    zero_filled = root_sum_of_squares(to_image(acquired))
    assert decibels(there, truth) > decibels(zero_filled, truth)


def test_columns_solve_both_sets_as_iterations_do() -> None:
    kspace, _ = kspace_of(FIELDS["phase"])
    mask = lines()
    _, first, second = maps_of(kspace)
    operator = SoftSenseOperator((first, second), mask)
    right = operator.adjoint(kspace)
    expected = soft(kspace, (first, second), mask)
    maps = StackedMaps.of(first, second)
    assert N < maps.maps.shape[-2] < 1.5 * N, "rows that the second set does not see are solved for"
    system = ColumnSystem(maps.maps, maps.lines(mask[0]), 0.002)
    found = maps.apart(system.solve(maps.stacked(right[..., 0, :, :])))
    difference = (found - expected[..., 0, :, :]).norm() / expected.norm()
    assert difference < 5e-3
    first_alone = ColumnSystem(first[:, 0], mask[0], 0.002).solve(right[0, 0])
    assert (first_alone - expected[0, 0]).norm() / expected.norm() > 0.1
    torch.testing.assert_close(maps.apart(maps.stacked(found)), found)


def test_what_the_second_set_leaves_is_solved_alone() -> None:
    """With the first image known, the second one is that of the joint problem."""
    kspace, _ = kspace_of(FIELDS["phase"])
    mask = lines()
    _, first, second = maps_of(kspace)
    both = soft(kspace, (first, second), mask)
    operator = SoftSenseOperator((first, second), mask)
    known = torch.stack((both[0], torch.zeros_like(both[0])))
    right = (operator.adjoint(kspace) - operator.normal(known))[:, 0]
    alone = StackedMaps(first[:, 0, :0], second[:, 0])
    system = ColumnSystem(alone.maps, alone.lines(mask[0]), 0.002)
    found = alone.apart(system.solve(alone.stacked(right)))
    assert not bool(found[0].any())
    assert (found[1] - both[1, 0]).norm() / both[1].norm() < 1e-2


def test_operator_of_two_sets_is_linear_with_its_adjoint() -> None:
    generator = torch.Generator().manual_seed(2)
    sets = torch.randn(2, 3, 1, 12, 10, dtype=torch.complex64, generator=generator)
    mask = torch.rand(1, 12, generator=generator) > 0.5
    operator = SoftSenseOperator((sets[0], sets[1]), mask, slice(2, 10))
    images = torch.randn(2, 1, 12, 10, dtype=torch.complex64, generator=generator)
    assert_adjoint(operator.forward, operator.adjoint, images.shape, (3, 1, 12, 10))
    torch.testing.assert_close(operator.normal(images), operator.adjoint(operator.forward(images)))
    expected = to_kspace((sets * images[:, None]).sum(0)) * mask[..., None]
    expected[..., :2] = 0
    torch.testing.assert_close(operator.forward(images), expected)


def test_turned_sets_span_the_same_and_have_the_phase_of_the_virtual_coil() -> None:
    kspace, _ = kspace_of(FIELDS["phase"])
    block, first, second = maps_of(kspace)
    virtual = virtual_coil(block[..., N // 2 - 12 : N // 2 + 12])
    turned, other = turned_to(virtual, first, second)
    twice = second.abs().sum(0) > 0
    assert torch.equal(turned[:, ~twice], first[:, ~twice])
    assert not bool(other[:, ~twice].any())
    assert (turned.conj() * other).sum(0).abs().max() < 1e-4
    mask = lines()
    before, after = (soft(kspace, sets, mask) for sets in ((first, second), (turned, other)))
    magnitude = combine_sets(before).abs()
    torch.testing.assert_close(
        combine_sets(after).abs(), magnitude, rtol=0, atol=2e-3 * float(magnitude.max())
    )
    coils = first * before[0] + second * before[1]
    seen: npt.NDArray[Any] = torch.angle((virtual.conj() * coils).sum(0) * combine_sets(after).conj()).numpy()
    bright = (magnitude > 0.2 * magnitude.max())[0].numpy()
    assert np.quantile(np.abs(seen[0][bright]), 0.95) < 0.05
    raw = torch.angle((virtual.conj() * coils).sum(0) * combine_sets(before).conj()).numpy()
    assert np.quantile(np.abs(raw[0][bright & twice[0].numpy()]), 0.95) > 0.08, (
        "they were no different before"
    )
