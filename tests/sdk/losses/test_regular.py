"""What counts as lost, and what as planned."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from scanside.losses.regular import ends, lattice_gaps, missing_lines


def mask_of(*lines: int, n: int = 48) -> npt.NDArray[np.bool_]:
    mask = np.zeros((1, n), bool)
    mask[0, list(lines)] = True
    return mask


@pytest.mark.parametrize(("r", "first"), [(1, 0), (2, 1), (3, 0), (4, 3)])
def test_every_single_line_is_missed(r: int, first: int) -> None:
    """Whichever line of a lattice with a calibration block is lost, but for the block's own ends."""
    block = range(17, 30)
    planned = sorted({*range(first, 48, r), *block})
    between = [k for k in planned if k % r != first]
    assert not missing_lines(mask_of(*planned), (r, 1)).any()
    for lost in planned:
        damaged = mask_of(*(k for k in planned if k != lost))
        found = missing_lines(damaged, (r, 1))
        assert found is not None
        found |= ends(damaged, (r, 1), ((0, 47), None)).lost
        is_end = lost in between[:1] + between[-1:]
        assert np.flatnonzero(found[0]).tolist() == ([] if is_end else [lost])


def test_shifted_partitions() -> None:
    """CAIPIRINHA: the lattice of every second partition is shifted."""
    k2, k1 = np.mgrid[:12, :24]
    sampled = (k1 + k2) % 2 == 0
    assert not missing_lines(sampled, (2, 1)).any()
    sampled[4, 10] = False
    assert np.argwhere(missing_lines(sampled, (2, 1))).tolist() == [[4, 10]]


def test_two_axes() -> None:
    k2, k1 = np.mgrid[:12, :24]
    sampled = (k1 % 2 == 0) & (k2 % 3 == 1)
    sampled[2:10, 4:20] = True
    for lost in ((1, 6), (4, 2), (5, 12), (5, 11), (10, 20)):
        damaged = sampled.copy()
        damaged[lost] = False
        assert np.argwhere(missing_lines(damaged, (2, 3))).tolist() == [list(lost)]


def test_random_masks_cannot_be_judged() -> None:
    generator = np.random.default_rng(0)
    for r, share in product((1, 2, 3), (0.25, 0.4, 0.6)):
        mask = generator.random((1, 128)) < share
        assert missing_lines(mask, (r, 1)) is None


@pytest.mark.parametrize("seed", range(4))
def test_dense_centres_cannot_be_judged(seed: int) -> None:
    """Low acceleration of variable density, which a header rounds: most of a lattice is there by chance."""
    generator = np.random.default_rng(seed)
    for n, factor in product((36, 64, 256), (1.4, 1.6, 2.2)):
        weight = np.where(
            np.abs(np.arange(n) - n // 2) < n // 8, 1e3, (1 - np.abs(np.arange(n) - n // 2) / n) ** 3
        )
        lines = generator.choice(n, round(n / factor), replace=False, p=weight / weight.sum())
        assert missing_lines(mask_of(*lines, n=n), (round(factor), 1)) is None


def test_without_a_last_line_the_announced_end_counts() -> None:
    mask = mask_of(*range(30))
    lost, left_out = ends(mask, (1, 1), ((0, 47), None))
    assert not lost.any()
    assert np.flatnonzero(left_out[0]).tolist() == list(range(30, 48))
    lost, left_out = ends(mask, (1, 1), ((0, 47), None), high_came=False)
    assert np.flatnonzero(lost[0]).tolist() == list(range(30, 48))
    assert not left_out.any()


def test_lattice_gaps_leave_calibration_lines_alone() -> None:
    planned = {*range(0, 48, 3), *range(17, 30)} - {12, 20, 25}
    assert np.flatnonzero(lattice_gaps(mask_of(*planned), (3, 1))[0]).tolist() == [12]
