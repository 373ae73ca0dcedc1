"""A measured scan of which only some columns are made, beside the whole of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.sdk.datasets.conftest import coils_of

from scanside.recon.fourier import to_kspace
from scanside.recon.scaling import image_scale
from scanside_training.data.measured_scan import MeasuredScan, undersampled
from scanside_training.data.simulation import Drawn, SampleShape, SimulationConfig

N1, N0 = 68, 80
"""The lines are no multiple of 8: four are added that nobody measured."""


def measured(*, judging: bool = False, n_coils: int = 4) -> MeasuredScan:
    (coils,) = coils_of(1, n_coils, N1, N0)
    hybrid = to_kspace(torch.from_numpy(coils), (-2,)).to(torch.complex64)
    masks = {"patterns": ["random"], "acceleration": [3, 3], "acs": [12, 16]}
    config = SimulationConfig.model_validate(
        {"k1": [72, 72], "k0": [80, 80], "multiple": 8, "readout_crop": 32, "masks": masks}
    )
    return undersampled(
        hybrid, Drawn(config, SampleShape(n_coils, 72, N0), np.random.default_rng(1), judging=judging)
    )


@pytest.mark.parametrize("n_coils", [1, 4])
def test_columns_are_those_of_the_whole(n_coils: int) -> None:
    scan = measured(n_coils=n_coils)
    whole, some = scan.whole(), slice(20, 52)
    for found, wanted in zip(scan.columns(some), whole.columns(some), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(scan.region, whole.region)
    assert not whole.hybrid[:, ~scan.mask[:, 0]].any()


def test_the_scale_is_that_of_the_whole_image() -> None:
    """Networks are judged by that of all columns, as in the stream; in training some tell it well enough."""
    for judging, tolerance in ((True, 1e-6), (False, 0.05)):
        scan = measured(judging=judging)
        assert float(scan.scale) == pytest.approx(float(image_scale(scan.whole().adjoint)), rel=tolerance)


def test_fewer_lines_change_the_image_and_not_the_target() -> None:
    scan = measured()
    lines = scan.mask[:, 0].clone()
    lines[torch.nonzero(lines)[-1]] = False
    fewer, some = scan.only(lines), slice(20, 52)
    assert torch.equal(fewer.columns(some).target, scan.columns(some).target)
    assert not torch.equal(fewer.columns(some).image, scan.columns(some).image)
