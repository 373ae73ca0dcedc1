"""Films of several methods side by side, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from scanside.demo.compare import Magnitude
from scanside.demo.methods_section import TRUTH, messages_of, title_of
from scanside.demo.result import FilmResult
from scanside.report import figures
from scanside.report.films import Film, film_window, gif_of, liveliest_row
from scanside.report.page import Movie, Picture, Rows, Section
from scanside.report.views import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["film_section"]


def film_section(film: FilmResult, title: str) -> Section:
    """All films side by side as one that plays; a frame of each, what lies on a line as time goes on, and errors."""
    columns = ("method, means of all frames", "PSNR, dB", "SSIM", "PSNR where it moves, dB")
    rows = [
        (title_of(name), f"{psnr:.1f}", f"{ssim:.3f}", f"{moving:.1f}")
        for name, (psnr, ssim, moving) in film.quality.items()
    ]
    shown = {**film.films, "truth": film.truth}
    side_by_side = np.concatenate(list(shown.values()), axis=2)
    frames = Film([_plain(film, pixels) for pixels in side_by_side], "repetition", film.frame_ms)
    n = len(film.truth)
    names = ", ".join(map(title_of, shown))
    played = f"{names}: {n} frames, one every {film.frame_ms:.0f} ms, sent at the scanner's pace"
    caption = (
        "A frame in systole by every method; the line across the heart in which most moves, as time goes on "
        f"downwards; and what is wrong with each frame, in one scale. {TRUTH}"
    )
    section = Section(title)
    section.parts += messages_of([film.method])
    section.parts += [
        Movie(gif_of(frames, film_window(frames)), f"{played}.", "Films of every method", width_px=1100),
        Picture(_film_figure(film, shown), caption, "A frame of every method, x–t, and error maps"),
        Rows(columns, rows, frozenset(columns[1:])),
    ]
    return section


def _film_figure(film: FilmResult, shown: Mapping[str, Magnitude]) -> Figure:
    truth = Film([_plain(film, pixels) for pixels in film.truth], "repetition", film.frame_ms)
    line = liveliest_row(truth)
    # The heart is smallest where it has changed most from the first frame.
    frame = int(np.abs(film.truth - film.truth[0])[:, film.moving].mean(axis=1).argmax())
    images, lines, errors = [], [], []
    for name, pixels in shown.items():
        quality = film.quality.get(name)
        numbers = "" if quality is None else f"{quality.psnr_db:.1f} dB, {quality.ssim:.3f}"
        images.append(View(pixels[frame], f"{title_of(name)}\n{numbers}", pixel_mm=_pixel_mm(film)))
        height = film.truth.shape[1] / len(film.truth) * _pixel_mm(film)[0]
        lines.append(View(pixels[:, line], "", pixel_mm=(height, _pixel_mm(film)[1])))
        if quality is not None:
            wrong = 100 * np.abs(pixels[frame] - film.truth[frame]) / film.truth.max()
            errors.append(View(wrong, "", pixel_mm=_pixel_mm(film)))
    return figures.methods_figure(images, lines, errors)


def _plain(film: FilmResult, pixels: Magnitude) -> View:
    return View(pixels, pixel_mm=_pixel_mm(film))


def _pixel_mm(film: FilmResult) -> tuple[float, float]:
    size = film.geometry.voxel_size_mm
    return float(size[1]), float(size[0])
