"""Films: found among images, played in order, and looked through along time."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from scanside.report.films import film_window, films_of, gif_of, liveliest_row
from scanside.report.reports import film_parts, image_sections
from scanside.report.views import Window


def frames(make_image: Any, n: int = 5, along: str = "repetition", **counters: int) -> list[Any]:
    """A bright row that moves up and down about the middle of 40 × 20 pixels of 2 × 1 mm."""
    images = []
    for i in range(n):
        pixels = np.zeros((1, 40, 20), np.float32)
        pixels[0, 20, 4 * i : 4 * i + 4] = 1
        when = {along: i, "acquisition_time_stamp": 1000 + 40 * i}
        images.append(make_image(pixels, voxel_mm=(1.0, 2.0, 5.0), **when, **counters))
    return images


def test_films_are_found(make_image: Any) -> None:
    images = frames(make_image) + frames(make_image, slice=1)
    films = films_of(images[::-1])
    assert [len(film.views) for film in films] == [5, 5]
    for film in films:
        assert film.along == "repetition"
        assert film.frame_ms == 100
        assert film.played_ms == 100
        assert [int(view.pixels[20].argmax()) for view in film.views] == [0, 4, 8, 12, 16]


def test_phases_are_a_beat(make_image: Any) -> None:
    (film,) = films_of(frames(make_image, 4, "phase"))
    assert (film.along, film.frame_ms, film.played_ms) == ("phase", None, 250)


def test_what_is_no_film(make_image: Any) -> None:
    assert films_of(frames(make_image, 2)) == []
    assert films_of([image for s in range(5) for image in frames(make_image, 1, slice=s)]) == []
    # Phases of several repetitions are no one film.
    both = [image for r in range(3) for image in frames(make_image, 3, "phase", repetition=r)]
    assert films_of(both) == []
    volume = make_image(np.zeros((4, 8, 8), np.float32))
    assert films_of([volume] * 4) == []


def test_gif_shows_the_frames_in_order(make_image: Any) -> None:
    (film,) = films_of(frames(make_image))
    gif = PillowImage.open(io.BytesIO(gif_of(film, Window(0.0, 1.0))))
    assert gif.n_frames == 5  # type: ignore[attr-defined]
    assert gif.size == (10, 40)  # pixels are twice as high as wide
    assert gif.info["duration"] == 100
    assert gif.info["loop"] == 0
    bright = []
    for i in range(5):
        gif.seek(i)
        bright.append(int(np.asarray(gif.convert("L"))[20].argmax()) // 2)
    assert bright == [0, 1, 2, 3, 4]


def test_long_films_are_thinned_out(make_image: Any) -> None:
    images = [image for image in frames(make_image, 5) for _ in range(50)]
    images = [
        make_image(image.data[0].numpy(), repetition=i, acquisition_time_stamp=8 * i)
        for i, image in enumerate(images)
    ]
    (film,) = films_of(images)
    gif = PillowImage.open(io.BytesIO(gif_of(film, Window(0.0, 1.0))))
    total = 0
    for i in range(gif.n_frames):  # type: ignore[attr-defined]
        gif.seek(i)
        total += gif.info["duration"]
    assert total == pytest.approx(250 * 20, rel=0.05)


def test_profile_is_taken_where_something_moves(make_image: Any) -> None:
    (film,) = films_of(frames(make_image))
    assert abs(liveliest_row(film) - 20) <= 2


def test_what_moves_is_not_dark_beside_what_is_bright(make_image: Any) -> None:
    images = frames(make_image)
    (plain,) = films_of(images)
    assert film_window(plain) == Window(0.0, 1.0)
    for image in images:
        image.data[0, 0, 30:, :] = 10
    (film,) = films_of(images)
    window = film_window(film)
    assert window.high == pytest.approx(1.25)
    assert window.beyond == pytest.approx(0.25)


def test_report_plays_films(make_image: Any) -> None:
    images = frames(make_image) + frames(make_image, slice=1)
    sections = image_sections(images)
    assert [section.title for section in sections] == ["Images", "Film, slice 0", "Film, slice 1"]
    (film, _) = films_of(images)
    movie, picture = film_parts(film)
    assert "one every 100 ms" in movie.caption  # type: ignore[union-attr]
    assert movie.source.startswith("data:image/gif;base64,")  # type: ignore[union-attr]
    left, right = picture.figure.axes  # type: ignore[union-attr]
    assert np.asarray(right.images[0].get_array()).shape == (20, 5)
    assert 18 <= float(np.asarray(left.lines[0].get_ydata())[0]) <= 22
