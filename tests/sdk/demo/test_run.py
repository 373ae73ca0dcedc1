"""The demonstration on small scans: everything is made, right, and in its place."""

from __future__ import annotations

import numpy as np

from scanside.demo import DemoResult
from scanside.mrd.hdf5 import Hdf5Reader


def test_images_are_better_than_zero_filled_ones(made: DemoResult) -> None:
    assert [one.slice for one in made.slices] == [0, 1, 2]
    for one in made.slices:
        assert one.quality["grappa"].psnr_db > one.quality["fft"].psnr_db + 5
        assert one.quality["grappa"].ssim > one.quality["fft"].ssim + 0.1
        assert one.distance_mm < 1e-3


def test_node_gives_the_same_pixels(made: DemoResult) -> None:
    assert made.same_pixels
    with Hdf5Reader(made.folder / "images.h5") as reader:
        stored = [image.data for series in reader.image_series() for image in reader.images(series)]
    for ours, image in zip(stored, made.direct.images, strict=True):
        np.testing.assert_array_equal(ours, image.data.numpy())


def test_everything_is_there(made: DemoResult) -> None:
    named = {line.split()[0] for line in (made.folder / "README.txt").read_text().splitlines()} - {"*.png"}
    pictures = {
        f"{name}.png"
        for name in ("comparison", "learned", "checked", "film", "images", "sampling", "coil_maps", "noise")
    }
    assert {path.name for path in made.folder.iterdir()} == named | pictures | {"README.txt"}
    images = {path.name for path in (made.folder / "learned").iterdir()}
    assert images == {"scan.h5", "truth.npz", "fft.h5", "sense.h5", "unrolled.h5"}
    checked = {path.name for path in (made.folder / "checked").iterdir()}
    assert checked == {"scan.h5", "truth.npz", "fft.h5", "unrolled.h5"}
    films = {path.name for path in (made.folder / "film").iterdir()}
    assert films == {"scan.h5", "fft.h5", "cine-view-sharing.h5"}
