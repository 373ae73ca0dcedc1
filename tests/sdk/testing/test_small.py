"""The small scan is what it says it is."""

from __future__ import annotations

import subprocess
import sys

import ismrmrd
import numpy as np
import pytest
import torch

import scanside.testing
from scanside.context import Context
from scanside.items import Image, Item, KSpace
from scanside.metrics import nrmse
from scanside.pipeline import Pipeline
from scanside.scan import ScanEnd
from scanside.stage import Stage
from scanside.stages.accumulate import Accumulate
from scanside.stages.oversampling import RemoveOversampling
from scanside.stages.sense import Sense
from scanside.testing import small_image, small_kspace, small_readouts, small_scan, small_waveform
from scanside.testing.compare import difference


def reconstruct(stages: list[Stage], items: list[Item], kind: type[Item]) -> list[Item]:
    pipeline = Pipeline(stages, input=[kind])
    pipeline.prepare(Context(device="cpu"))
    with pipeline.open(small_scan()) as run:
        return [result for item in items for result in run.push(item)] + list(run.finish(ScanEnd()))


def test_header_is_valid_for_ismrmrd() -> None:
    header = ismrmrd.xsd.CreateFromDocument(small_scan().header.xml)
    assert header.encoding[0].parallelImaging.accelerationFactor.kspace_encoding_step_1 == 2


def test_readouts_make_the_kspace() -> None:
    (made,) = reconstruct(
        [RemoveOversampling(), Accumulate()], list(small_readouts()), type(small_readouts()[0])
    )
    expected = small_kspace()
    assert isinstance(made, KSpace)
    assert made.data.shape == expected.data.shape
    # Up to noise, of 0.002 in real and imaginary part in both.
    assert float((made.data - expected.data).abs().square().mean().sqrt()) < 0.006
    assert float(made.data.abs().max()) > 1
    for name in ("mask", "ranges", "field_of_view_mm", "counters", "encoding", "other"):
        assert difference(getattr(made, name), getattr(expected, name)) is None, name
    assert made.reference is not None
    assert expected.reference is not None
    assert difference(made.reference.ranges, expected.reference.ranges) is None
    assert difference(made.headers["scan_counter"], expected.headers["scan_counter"]) is None
    assert made.coil_maps is None


def test_kspace_makes_the_image() -> None:
    (made,) = reconstruct([Sense(l2=0.0)], [small_kspace(coil_maps=True)], KSpace)
    expected = small_image()
    assert isinstance(made, Image)
    assert nrmse(made.data.numpy(), expected.data.numpy()) < 0.03
    flipped = expected.data.flip(-1).numpy()
    assert nrmse(made.data.numpy(), flipped) > 0.2
    for name in ("field_of_view", "matrix_size", "read_dir", "phase_dir", "slice_dir", "slice", "image_type"):
        assert made.header[name].tolist() == expected.header[name].tolist(), name


def test_repetitions_differ_by_noise() -> None:
    first, second = small_kspace(), small_kspace(repetition=1)
    assert 0 < float((first.data - second.data).abs().max()) < 0.02
    assert second.headers["idx"]["repetition"].max() == 1
    assert int(small_image(repetition=1).header["repetition"]) == 1
    assert difference([small_kspace()], [first]) is None


def test_waveform() -> None:
    waveform = small_waveform()
    assert waveform.data.shape == (waveform.header["channels"], waveform.header["number_of_samples"])
    assert waveform.data.dtype == np.uint32


def test_everything_public_is_there() -> None:
    for name in scanside.testing.__all__:
        assert getattr(scanside.testing, name) is not None
        assert name in dir(scanside.testing)
    with pytest.raises(AttributeError, match="nonsense"):
        scanside.testing.nonsense  # noqa: B018


def test_import_needs_no_torch() -> None:
    code = "import scanside.testing, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_difference_sees_all_of_an_item() -> None:
    one = small_kspace(coil_maps=True)
    for name in ("data", "mask", "coil_maps"):
        changed = getattr(one, name).clone()
        changed.view(-1)[0] = (
            ~changed.view(-1)[0] if changed.dtype == torch.bool else changed.view(-1)[0] + 1e-3
        )
        found = difference(one.replace(**{name: changed}), one)
        assert found is not None
        assert name in found
    assert "KSpace.incomplete" in str(difference(one.replace(incomplete="so"), one))
    assert "KSpace.counters" in str(difference(one.replace(counters={"slice": 1}), one))
    assert difference([one], [one, one]) is not None
    assert difference(one, small_image()) is not None
    headers = one.headers.copy()
    headers["idx"]["slice"][0, 3] = 7
    assert "['slice']" in str(difference(one.replace(headers=headers), one))
    nan = one.replace(data=one.data * torch.nan)
    assert difference(nan, nan) is None
    assert difference(nan, one, rtol=1.0) is not None
    assert difference(one.replace(data=one.data * (1 + 1e-7)), one, rtol=1e-6) is None
