"""A Tikhonov weight that follows the noise: how large, told by what, and what it gains."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from scanside.items import Calibration
from scanside.simulate import CoilConfig, NoiseConfig, SamplingConfig
from scanside.stages._noise_weight import NoiseWeight
from scanside.stages._signal import noise_of_item, snr_of
from scanside.stages.sense import Sense

SAMPLING = SamplingConfig(pattern="random", acceleration=(3, 1), acs=(20, 0))
SEPARATE = SamplingConfig(acceleration=(3, 1), acs=(20, 0), acs_mode="separate")


def a_scan(accumulated: Any, std: float, sampling: SamplingConfig = SAMPLING) -> tuple[Any, Any]:
    """A slice with the true maps, ``Σ |map|² = 1``."""
    noise = NoiseConfig(std=std, neighbour_correlation=0.0, spread=0.0, scan="none")
    scan, (item,), _ = accumulated((96, 90, 1), coils=CoilConfig(n_coils=8), sampling=sampling, noise=noise)
    maps = torch.from_numpy(scan.truth.maps[0])
    return scan, item.replace(coil_maps=maps / maps.norm(dim=0))


def truth_of(scan: Any) -> Any:
    return scan.truth.image() * np.linalg.norm(scan.truth.maps[0], axis=0)


def error(image: Any, scan: Any) -> float:
    """Where the scale does not matter."""
    found, truth = image.data[0].numpy(), truth_of(scan)
    found = found * (np.vdot(found, truth) / np.vdot(found, found))
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("std", [0.05, 0.2])
def test_it_is_what_the_snr_makes_of_it(accumulated: Any, std: float) -> None:
    _, item = a_scan(accumulated, std)
    snr = snr_of(item, noise_of_item(item))
    assert snr is not None
    assert NoiseWeight(0.002, 10).of(item) == pytest.approx(10 / snr**2, rel=0.05)
    assert NoiseWeight(0.002, 0).of(item) == 0.002
    assert NoiseWeight(0.9, 10).of(item) == 0.9
    assert NoiseWeight(0.002, 1e6).of(item) == 1.0


def test_quiet_scans_have_little_of_it(accumulated: Any) -> None:
    """In a small matrix signal reaches to where the noise is estimated."""
    _, item = a_scan(accumulated, 1e-4)
    assert NoiseWeight(0.002, 10).of(item) < 0.005
    assert NoiseWeight(0.005, 10).of(item) == 0.005


def test_of_nothing_and_of_slabs_it_is_the_fixed_one(accumulated: Any) -> None:
    _, item = a_scan(accumulated, 0.2)
    weights = NoiseWeight(0.002, 10)
    assert weights.of(item.replace(data=item.data * 0)) == 0.002
    assert weights.of(item.replace(data=item.data * 0, mask=item.mask & False)) == 0.002
    slab = item.replace(data=item.data.expand(-1, 2, -1, -1), mask=item.mask.expand(2, -1))
    assert weights.of(slab) == 0.002


def test_calibration_lines_tell_it_early(accumulated: Any) -> None:
    """What they tell holds, so that what was begun serves; unless the image's own lines tell something else."""
    _, item = a_scan(accumulated, 0.1, SEPARATE)
    weights = NoiseWeight(0.002, 10)
    assert item.reference is not None
    early = weights.early(item.reference)
    assert early > 0.005
    assert weights.of(item) == early
    _, noisy = a_scan(accumulated, 0.5, SEPARATE)  # of another contrast, say
    other = item.replace(reference=noisy.reference)
    assert weights.early(noisy.reference) > 2 * weights.of(other)
    assert weights.of(other) == weights.of(item.replace(reference=None))


@pytest.mark.parametrize("std", [0.1, 0.3])
def test_noisy_scans_gain(accumulated: Any, run_stage: Any, std: float) -> None:
    scan, item = a_scan(accumulated, std)
    fixed = run_stage(Sense(), scan.header_xml, [item]).one
    following = run_stage(Sense(l2_noise=10), scan.header_xml, [item]).one
    assert error(following, scan) < 0.8 * error(fixed, scan)
    assert "SenseWeight" not in fixed.meta
    assert float(following.meta.first("SenseWeight")) > 0.01


def test_images_keep_their_scale(accumulated: Any, run_stage: Any) -> None:
    """What a large weight takes off all of the image is given back."""
    scan, item = a_scan(accumulated, 0.1)
    truth = truth_of(scan)
    following = run_stage(Sense(l2_noise=10), scan.header_xml, [item]).one
    weight = float(following.meta.first("SenseWeight"))
    plain = run_stage(Sense(l2=weight), scan.header_xml, [item]).one
    scales = [
        abs(np.vdot(truth, one.data[0].numpy())) / np.vdot(truth, truth).real for one in (following, plain)
    ]
    assert scales[0] == pytest.approx(1, abs=0.06)
    assert scales[1] < scales[0]
    assert error(following, scan) == pytest.approx(error(plain, scan), rel=0.01)


def test_of_two_sets_of_maps_both_images_keep_their_scale(accumulated: Any, run_stage: Any) -> None:
    scan, item = a_scan(accumulated, 0.1)
    second = torch.zeros_like(item.coil_maps)
    second[:, :, 30:50] = torch.roll(item.coil_maps, 1, dims=0)[:, :, 30:50]
    item = item.replace(second_maps=second)
    following = run_stage(Sense(l2_noise=10), scan.header_xml, [item]).one
    plain = run_stage(Sense(l2=float(following.meta.first("SenseWeight"))), scan.header_xml, [item]).one
    ratio = following.data.abs().sum() / plain.data.abs().sum()
    assert 1 < float(ratio) < 1.5
    torch.testing.assert_close(following.data, plain.data * ratio, rtol=0.02, atol=0.02)


def test_columns_and_iterations_agree_and_are_begun_early(
    accumulated: Any, run_stage: Any, made_by: list[str]
) -> None:
    scan, item = a_scan(accumulated, 0.1, SEPARATE)
    outline = item.replace(data=item.data.new_zeros(()).expand(item.data.shape), mask=item.mask & False)
    early = Calibration(outline, item.mask.clone())
    exact = run_stage(Sense(solver="columns", l2_noise=10), scan.header_xml, [early, item]).one
    assert len(made_by) == 1
    assert made_by[0] != threading.current_thread().name
    iterated = run_stage(Sense(l2_noise=10, tolerance=1e-6), scan.header_xml, [item]).one
    torch.testing.assert_close(exact.data, iterated.data, rtol=1e-3, atol=1e-3)
