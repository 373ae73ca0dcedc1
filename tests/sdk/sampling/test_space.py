"""What may be acquired, and what of it is always acquired."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling import Limits, Space

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("n", [40, 41])
def test_partial_fourier_leaves_out_one_end(n: int) -> None:
    early, late = (Limits((0.75, 1.0), side).region((n,)) for side in ("early", "late"))
    assert early.sum() == late.sum() == round(0.75 * n)
    assert early[[0, -1]].tolist() == [False, True]
    assert late[[0, -1]].tolist() == [True, False]
    both = Limits((0.75, 0.5)).region((n, 20))
    assert np.array_equal(both, early[:, None] & (np.arange(20) >= 10))


@pytest.mark.parametrize("shape", [(64, 48), (65, 33)])
def test_an_ellipse_has_its_share_of_the_plane_and_touches_the_edges(shape: tuple[int, int]) -> None:
    region = Limits(elliptical=True).region(shape)
    assert region.mean() == pytest.approx(np.pi / 4, abs=0.02)
    assert region[:, shape[1] // 2].sum() >= shape[0] - 1
    assert region[shape[0] // 2].sum() >= shape[1] - 1
    assert not region[0, 0]
    assert not region[-1, -1]


def test_the_block_lies_about_the_centre() -> None:
    space = Space.of(np.ones((20, 11), bool), (4, 3))
    assert np.argwhere(space.block).min(0).tolist() == [8, 4]
    assert (space.n_block, space.n_places) == (12, 220)
    assert Space.of(np.ones(20, bool), (0,)).n_block == 0


@pytest.mark.parametrize(
    ("shape", "acs", "limits", "text"),
    [
        ((16,), (24,), Limits(), "24 does not fit into a matrix of 16: lower acs"),
        ((16, 8), (4, 9), Limits(), "4 × 9 does not fit into a matrix of 16 × 8"),
        ((1,), (0,), Limits(), "a matrix of 1 is too small"),
        ((16, 1), (0, 0), Limits(), "a matrix of 16 × 1 is too small"),
        ((16,), (4, 4), Limits(), "one number of lines for each of 1 axes"),
        ((16,), (-1,), Limits(), "0 or more"),
        ((64,), (20,), Limits((0.6, 1.0)), "cut 4 of 20 off .* acquire a larger share"),
        ((32, 32), (28, 28), Limits(elliptical=True), "off the fully sampled centre of 28 × 28"),
    ],
)
def test_a_block_that_cannot_be_is_refused(
    shape: tuple[int, ...], acs: tuple[int, ...], limits: Limits, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        Space.of(limits.region(shape), acs)


@pytest.mark.parametrize("limits", [Limits(elliptical=True), Limits((1.0, 0.75))])
def test_lines_have_one_phase_encoding(limits: Limits) -> None:
    with pytest.raises(ConfigError, match="need two phase encodings"):
        limits.region((64,))


@pytest.mark.parametrize("share", [0.0, 1.2, float("nan")])
def test_a_share_is_one_of_the_whole(share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        Limits((share, 1.0))


def test_what_an_acceleration_leaves() -> None:
    space = Space.of(np.ones(96, bool), (20,))
    assert (space.wanted(4), space.missing(4)) == (24, 4)
    with pytest.raises(
        ConfigError, match=r"leaves 12 of 96 lines, .* has 20: lower acs, or .* to 4\.8 or less"
    ):
        space.missing(8)
    with pytest.raises(ConfigError, match="leaves nothing of 96 lines: lower it"):
        space.wanted(200)
