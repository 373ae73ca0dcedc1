"""Which lines are a lattice, and which are not."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import ShapeError
from scanside.simulate import SamplingConfig
from scanside.simulate.sampling import phase_bands, sampling_pattern
from scanside.stages._lattice import (
    Lattice,
    check_lattice,
    describe_sampled,
    lattice_gaps_of,
    lattice_of,
    shifted_lattice_of,
)

Lines = npt.NDArray[np.bool_]


def mask(n1: int, n2: int = 1, **settings: Any) -> Lines:
    """Lines of a simulated pattern."""
    config = SamplingConfig(**settings)
    pattern, _ = sampling_pattern(config, phase_bands(config, (16, n1, n2)))
    sampled = np.zeros((n2, n1), bool)
    sampled[pattern.k2, pattern.k1] = True
    return sampled


@pytest.mark.parametrize("acs_mode", ["integrated", "separate"])
@pytest.mark.parametrize("acs", [0, 16, 24])
@pytest.mark.parametrize("r", [2, 3, 4, 6])
def test_spacing_is_found(r: int, acs: int, acs_mode: Any) -> None:
    for n, partial in product((79, 80, 128), (1.0, 0.7)):
        sampled = mask(
            n, acceleration=(r, 1), acs=(acs, 0), acs_mode=acs_mode, partial_fourier=(partial, 1.0)
        )
        assert lattice_of(sampled) == (r, 1)
        check_lattice(sampled, Lattice((r, 1)))
        if r != 4:
            with pytest.raises(ShapeError, match=rf"look like acceleration {r} x 1.*\[{r}, 1\]"):
                check_lattice(sampled, Lattice((4, 1)))


@pytest.mark.parametrize("acceleration", [(2, 2), (3, 1), (1, 2), (2, 3)])
def test_spacing_along_two_axes(acceleration: tuple[int, int]) -> None:
    sampled = mask(64, 40, acceleration=acceleration, acs=(16, 12))
    assert lattice_of(sampled) == acceleration
    check_lattice(sampled, Lattice(acceleration))
    k2, k1 = np.mgrid[:40, :64]
    inside = np.hypot((k1 - 32) / 32, (k2 - 20) / 20) <= 1
    assert lattice_of(sampled & inside) == acceleration, "an ellipse"
    sampled[acceleration[1] * 3, 4:8] = False  # a line or two is lost
    if (~sampled & mask(64, 40, acceleration=acceleration, acs=(16, 12))).any():
        assert lattice_of(sampled) is None
        assert lattice_of(sampled, complete=False) == acceleration


def test_full_sampling_is_no_lattice() -> None:
    full = np.zeros((1, 64), bool)
    full[0, 10:60] = True
    assert lattice_of(full) == (1, 1)
    for lost in range(64):
        damaged = full.copy()
        damaged[0, lost] = False
        assert lattice_of(damaged) == (1, 1)


@pytest.mark.parametrize("pattern", ["random", "variable-density"])
@pytest.mark.parametrize("factor", [2, 2.5, 3, 4, 5])
@pytest.mark.parametrize("acs", [0, 12, 16])
def test_irregular_sampling(pattern: Any, factor: float, acs: int) -> None:
    for seed, n in product(range(30), (80, 128)):
        sampled = mask(n, pattern=pattern, acceleration=(factor, 1), acs=(acs, 0), seed=seed)
        at = np.flatnonzero(sampled)
        n_missing = at[-1] - at[0] + 1 - len(at)
        # Where chance has drawn (nearly) nothing but a dense centre, that is a narrow band with single gaps.
        assert lattice_of(sampled) == ((1, 1) if 8 * n_missing <= n_missing + len(at) else None), (seed, n)
        if not n_missing:
            continue
        with pytest.raises(ShapeError, match=r"irregular sampling, for which pipeline 'sense'"):
            check_lattice(sampled, Lattice((round(factor), 1)))


def test_shifted_lattice_is_none() -> None:
    """CAIPIRINHA: the weights of one lattice do not serve it."""
    k2, k1 = np.mgrid[:12, :24]
    assert lattice_of((k1 + k2) % 2 == 0) is None
    with pytest.raises(ShapeError, match="60 lines are missing"):
        check_lattice((k1 + k2) % 2 == 0, Lattice((2, 1)))


@pytest.mark.parametrize("acs_mode", ["integrated", "separate"])
@pytest.mark.parametrize(
    ("acceleration", "shift"),
    [((2, 2), 1), ((2, 3), 1), ((2, 3), 2), ((3, 2), 1), ((1, 4), 2), ((1, 3), 1), ((3, 4), 2)],
)
def test_shift_is_found(acceleration: tuple[int, int], shift: int, acs_mode: Any) -> None:
    for elliptical in (False, True):
        settings = {"acs": (16, 12), "acs_mode": acs_mode, "elliptical": elliptical, "shift": shift}
        sampled = mask(64, 44, acceleration=acceleration, **settings)
        expected = Lattice(acceleration, shift)
        assert shifted_lattice_of(sampled, acceleration) == expected
        check_lattice(sampled, expected)
        assert not lattice_gaps_of(sampled, expected).any()
        for wrong in range(acceleration[1]):
            if wrong != shift:
                with pytest.raises(
                    ShapeError, match=rf"look like acceleration {expected}.*grappa.shift to {shift}"
                ):
                    check_lattice(sampled, Lattice(acceleration, wrong))


def test_lattice_that_is_shifted_along_k1() -> None:
    """From one of its partitions to the next: the same lines are a lattice that is shifted along k2."""
    k2, k1 = np.mgrid[:36, :48]
    sampled = (k2 % 2 == 0) & ((k1 - k2 // 2) % 3 == 0)
    found = shifted_lattice_of(sampled, (3, 2))
    assert found == Lattice((1, 6), 2)
    check_lattice(sampled, found)


def test_lost_lines_of_a_shifted_lattice() -> None:
    sampled = mask(48, 36, acceleration=(2, 3), shift=1)
    lattice = Lattice((2, 3), 1)
    whole = sampled.copy()
    k2, k1 = (int(at[len(at) // 2]) for at in np.nonzero(sampled))
    sampled[k2, k1] = False
    sampled[:, 20] = False
    assert shifted_lattice_of(sampled, (2, 3)) is None
    assert shifted_lattice_of(sampled, (2, 3), complete=False) == lattice
    assert np.array_equal(lattice_gaps_of(sampled, lattice), whole & ~sampled)


def test_description() -> None:
    assert describe_sampled(mask(36, acceleration=(3, 1))) == "k1 rows 0..33 in steps of 3 of 36 (centre 18)"
    assert describe_sampled(mask(8, 4)).endswith(
        "k1 rows 0..7 of 8 (centre 4) and k2 rows 0..3 of 4 (centre 2)"
    )
