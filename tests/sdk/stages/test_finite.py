"""A sample that is no number ends a scan, and its readout is named, whatever the pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanside import Context, Pipeline, Readouts, Scan, ScanEnd
from scanside.errors import NonFiniteError, StageError
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.mrd.flags import flagged
from scanside.stages._finite import check_finite, is_finite
from scanside.testing import small_kspace, small_readouts, small_scan

SETTINGS = {
    "fft": {},
    "grappa": {"grappa.kernel_k1": 2},
    "sense": {"coil-maps.kernel": 4},
}


def run(pipeline: str, blocks: list[Readouts]) -> list[object]:
    loaded = Pipeline.load(pipeline, SETTINGS[pipeline])
    loaded.prepare(Context(device="cpu"))
    scan = small_scan()
    with loaded.open(Scan(scan.header)) as opened:
        images = [image for block in blocks for image in opened.push(block)]
        return images + list(opened.finish(ScanEnd()))


def spoil(blocks: list[Readouts], which: Flag | None, value: float) -> int:
    """Put a value into one sample of a readout with (or without) a calibration flag; gives its scan counter."""
    for block in blocks:
        noise = flagged(block.headers["flags"], Flag.NOISE_MEASUREMENT)
        calibrating = flagged(
            block.headers["flags"], Flag.PARALLEL_CALIBRATION, Flag.PARALLEL_CALIBRATION_AND_IMAGING
        )
        fits = np.flatnonzero(~noise & (calibrating if which is not None else ~calibrating))
        if len(fits):
            block.samples[fits[0], 1, 3] = value
            return int(block.headers["scan_counter"][fits[0]])
    raise AssertionError("no such readout")


@pytest.mark.parametrize("pipeline", list(SETTINGS))
@pytest.mark.parametrize("which", [None, Flag.PARALLEL_CALIBRATION], ids=["image", "calibration"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_readout_is_named(pipeline: str, which: Flag | None, value: float) -> None:
    blocks = [block.copy() for block in small_readouts()]
    assert run(pipeline, blocks)
    counter = spoil(blocks, which, value)
    with pytest.raises(StageError, match=rf"scan counter {counter} \(kspace_encode_step_1 = ") as caught:
        run(pipeline, blocks)
    assert isinstance(caught.value.cause, NonFiniteError)


def test_finite_sources_are_not_blamed() -> None:
    item = small_kspace()
    check_finite(item.data, item)
    with pytest.raises(NonFiniteError, match="came out of finite data"):
        check_finite(torch.tensor([1.0, torch.nan]), item, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_finite_values_whose_sum_is_not(dtype: torch.dtype) -> None:
    values = torch.full((4, 5), 3e38, dtype=dtype)
    assert not values.sum().isfinite()
    assert is_finite(values)
    for bad in (float("nan"), float("inf"), -float("inf")):
        values[2, 3] = bad
        assert not is_finite(values)
        assert not is_finite(torch.tensor([float("inf"), bad, -float("inf")], dtype=dtype))
