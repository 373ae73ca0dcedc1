"""The report of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scanside.demo.compare import Magnitude, Quality, SliceResult, mean
from scanside.demo.result import (
    CLASSICAL,
    TITLES,
    ZERO_FILLED,
    DemoResult,
    FilmResult,
    LearnedResult,
    MethodResult,
)
from scanside.inspection import inspect_file
from scanside.report import figures, reports
from scanside.report.films import Film, film_window, gif_of, liveliest_row
from scanside.report.page import Messages, Movie, Page, Picture, Rows, Section, Text
from scanside.report.views import View, plane_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scanside.inspection import EncodingSurvey, Inspection
    from scanside.report import Observations

__all__ = ["write_page"]

_TRUTH = (
    "Truth is the simulated object as the receive array sees it (times the root sum of squares of the prewhitened "
    "true coil maps)."
)
_DETAIL = 0.34
"""Share of the image's sides that the detail shows."""


_MEASURES = ("PSNR, dB", "SSIM", "PSNR in the object, dB", "SSIM in the object")


def write_page(result: DemoResult, observed: Observations, recording: Path) -> None:
    """Write the page, and its pictures as PNG files beside it.

    Args:
        result: of the demonstration.
        observed: coil maps that were seen between the stages of the classical pipeline.
        recording: raw data of the classical pipeline.
    """
    found = inspect_file(recording)
    comparison, learned = _classical_section(result), _learned_section(result.learned)
    checked, film = _checked_section(result.checked), _film_section(result.film)
    images = reports.image_sections(result.node.images)
    coils = reports.coil_sections(observed, result.direct.images)
    sampling, noise = reports.sampling_section(found), reports.noise_section(found)
    page = Page(
        title="Scanside demonstration",
        lead="Simulated scans, reconstructed in a Gadgetron node: learned pipelines, and the classical one",
        highlights=_highlights(result, found),
        sections=[
            learned,
            checked,
            film,
            _engine_section([*result.learned.methods, result.film.method]),
            comparison,
            *images,
            sampling,
            *coils,
            noise,
            _time_section(result),
            reports.scan_section(found),
        ],
    )
    page.write(result.report)
    shown = {
        "comparison": comparison,
        "learned": learned,
        "checked": checked,
        "film": film,
        "images": images[0],
        "sampling": sampling,
        "coil_maps": coils[0],
        "noise": noise,
    }
    for name, section in shown.items():
        picture = next(part.figure for part in section.parts if isinstance(part, Picture))
        figures.save(picture, result.folder / f"{name}.png")
    movie = next(part for part in film.parts if isinstance(part, Movie))
    (result.folder / "film.gif").write_bytes(movie.gif)


def _highlights(result: DemoResult, found: Inspection) -> dict[str, str]:
    shown = {}
    for name in _methods(result.learned.slices):
        shown[f"{_title(name)}, R = 4"] = _numbers(mean(result.learned.slices, name))
    for name, (psnr, ssim, _) in result.film.quality.items():
        shown[f"film, {_title(name)}"] = f"{psnr:.1f} dB, {ssim:.3f}"
    shown[f"{_title(CLASSICAL)}, {_acquired(found.encodings)} lines"] = _numbers(
        mean(result.slices, CLASSICAL)
    )
    return shown


def _learned_section(learned: LearnedResult) -> Section:
    methods = _methods(learned.slices)
    caption = (
        "One slice by every method, each image scaled to fit the truth best, all in one window; a detail of it; and "
        f"below, what is wrong with each, in one scale. {_TRUTH}"
    )
    rows = []
    for name in methods:
        by_slice = ", ".join(f"{one.quality[name].psnr_db:.1f}" for one in learned.slices)
        rows.append((*_row(name, learned.slices), by_slice))
    columns = ("method, means of all slices", *_MEASURES, "PSNR of each slice, dB")
    section = Section("Learned reconstruction, for research use only")
    section.parts += _messages(learned.methods)
    section.parts += [
        Picture(_learned_figure(learned), caption, "Images of every method, a detail, and error maps"),
        Rows(columns, rows, frozenset(columns[1:])),
        Text(
            "Networks were trained before, on other images, and came with Scanside; their manifests name data and "
            "licences (scanside engines show NAME). A simulated brain shows that the chain works, and no more of how "
            "good they are: scanside evaluate measures that on data of yours."
        ),
    ]
    return section


def _checked_section(checked: LearnedResult) -> Section:
    """What goes out where a network is of no use, and where another one is."""
    caption = (
        "A noisy slice: what each pipeline sends, and what student would have sent without its check; a detail of "
        f"each; and what is wrong with each, in one scale. {_TRUTH}"
    )
    columns = ("method", *_MEASURES)
    rows = [_row(name, checked.slices) for name in _methods(checked.slices)]
    section = Section("Learned images that check themselves, for research use only")
    section.parts += _messages(checked.methods)
    section.parts += [
        Picture(_learned_figure(checked), caption, "Images that were sent, a detail, and error maps"),
        Rows(columns, rows, frozenset(columns[1:])),
        Text(
            "A few acquired lines are kept from network and classical method, and both predict them. Where the "
            "network does so worse by more than chance, its image does not go out (engine.check). So that there is "
            "something to notice, student begins here with CG-SENSE of one weight for all scans (l2_noise: 0)."
        ),
    ]
    return section


def _row(name: str, slices: Sequence[SliceResult]) -> tuple[str, ...]:
    """A method and `_MEASURES` of it."""
    psnr, ssim, psnr_inside, ssim_inside = mean(slices, name)
    return _title(name), f"{psnr:.1f}", f"{ssim:.3f}", f"{psnr_inside:.1f}", f"{ssim_inside:.3f}"


def _film_section(film: FilmResult) -> Section:
    """All films side by side as one that plays; a frame of each, what lies on a line as time goes on, and errors."""
    columns = ("method, means of all frames", "PSNR, dB", "SSIM", "PSNR where it moves, dB")
    rows = [
        (_title(name), f"{psnr:.1f}", f"{ssim:.3f}", f"{moving:.1f}")
        for name, (psnr, ssim, moving) in film.quality.items()
    ]
    shown = {**film.films, "truth": film.truth}
    side_by_side = np.concatenate(list(shown.values()), axis=2)
    frames = Film([_plain(film, pixels) for pixels in side_by_side], "repetition", film.frame_ms)
    n = len(film.truth)
    names = ", ".join(map(_title, shown))
    played = f"{names}: {n} frames, one every {film.frame_ms:.0f} ms, sent at the scanner's pace"
    caption = (
        "A frame in systole by every method; the line across the heart in which most moves, as time goes on "
        f"downwards; and what is wrong with each frame, in one scale. {_TRUTH}"
    )
    section = Section("Film of a beating heart, for research use only")
    section.parts += _messages([film.method])
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
        images.append(View(pixels[frame], f"{_title(name)}\n{numbers}", pixel_mm=_pixel_mm(film)))
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


def _messages(methods: Sequence[MethodResult]) -> list[Messages]:
    missing = [("warning", f"{one.pipeline}: {one.missing}") for one in methods if one.missing]
    notes = [("warning", f"{one.pipeline}: {text}") for one in methods for text in one.notes]
    return [Messages(missing + notes)] if missing or notes else []


def _engine_section(methods: Sequence[MethodResult]) -> Section:
    """Which engine ran, and why each other one did not."""
    columns = ("pipeline", "engine", "precision", "", "why")
    rows = [
        (one.pipeline, verdict.backend, verdict.precision, verdict.status, verdict.why)
        for one in methods
        if one.choice is not None
        for verdict in one.choice.verdicts
    ]
    section = Section("Engines")
    if rows:
        section.parts += [
            Rows(columns, rows),
            Text(
                "No more engines are built here than are needed, and only those that are built quickly; others "
                "are used where they are there. scanside engines build NAME builds all that this machine can have."
            ),
        ]
    return section


def _classical_section(result: DemoResult) -> Section:
    columns = (
        "slice",
        *(f"PSNR {_title(name)}, dB" for name in (ZERO_FILLED, CLASSICAL)),
        *(f"SSIM {_title(name)}" for name in (ZERO_FILLED, CLASSICAL)),
    )
    rows = [
        (
            str(one.slice),
            *(f"{one.quality[name].psnr_db:.1f}" for name in (ZERO_FILLED, CLASSICAL)),
            *(f"{one.quality[name].ssim:.3f}" for name in (ZERO_FILLED, CLASSICAL)),
        )
        for one in result.slices
    ]
    caption = (
        "Zero-filled, the pipeline's image, and truth, each scaled to fit the truth best, in one window; right, what "
        f"is wrong with the first two. {_TRUTH}"
    )
    farthest = max(one.distance_mm for one in result.slices)
    return Section(
        "Classical reconstruction, compared with the truth",
        [
            Picture(_classical_figure(result), caption, "Zero-filled, result, truth and error maps"),
            Rows(columns, rows, frozenset(columns[1:])),
            Text(f"By their headers, all voxels of the images lie within {farthest:.1g} mm of the truth's."),
        ],
    )


def _time_section(result: DemoResult) -> Section:
    times = reports.latency_section(result.direct.trace)
    same = "the same pixels, bit for bit" if result.same_pixels else "other pixels: a defect"
    times.parts.append(
        Text(
            f"Pipeline {CLASSICAL}, measured in one process. In the Gadgetron node the scan took "
            f"{result.node.seconds:.2f} s, loading of torch included, and gave {same}."
        )
    )
    return times


def _acquired(encodings: Sequence[EncodingSurvey]) -> str:
    pattern = encodings[0].sampling
    assert pattern is not None
    return f"{pattern.n_lines} of {int(pattern.within.sum())}"


def _classical_figure(result: DemoResult) -> Figure:
    rows, errors = [], []
    for one in result.slices:
        titled = [(_title(name), one.images[name]) for name in (ZERO_FILLED, CLASSICAL)]
        shown = [*titled, ("truth", one.truth)]
        rows.append((f"slice {one.slice}", [_view(one, pixels, title) for title, pixels in shown]))
        errors.append([_error(one, pixels, f"error, {title}") for title, pixels in titled])
    return figures.comparison_figure(rows, errors)


def _learned_figure(learned: LearnedResult) -> Figure:
    """The middle slice: images, a detail, errors."""
    one = learned.slices[len(learned.slices) // 2]
    images = [
        _view(one, pixels, f"{_title(name)}\n{_numbers(one.quality[name])}")
        for name, pixels in one.images.items()
    ]
    images.append(_view(one, one.truth, "truth\n"))
    details = [_view(one, _detail(view.pixels), "", letters=False) for view in images]
    errors = [_error(one, pixels, "") for pixels in one.images.values()]
    return figures.methods_figure(images, details, errors)


def _detail(pixels: Magnitude) -> Magnitude:
    """A part beside the middle: cortex, a ventricle, and rows of small dots."""
    n_y, n_x = (round(_DETAIL * n) for n in pixels.shape)
    y, x = round(0.28 * pixels.shape[0]), round(0.24 * pixels.shape[1])
    return pixels[y : y + n_y, x : x + n_x]


def _methods(slices: Sequence[SliceResult]) -> list[str]:
    return list(slices[0].images)


def _numbers(quality: Quality) -> str:
    return f"{quality.psnr_db:.1f} dB, {quality.ssim:.3f}"


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _error(one: SliceResult, pixels: Magnitude, title: str) -> View:
    return _view(one, 100 * np.abs(pixels - one.truth) / one.truth.max(), title, letters=False)


def _view(one: SliceResult, pixels: Magnitude, title: str, *, letters: bool = True) -> View:
    view = plane_view(pixels[None], one.geometry, 2, 0, title)
    return view if letters else View(view.pixels, title, pixel_mm=view.pixel_mm)
