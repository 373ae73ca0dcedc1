"""The demonstration on a small scan: everything is made, right, and in its place."""

from __future__ import annotations

import numpy as np
import pytest

from scanside import demo
from scanside.demo import DemoResult, run_demo
from scanside.errors import ScansideError
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    Truth,
)

SCAN = ScanConfig(
    phantom=PhantomConfig(supersampling=(1, 1, 1)),
    coils=CoilConfig(n_coils=8),
    noise=NoiseConfig(std=0.005, readouts=32),
    sampling=SamplingConfig(acceleration=(2, 1), acs=(20, 0)),
    geometry=GeometryConfig(
        matrix=(64, 64, 1),
        n_slices=3,
        slice_order="interleaved",
        rotation_deg=(-14, 5, 4),
        offset_mm=(0, 0, 16),
    ),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo") / "new", config=SCAN)


def test_images_are_better_than_zero_filled_ones(made: DemoResult) -> None:
    assert [one.slice for one in made.slices] == [0, 1, 2]
    for one in made.slices:
        assert one.psnr_db[1] > one.psnr_db[0] + 5
        assert one.ssim[1] > one.ssim[0] + 0.1
        assert one.distance_mm < 1e-3


def test_node_gives_the_same_pixels(made: DemoResult) -> None:
    assert made.same_pixels
    with Hdf5Reader(made.folder / "images.h5") as reader:
        stored = [image.data for series in reader.image_series() for image in reader.images(series)]
    for ours, image in zip(stored, made.direct.images, strict=True):
        np.testing.assert_array_equal(ours, image.data.numpy())


def test_everything_is_there(made: DemoResult) -> None:
    named = {line.split()[0] for line in (made.folder / "README.txt").read_text().splitlines()} - {"*.png"}
    pictures = {"comparison.png", "images.png", "sampling.png", "coil_maps.png", "noise.png"}
    assert {path.name for path in made.folder.iterdir()} == named | pictures | {"README.txt"}
    html = made.report.read_text("utf-8")
    for expected in (
        "Compared with the truth",
        "bit for bit",
        "Time per stage",
        "Research use only",
        "PSNR grappa, dB",
    ):
        assert expected in html


def test_the_truth_is_found_by_place_and_not_by_counter(made: DemoResult) -> None:
    truth = Truth.load(made.folder / "truth.npz")
    geometry = made.slices[2].geometry
    assert demo._true_slice(geometry, truth)[0] == 2
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
        demo._true_slice(shifted, truth)
