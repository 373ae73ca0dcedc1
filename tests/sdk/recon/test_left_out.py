"""Which lines are left out, and what their errors tell."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.recon.left_out import choose_lines, gain, seen_strip


def mask(n: int, *lines: int | range) -> torch.Tensor:
    sampled = torch.zeros(n, dtype=torch.bool)
    for one in lines:
        sampled[list(one) if isinstance(one, range) else one] = True
    return sampled


def test_lines_outside_of_the_calibration_lines_spread_over_those_that_were_acquired() -> None:
    generator = torch.Generator().manual_seed(0)
    sampled = torch.rand(160, generator=generator) < 0.25
    sampled[70:90] = True
    sampled[[69, 90]] = False
    found = choose_lines(sampled, None)
    assert found is not None
    assert len(found.lines) == 8
    assert bool(sampled[found.lines].all())
    assert not any(70 <= line < 90 for line in found.lines.tolist())
    assert int((found.lines < 80).sum()) == 4
    assert bool(found.fair.all() & found.outer.all())
    positions = torch.searchsorted(sampled.nonzero()[:, 0].contiguous(), found.lines)
    outside = int(sampled.sum()) - 20
    assert int(positions.diff().max()) <= math.ceil(outside / 8) + 20, "no part of k-space is spared"


def test_at_most_half_of_the_lines_outside() -> None:
    found = choose_lines(mask(96, range(40, 56), 3, 17, 30, 61, 70, 83, 90), None)
    assert found is not None
    assert len(found.lines) == 3


@pytest.mark.parametrize(
    "sampled",
    [
        mask(96, range(96)),
        mask(96, range(40, 56)),
        mask(96, range(40, 56), 3, 30, 61, 70, 83),
        mask(96, range(44, 53), range(44, 53, 2)),
        torch.zeros(96, dtype=torch.bool),
    ],
)
def test_no_lines_to_spare(sampled: torch.Tensor) -> None:
    assert choose_lines(sampled, None) is None


def test_of_a_lattice_also_calibration_lines_that_lie_off_it() -> None:
    sampled = mask(128, range(1, 128, 4), range(54, 74))
    found = choose_lines(sampled, 4)
    assert found is not None
    outer = found.lines[found.outer].tolist()
    between = found.lines[found.fair].tolist()
    assert len(outer) == 8
    assert all(line % 4 == 1 and not 54 <= line < 74 for line in outer)
    assert between == [line for line in range(54, 74) if line % 4 != 1 and abs(line - 64) > 4]
    assert not bool((found.outer & found.fair).any())
    assert found.lines.tolist() == sorted(found.lines.tolist())


def test_a_lattice_whose_calibration_lines_came_apart_keeps_its_middle() -> None:
    found = choose_lines(mask(128, range(0, 128, 4)), 4)
    assert found is not None
    assert len(found.lines) == 8
    assert not bool(found.fair.any())
    assert int((found.lines - 64).abs().min()) > 4


def test_the_strip_in_which_coils_see_most() -> None:
    maps = torch.zeros(3, 1, 20, 30)
    maps[1, :, 5:15, 12:22] = 1
    maps[2, :, 8:10, 4:28] = 1
    assert seen_strip(maps, 10) == slice(12, 22)
    assert seen_strip(torch.ones(2, 1, 20, 30), 10) == slice(10, 20)
    assert seen_strip(maps, 40) == slice(0, 30)


def test_errors_are_compared_without_their_noise() -> None:
    mine, theirs = torch.full((8,), 3.0), torch.full((8,), 6.0)
    found = gain(mine, theirs, 2.0, 1e-6)
    assert found.db == pytest.approx(10 * math.log10(4))
    assert found.evidence > 1
    back = gain(theirs, mine, 2.0, 1e-6)
    assert (back.db, back.evidence) == pytest.approx((-found.db, -found.evidence))


def test_evidence_is_told_by_how_much_lines_differ() -> None:
    """Mean and standard error of the differences: 1, and √(Σ (d − 1)² / 7 / 8) for d = −1, 3, −1, 3 …"""
    theirs = 2.0 + torch.tensor([-1.0, 3.0] * 4)
    found = gain(torch.full((8,), 2.0), theirs, 0.0, 1e-9)
    assert found.evidence == pytest.approx(1 / math.sqrt(8 * 4 / 7 / 8))


def test_what_does_not_matter_is_no_evidence() -> None:
    found = gain(torch.full((8,), 1e-3), torch.full((8,), 1e-6), 0.0, 1.0)
    assert found.db == 0
    assert abs(found.evidence) < 0.01
