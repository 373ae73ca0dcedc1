"""K-space filters over the sampled range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scanside import KSpace
from scanside.mrd.header import Limit
from scanside.stages.accumulate import Accumulate
from scanside.stages.filter import KSpaceFilter


@pytest.fixture
def item(make_header: Any, lines: Any, run_stage: Any) -> KSpace:
    """Rows 3 to 10 of 12, centre 6."""
    xml = make_header(limits={"kspace_encode_step_1": Limit(0, 7, 3)})
    return run_stage(Accumulate(), xml, [lines(range(8))]).one  # type: ignore[no-any-return]


def weights(item: KSpace, filtered: KSpace) -> Any:
    """By what each sample was multiplied, ``(k1, k0)``, 0 where nothing was sampled."""
    before, after = item.data[0, 0].numpy(), filtered.data[0, 0].numpy()
    return np.divide(after, before, out=np.zeros_like(after), where=before != 0)


def test_gaussian_as_in_gadgetron(make_header: Any, run_stage: Any, item: KSpace) -> None:
    """exp(−(σx)²/2), x from −1 to 1 over the sampled range: rows 2 to 10 about row 6, samples 0 to 16 about 8."""
    found = weights(item, run_stage(KSpaceFilter(sigma=1.5), make_header(), [item]).one)
    y, x = (np.arange(12) - 6) / 4, (np.arange(16) - 8) / 8
    expected = np.exp(-((1.5 * y) ** 2) / 2)[:, None] * np.exp(-((1.5 * x) ** 2) / 2)
    expected[:3], expected[11:] = 0, 0
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[6, 8] == pytest.approx(1), "the mean of the image stays"


@pytest.mark.parametrize("kind", ["gaussian", "hann", "tukey"])
@pytest.mark.parametrize("axis", ["k0", "k1"])
def test_axes_are_chosen(make_header: Any, run_stage: Any, item: KSpace, kind: str, axis: str) -> None:
    settings = {"k0": "none", "k1": "none", axis: kind}
    found = weights(item, run_stage(KSpaceFilter(**settings), make_header(), [item]).one)[3:11].real
    varies, same = (0, 1) if axis == "k1" else (1, 0)
    assert np.ptp(found, axis=varies).min() > 0.2
    assert np.ptp(found, axis=same).max() < 1e-5


def test_none_changes_nothing(make_header: Any, run_stage: Any, item: KSpace) -> None:
    off = KSpaceFilter(k0="none", k1="none", k2="none")
    np.testing.assert_array_equal(run_stage(off, make_header(), [item]).one.data, item.data)


def test_what_came_in_stays(make_header: Any, run_stage: Any, item: KSpace) -> None:
    before = item.data.clone()
    run_stage(KSpaceFilter(), make_header(), [item])
    np.testing.assert_array_equal(item.data, before)
