"""Generated objects: the same for the same seed, each different, all of them something."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from scanside_training.data.generated import draw_kind, slices_of

Kind = Literal["shapes", "cardiac", "brain"]


@pytest.mark.parametrize("kind", ["shapes", "cardiac", "brain"])
def test_slices(kind: Kind) -> None:
    drawn = [slices_of(kind, 2, 72, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert all((one != other).any() for one, other in zip(drawn[0], drawn[2], strict=True))
    assert (drawn[0][0] != drawn[0][1]).any()
    for pixels in (*drawn[0], *drawn[2]):
        assert (pixels.shape, pixels.dtype) == ((72, 72), np.float32)
        assert pixels.min() >= 0
        assert 0.3 < pixels.max() < 3
        assert 0.1 < (pixels > 0.02).mean() < 0.9
        assert len(np.unique(pixels.round(2))) > 8
        # A margin of air on all sides, so that nothing is cut off.
        assert not pixels[[0, -1]].any()
        assert not pixels[:, [0, -1]].any()


def test_shares_of_kinds() -> None:
    rng = np.random.default_rng(0)
    kinds = [draw_kind(rng, shapes=0.5, hearts=0.2) for _ in range(2000)]
    for kind, share in {"shapes": 0.5, "cardiac": 0.2, "brain": 0.3}.items():
        assert kinds.count(kind) / 2000 == pytest.approx(share, abs=0.04)
