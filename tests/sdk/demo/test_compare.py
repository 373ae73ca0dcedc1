"""Images beside the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scanside import metrics
from scanside.demo import DemoResult
from scanside.demo.compare import compare_slices, mean, quality_of, true_slice
from scanside.errors import ScansideError
from scanside.mrd.geometry import Geometry
from scanside.simulate import Truth


@pytest.fixture(scope="module")
def truth(made: DemoResult) -> Truth:
    return Truth.load(made.folder / "truth.npz")


def test_the_truth_is_found_by_place_and_not_by_counter(made: DemoResult, truth: Truth) -> None:
    geometry = made.slices[2].geometry
    assert true_slice(geometry, truth)[0] == 2
    voxel = geometry.voxel_size_mm.min()
    shifted = Geometry(
        geometry.position + 0.2 * voxel * geometry.read_dir,
        geometry.read_dir,
        geometry.phase_dir,
        geometry.slice_dir,
        geometry.field_of_view_mm,
        geometry.matrix,
    )
    with pytest.raises(ScansideError, match="from the nearest slice"):
        true_slice(shifted, truth)


def test_methods_must_show_the_same_slices(made: DemoResult, truth: Truth) -> None:
    images = made.node.images
    with pytest.raises(ScansideError, match="'fft' gave no image of slice"):
        compare_slices({"fft": images[1:], "grappa": images}, truth)
    swapped: list[Any] = [image.replace(header=image.header.copy()) for image in images]
    swapped[0].header["slice"], swapped[1].header["slice"] = (
        images[1].header["slice"],
        images[0].header["slice"],
    )
    with pytest.raises(ScansideError, match="different slices of the truth"):
        compare_slices({"fft": swapped, "grappa": images}, truth)


def test_means_are_over_slices(made: DemoResult) -> None:
    found = mean(made.slices, "grappa")
    for i, value in enumerate(found):
        assert value == pytest.approx(np.mean([one.quality["grappa"][i] for one in made.slices]))
    first = made.slices[0]
    assert first.quality["grappa"].ssim == pytest.approx(metrics.ssim(first.images["grappa"], first.truth))


def test_what_lies_outside_the_object_counts_in_the_whole_only(made: DemoResult) -> None:
    truth = made.slices[1].truth
    outside = truth + 0.05 * truth.max() * ~metrics.object_mask(truth)
    found = quality_of(outside, truth)
    assert found.psnr_inside_db > found.psnr_db + 10
    assert found.ssim_inside > found.ssim + 0.1
