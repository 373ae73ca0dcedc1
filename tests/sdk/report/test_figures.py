"""Figures show what they are given: looked for in the pixels of the drawn PNG."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image as PillowImage

from scanside.inspection import inspect_file
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.report.figures import (
    coil_maps_figure,
    comparison_figure,
    image_figure,
    mask_figure,
    methods_figure,
    noise_figure,
    png_of,
    sampling_figure,
    save,
)
from scanside.report.views import Edges, View
from scanside.sampling import Limits, Space, generator, plane_mask, series_mask
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)


def drawn(figure: Figure) -> npt.NDArray[np.uint8]:
    return np.asarray(PillowImage.open(io.BytesIO(png_of(figure))).convert("RGB"))


def pictures(figure: Figure) -> list[AxesImage]:
    return [image for axis in figure.axes if axis.get_visible() for image in axis.images]


def texts(figure: Figure) -> list[str]:
    return [
        text.get_text()
        for axis in figure.axes
        if axis.get_visible()
        for text in axis.texts
        if text.get_text()
    ]


def test_images_are_drawn_row_by_row_from_the_top_left() -> None:
    pixels = np.zeros((40, 60))
    pixels[:10, :15] = 1
    view = View(pixels, "corner", pixel_mm=(2.0, 1.0), edges=Edges("R", "L", "A", "P"))
    figure = image_figure([view])
    grey = drawn(figure)
    black = np.argwhere((grey < 20).all(axis=2))
    top, left = black.min(axis=0)
    bottom, right = black.max(axis=0)
    assert (bottom - top) / (right - left) == pytest.approx(80 / 60, rel=0.03)
    height, width = bottom - top, right - left
    # The bright quarter begins where the picture does: nothing black above or left of it.
    assert (grey[top + height // 8, left + width // 16] > 200).all()
    assert (grey[bottom - height // 8, right - width // 8] < 20).all()
    assert sorted(texts(figure)) == ["A", "L", "P", "R"]


def test_one_window_for_all_images() -> None:
    figure = image_figure([View(np.full((8, 8), value)) for value in (1.0, 2.0, 4.0)])
    assert [image.get_clim() for image in pictures(figure)] == [(0, 4)] * 3


def test_error_scale_shows_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    good, bad = View(rng.uniform(0, 1, (20, 20))), View(rng.uniform(0, 100, (20, 20)))
    truth = View(np.ones((20, 20)))
    figure = comparison_figure([("slice 0", [truth, truth]), ("slice 1", [truth, truth])], [[bad, good]] * 2)
    low, high = pictures(figure)[2].get_clim()
    assert low == 0
    assert 2 <= high <= 60
    assert "error, % of the truth's maximum" in [axis.get_ylabel() for axis in figure.axes]
    save(figure, tmp_path / "new" / "folder.png")
    assert (tmp_path / "new" / "folder.png").read_bytes().startswith(b"\x89PNG")


def test_coil_maps_have_magnitude_and_phase() -> None:
    x = np.tile(np.linspace(-1, 1, 20), (16, 1))
    maps = np.stack([np.exp(1j * (x + i)) * (1 + 0.1 * i) for i in range(10)]).astype(np.complex64)
    figure = coil_maps_figure(maps)
    shown = [image for image in pictures(figure) if image.get_array().shape == (16, 20)]
    assert len(shown) == 20
    np.testing.assert_allclose(shown[0].get_array(), np.abs(maps[0]), rtol=1e-6)
    assert any(np.allclose(image.get_array(), np.angle(maps[3]), atol=1e-5) for image in shown)


def test_coil_maps_are_blank_outside_the_object() -> None:
    maps = np.ones((2, 8, 8), np.complex64)
    object_ = np.zeros((8, 8))
    object_[2:6, 2:6] = 1
    (first, *_) = pictures(coil_maps_figure(maps, View(object_)))
    np.testing.assert_array_equal(np.ma.getmaskarray(first.get_array()), object_ == 0)


def test_noise_shows_correlation_and_level() -> None:
    covariance = np.array([[4, 1j], [-1j, 1]], np.complex128)
    figure = noise_figure(covariance)
    np.testing.assert_allclose(pictures(figure)[0].get_array(), [[1, 0.5], [0.5, 1]])
    heights = [bar.get_height() for axis in figure.axes for bar in axis.patches]
    assert heights[0] / heights[1] == pytest.approx(2)


def test_no_global_state_is_touched() -> None:
    before = dict(matplotlib.rcParams)
    png_of(image_figure([View(np.ones((4, 4)))]))
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_methods_share_windows_and_the_scale_fits_the_median() -> None:
    images = [View(np.full((8, 8), value), f"{value}") for value in (1.0, 2.0, 3.0, 4.0)]
    errors = [View(np.full((8, 8), value)) for value in (90.0, 8.0, 2.0)]
    figure = methods_figure(images, images, errors)
    limits = [image.get_clim() for image in pictures(figure)]
    assert limits[:8] == [(0, 4)] * 8
    assert limits[8:11] == [(0, 8)] * 3
    assert "error, % of the truth's maximum" in [axis.get_ylabel() for axis in figure.axes] + [
        child.get_ylabel() for axis in figure.axes for child in axis.child_axes
    ]


def test_lines_of_frames_stand_beside_those_of_the_first(tmp_path: Path) -> None:
    config = ScanConfig(
        phantom=PhantomConfig(kind="cardiac"),
        coils=CoilConfig(n_coils=1),
        geometry=GeometryConfig(matrix=(16, 24, 1)),
        sampling=SamplingConfig(pattern="kt", acceleration=(4, 1), acs=(3, 0)),
        dynamics=DynamicsConfig(repetitions=5),
    )
    scan = simulate(config)
    path = tmp_path / "film.h5"
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    found = inspect_file(path)
    left, right = pictures(sampling_figure(found.encodings))
    first, film = np.asarray(left.get_array()), np.asarray(right.get_array())
    assert film.shape == (24, 5)
    assert np.array_equal(film[:, 0], first[:, 0])
    sampling = found.encodings[0].sampling
    assert sampling is not None
    assert sampling.frames is not None
    assert np.array_equal(film >= 3, sampling.frames.T)
    assert (film[11:14] == 4).all()


def test_masks_stand_beside_the_image_of_a_point() -> None:
    space = Space.of(Limits((0.75, 1.0)).region((32, 24)), (6, 4))
    mask = plane_mask("random", space, acceleration=3, rng=generator(0))
    kinds, decibels, *_ = (image.get_array() for image in pictures(mask_figure(mask, space)))
    assert (kinds == 3).sum() == 24
    assert (kinds >= 2).sum() == mask.sum()
    assert (kinds == 0).sum() == 8 * 24
    assert np.unravel_index(np.argmax(decibels), decibels.shape) == (16, 12)
    assert decibels.max() == 0
    lines = Space.of(np.ones(32, bool), (4,))
    frames = series_mask("kt", lines, 5, acceleration=4, rng=generator(0))
    (shown,) = (image.get_array() for image in pictures(mask_figure(frames, lines)))
    assert np.array_equal(shown >= 2, frames.T)
