"""How arrays are to be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import FileFormatError, FormatError
from scanside.items import Image
from scanside.mrd.dtypes import IMAGE_HEADER
from scanside.mrd.geometry import Geometry
from scanside.report.views import image_views, window_of
from scanside_gadgetron.monitor.pictures import (
    describe_picture,
    little_endian,
    observation_array,
    slice_of,
)


def test_drawn_as_the_report_draws_it() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.rayleigh(size=(1, 30, 40)).astype(np.float32)
    pixels[0, 3, 4] = 1000
    header = np.zeros((), IMAGE_HEADER)[()]
    cos, sin = np.cos(0.3), np.sin(0.3)
    # Left-handed, tilted, and with pixels that are not square.
    Geometry(
        np.array([5.0, -3.0, 20.0]),
        np.array([0.0, cos, sin]),
        np.array([1.0, 0.0, 0.0]),
        np.array([0.0, -sin, cos]),
        (200.0, 300.0, 5.0),
        (40, 30, 1),
    ).to_image_header(header)
    (view,) = image_views(Image(torch.from_numpy(pixels)[None], header))
    facts = {
        name: header[name].tolist()
        for name in ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view")
    }
    picture = describe_picture(pixels, facts)
    edges = view.edges
    assert picture.edges == (edges.left, edges.right, edges.top, edges.bottom) == ("AF", "PH", "R", "L")
    assert picture.pixel_mm == view.pixel_mm == (10.0, 5.0)
    assert picture.high == pytest.approx(window_of([view]).high) != 1000
    assert picture.affine is not None
    np.testing.assert_allclose(np.array(picture.affine) @ [20, 15, 0, 1], [5, -3, 20], atol=1e-5)


@pytest.mark.parametrize(
    "facts",
    [{}, {"position": "somewhere"}, {"position": [0, 0, 0], "read_dir": [2, 0, 0], "phase_dir": [2, 0, 0]}],
)
def test_unknown_geometry_gives_no_letters(facts: dict[str, Any]) -> None:
    picture = describe_picture(np.zeros((1, 4, 4), np.float32), facts)
    assert picture.edges == ("", "", "", "")
    assert picture.affine is None
    assert picture.high == 1.0


def test_not_a_number_does_not_spoil_the_window() -> None:
    pixels = np.full((1, 8, 8), 5, np.float32)
    pixels[0, 0, 0], pixels[0, 0, 1] = np.nan, np.inf
    assert describe_picture(pixels, {}).high == 5


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((1, 4, 4), np.complex64), np.zeros((0, 4, 4), np.float32)],
)
def test_what_is_no_picture(array: Any) -> None:
    with pytest.raises(FileFormatError):
        describe_picture(array, {})


def test_slices() -> None:
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(slice_of(volume, 1), volume[1])
    for z in (-1, 2):
        with pytest.raises(FormatError, match="has 2"):
            slice_of(volume, z)


def test_bytes_are_little_endian_whatever_the_file_holds(tmp_path: Path) -> None:
    content, kind = little_endian(np.array([1.5, -2], ">f4"))
    assert kind == "float32"
    assert content == b"\x00\x00\xc0\x3f\x00\x00\x00\xc0"
    assert little_endian(np.array([258], np.uint16)) == (b"\x02\x01", "uint16")


def test_observations() -> None:
    maps = np.ones((3, 5, 300, 200), np.complex64)
    maps[:, 2] *= 2j
    drawn = observation_array("coils", maps)
    assert drawn.shape == (2, 3, 100, 67)
    assert drawn[0].min() == drawn[0].max() == 2
    np.testing.assert_allclose(drawn[1], np.pi / 2, rtol=1e-6)
    outside = np.zeros((5, 300, 200), np.float32)
    outside[:, 60:240, 40:160] = 1
    cut = observation_array("coils", maps, outside)
    assert cut[0, :, 10, :].max() == 0
    assert cut[0, :, 50, 33].min() == 2
    np.testing.assert_array_equal(observation_array("coils", maps, outside[:1]), drawn)
    noise = observation_array("noise", np.array([[2, 1j], [-1j, 3]]))
    np.testing.assert_array_equal(noise, [[2, 1], [1, 3]])
    with pytest.raises(FileFormatError, match="2 axes"):
        observation_array("sampling", np.zeros((1, 2, 3)))
