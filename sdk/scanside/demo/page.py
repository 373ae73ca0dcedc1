"""The report of the demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.demo.compare import mean
from scanside.demo.film_section import film_section
from scanside.demo.methods_section import (
    MEASURES,
    TRUTH,
    error_view,
    messages_of,
    methods_figure_of,
    methods_of,
    numbers,
    row_of,
    title_of,
    view_of,
)
from scanside.demo.result import CLASSICAL, ZERO_FILLED, DemoResult, LearnedResult, MethodResult
from scanside.demo.showcase_section import showcase_sections
from scanside.inspection import inspect_file
from scanside.report import figures, reports
from scanside.report.page import Movie, Page, Picture, Rows, Section, Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scanside.inspection import EncodingSurvey, Inspection
    from scanside.report import Observations

__all__ = ["write_page"]


def write_page(result: DemoResult, observed: Observations, recording: Path) -> None:
    """Write the page, and its pictures as PNG files beside it.

    Args:
        result: of the demonstration.
        observed: coil maps that were seen between the stages of the classical pipeline.
        recording: raw data of the classical pipeline.
    """
    found = inspect_file(recording)
    comparison, learned = _classical_section(result), _learned_section(result.learned)
    checked, film = (
        _checked_section(result.checked),
        film_section(result.film, "Film of a beating heart, for research use only"),
    )
    images = reports.image_sections(result.node.images)
    coils = reports.coil_sections(observed, result.direct.images)
    sampling, noise = reports.sampling_section(found), reports.noise_section(found)
    showcase = showcase_sections(result.showcase)
    page = Page(
        title="Scanside demonstration",
        lead="Simulated scans, reconstructed in a Gadgetron node: learned pipelines, and the classical one",
        highlights=_highlights(result, found),
        sections=[
            learned,
            checked,
            film,
            _engine_section([*result.learned.methods, result.film.method]),
            *showcase.values(),
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
        **showcase,
    }
    for name, section in shown.items():
        picture = next(part.figure for part in section.parts if isinstance(part, Picture))
        figures.save(picture, result.folder / f"{name}.png")
        for movie in (part for part in section.parts if isinstance(part, Movie)):
            (result.folder / f"{name}.gif").write_bytes(movie.gif)


def _highlights(result: DemoResult, found: Inspection) -> dict[str, str]:
    shown = {}
    for name in methods_of(result.learned.slices):
        shown[f"{title_of(name)}, R = 4"] = numbers(mean(result.learned.slices, name))
    for name, (psnr, ssim, _) in result.film.quality.items():
        shown[f"film, {title_of(name)}"] = f"{psnr:.1f} dB, {ssim:.3f}"
    shown[f"{title_of(CLASSICAL)}, {_acquired(found.encodings)} lines"] = numbers(
        mean(result.slices, CLASSICAL)
    )
    return shown


def _learned_section(learned: LearnedResult) -> Section:
    methods = methods_of(learned.slices)
    caption = (
        "One slice by every method, each image scaled to fit the truth best, all in one window; a detail of it; and "
        f"below, what is wrong with each, in one scale. {TRUTH}"
    )
    rows = []
    for name in methods:
        by_slice = ", ".join(f"{one.quality[name].psnr_db:.1f}" for one in learned.slices)
        rows.append((*row_of(name, learned.slices), by_slice))
    columns = ("method, means of all slices", *MEASURES, "PSNR of each slice, dB")
    section = Section("Learned reconstruction, for research use only")
    section.parts += messages_of(learned.methods)
    section.parts += [
        Picture(
            methods_figure_of(learned.slices), caption, "Images of every method, a detail, and error maps"
        ),
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
        f"each; and what is wrong with each, in one scale. {TRUTH}"
    )
    columns = ("method", *MEASURES)
    rows = [row_of(name, checked.slices) for name in methods_of(checked.slices)]
    section = Section("Learned images that check themselves, for research use only")
    section.parts += messages_of(checked.methods)
    section.parts += [
        Picture(
            methods_figure_of(checked.slices), caption, "Images that were sent, a detail, and error maps"
        ),
        Rows(columns, rows, frozenset(columns[1:])),
        Text(
            "A few acquired lines are kept from network and classical method, and both predict them. Where the "
            "network does so worse by more than chance, its image does not go out (engine.check). So that there is "
            "something to notice, student begins here with CG-SENSE of one weight for all scans (l2_noise: 0)."
        ),
    ]
    return section


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
        *(f"PSNR {title_of(name)}, dB" for name in (ZERO_FILLED, CLASSICAL)),
        *(f"SSIM {title_of(name)}" for name in (ZERO_FILLED, CLASSICAL)),
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
        f"is wrong with the first two. {TRUTH}"
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
        titled = [(title_of(name), one.images[name]) for name in (ZERO_FILLED, CLASSICAL)]
        shown = [*titled, ("truth", one.truth)]
        rows.append((f"slice {one.slice}", [view_of(one, pixels, title) for title, pixels in shown]))
        errors.append([error_view(one, pixels, f"error, {title}") for title, pixels in titled])
    return figures.comparison_figure(rows, errors)
