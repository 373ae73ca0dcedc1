"""Pictures are the right way round, in the right proportions, and no bright pixel is lost unsaid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scanside.items import Image
from scanside.report.views import Edges, View, image_views, select, window_of

MakeImage = Callable[..., Image]


def test_edges_of_an_axial_slice(make_image: MakeImage) -> None:
    (view,) = image_views(make_image(np.arange(12, dtype=np.float32).reshape(1, 3, 4), voxel_mm=(1, 2, 5)))
    assert view.edges == Edges(left="R", right="L", top="A", bottom="P")
    assert view.pixel_mm == (2, 1)
    assert view.size_mm == (6, 4)
    np.testing.assert_array_equal(view.pixels, np.arange(12).reshape(3, 4))


def test_edges_follow_the_scanner_also_left_handed(make_image: MakeImage) -> None:
    image = make_image(np.ones((1, 4, 4), np.float32), directions=((-1, 0, 0), (0, 1, 0), (0, 0, 1)))
    assert image_views(image)[0].edges == Edges("L", "R", "A", "P")


def test_unknown_directions_get_no_letters(make_image: MakeImage) -> None:
    image = make_image(np.ones((1, 4, 4), np.float32), directions=((0, 0, 0), (0, 0, 0), (0, 0, 0)))
    assert image_views(image)[0].edges == Edges()


def test_planes_of_a_volume_show_the_patient_upright(make_image: MakeImage) -> None:
    """A bright voxel at the front left of the head's top is there in each of the three planes."""
    volume = np.zeros((8, 10, 12), np.float32)
    volume[6, 1, 10] = 1  # high z is head, low y front, high x left
    volume[4], volume[:, 5], volume[:, :, 6] = (volume.max(axis) for axis in (0, 1, 2))
    axial, coronal, sagittal, *slices = image_views(make_image(volume))
    assert len(slices) == 8
    assert [view.edges for view in (axial, coronal, sagittal)] == [
        Edges("R", "L", "A", "P"),
        Edges("R", "L", "H", "F"),
        Edges("A", "P", "H", "F"),
    ]
    assert np.argwhere(axial.pixels).tolist()[0] == [1, 10]
    assert [1, 10] in np.argwhere(coronal.pixels).tolist()  # near the top, to the right of the picture: left
    assert [1, 1] in np.argwhere(sagittal.pixels).tolist()  # near the top, to the left of the picture: front


def test_reformatted_planes_turn_with_their_letters() -> None:
    view = View(np.array([[1.0, 2.0], [3.0, 4.0]]), edges=Edges("P", "A", "F", "H")).upright()
    assert view.pixels.tolist() == [[4, 3], [2, 1]]
    assert view.edges == Edges("A", "P", "H", "F")
    assert view.upright() == view or view.upright().pixels.tolist() == view.pixels.tolist()


def test_window_holds_the_maximum_or_says_what_it_does_not() -> None:
    rng = np.random.default_rng(0)
    plain = View(rng.uniform(0, 1, (100, 100)))
    assert window_of([plain]).high == plain.pixels.max()
    assert "brighter" not in window_of([plain]).describe()
    spiked = View(np.where(rng.random((100, 100)) < 0.001, 50, plain.pixels))
    window = window_of([spiked])
    assert window.low == 0
    assert window.high < 2
    assert window.beyond == pytest.approx((spiked.pixels > window.high).mean())
    assert "brighter" in window.describe()


def test_window_of_signed_and_of_phase_pictures(make_image: MakeImage) -> None:
    signed = window_of([View(np.array([[-2.0, 1.0]]), kind="real")])
    assert (signed.low, signed.high) == (-2, 2)
    (phase,) = image_views(make_image(np.zeros((1, 2, 2), np.float32), kind="phase"))
    assert window_of([phase]).high == pytest.approx(np.pi)
    assert window_of([View(np.zeros((2, 2)))]).high > 0


def test_complex_images_show_as_magnitude(make_image: MakeImage) -> None:
    (view,) = image_views(
        make_image(np.full((1, 2, 2), 3 + 4j, np.complex64), kind="complex", slice=2, phase=3)
    )
    assert view.kind == "magnitude"
    assert view.pixels.tolist() == [[5, 5], [5, 5]]
    assert view.title == "slice 2, phase 3"


@pytest.mark.parametrize(("n", "at_most"), [(3, 5), (5, 5), (100, 7), (9, 1)])
def test_selection_is_spread_evenly(n: int, at_most: int) -> None:
    chosen = list(select(n, at_most))
    assert len(chosen) == min(n, at_most) == len(set(chosen))
    if at_most > 1:
        assert (chosen[0], chosen[-1]) == (0, n - 1)
