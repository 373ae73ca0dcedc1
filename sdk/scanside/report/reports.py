"""Reports about a file and about a reconstruction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from scanside.inspection import Inspection, contents, counter_rows, encoding_facts, facts, statements
from scanside.report.figures import (
    coil_maps_figure,
    image_figure,
    noise_figure,
    profile_figure,
    sampling_figure,
)
from scanside.report.films import Film, film_window, films_of, gif_of, liveliest_row
from scanside.report.observations import Observations
from scanside.report.page import Bars, Facts, Messages, Movie, Page, Part, Picture, Rows, Section, Text
from scanside.report.views import View, image_views, select, window_of
from scanside.suitability import VERDICTS, Suitability, by_reason

if TYPE_CHECKING:
    from scanside.items import Image
    from scanside.trace import Trace

__all__ = [
    "coil_sections",
    "film_parts",
    "image_sections",
    "inspection_report",
    "latency_section",
    "noise_section",
    "pipelines_section",
    "replay_report",
    "sampling_section",
    "scan_section",
    "series_views",
]

AT_MOST = 16
"""Most pictures of one series."""

_FILMS = 3  # so many films of a scan are shown


def inspection_report(found: Inspection, path: Path, suitable: Sequence[Suitability] = ()) -> None:
    """Write what is in a raw file as a page, and which pipelines can take it."""
    page = Page(
        title=found.path.name,
        lead=f"{found.format}, {found.n_readouts} readouts",
        sections=[
            Section("What to look at", [_findings(found)]),
            *([pipelines_section(suitable)] if suitable else []),
            scan_section(found),
            sampling_section(found),
            noise_section(found),
        ],
    )
    page.write(path)


def replay_report(
    images: Sequence[Image],
    path: Path,
    *,
    pipeline: str,
    via: str,
    found: Inspection | None = None,
    observed: Observations | None = None,
    trace: Trace | None = None,
    seconds: float | None = None,
    warnings: Iterable[str] = (),
) -> None:
    """Write what a reconstruction made as a page.

    Args:
        images: in the order in which they came.
        path: the page.
        pipeline: its name.
        via: the way that the scan took.
        found: what is in the raw file, for sampling, noise and the scan's facts.
        observed: what was seen between the stages, for the coil maps.
        trace: times of the stages; None where they ran in another process.
        seconds: how long the reconstruction took.
        warnings: what the operator was told.
    """
    highlights = {"image" if len(images) == 1 else "images": str(len(images))}
    if seconds is not None:
        highlights["reconstruction"] = f"{seconds:.2f} s"
    if trace is not None and trace.image_latency.n:
        highlights["last readout to image, median"] = f"{trace.image_latency.quantile_ms(0.5):.0f} ms"
    highlights |= _ghosts(images)
    messages = [("warning", text) for text in warnings]
    messages += [
        ("error", f"image {i + 1}: {image.incomplete}") for i, image in enumerate(images) if image.incomplete
    ]
    if found is not None:
        messages += [(f.level, f.text) for f in found.findings if f.level != "note"]
    page = Page(
        title=found.path.name if found is not None else "Reconstruction",
        lead=f"Pipeline {pipeline}, {_VIA[via]}",
        highlights=highlights,
        sections=[
            Section("Warnings", [Messages(messages)] if messages else []),
            *image_sections(images),
            *([sampling_section(found)] if found is not None else []),
            *coil_sections(observed, images),
            *([noise_section(found)] if found is not None else []),
            latency_section(trace, via),
            *([scan_section(found)] if found is not None else []),
            _meta_section(images),
        ],
    )
    page.write(path)


def _ghosts(images: Iterable[Image]) -> dict[str, str]:
    """Level of the Nyquist ghosts, where they were measured."""
    levels = [float(told[0]) for image in images if (told := image.meta.get("ScansideGhost"))]
    if not levels:
        return {}
    return {"Nyquist ghost, median and largest": f"{100 * median(levels):.1f} %, {100 * max(levels):.1f} %"}


_VIA = {
    "direct": "run in one process",
    "gadgetron": "run in a Gadgetron node",
    "mrd": "run by an MRD server",
}


def _findings(found: Inspection) -> Part:
    if not found.findings:
        return Text("Nothing looks wrong.")
    return Messages([(finding.level, finding.text) for finding in found.findings])


def pipelines_section(suitable: Sequence[Suitability]) -> Section:
    """Which pipelines can take a scan, best first, and why the others cannot."""
    rows = [
        (", ".join(one.pipeline for one in alike), f"{VERDICTS[alike[0].verdict]}: {alike[0].text}")
        for alike in by_reason(suitable)
    ]
    return Section("Pipelines", [Rows(("pipeline", "whether it can take the scan"), rows)])


def scan_section(found: Inspection) -> Section:
    """The scan's facts, and its encoding spaces."""
    section = Section("Scan", [Facts([*facts(found), *contents(found)])])
    columns = ("counter", "found", "values", "limits", "centre")
    for space in found.encodings:
        if len(found.encodings) > 1:
            section.parts.append(Text(f"Encoding space {space.index}"))
        section.parts.append(Facts(encoding_facts(space)))
        if rows := counter_rows(space):
            section.parts.append(Rows(columns, rows, frozenset(columns[1:])))
    return section


def sampling_section(found: Inspection) -> Section:
    """Which lines of k-space were sampled."""
    section = Section("Sampling")
    for space in found.encodings:
        if space.sampling is None:
            continue
        section.parts.append(Facts([("lines", space.sampling.describe()), *statements(space)]))
    if section.parts:
        caption = "Lines on the grid of the encoded matrix, in the first k-space; + is the centre."
        if any(space.sampling is not None and space.sampling.frames is not None for space in found.encodings):
            caption += " Beside it the lines of each frame, in order of time, of the first slice."
        section.parts.append(Picture(sampling_figure(found.encodings), caption, "Sampled lines of k-space"))
    return section


def noise_section(found: Inspection) -> Section:
    """Noise of the receive channels, from the scan's noise readouts."""
    noise = found.survey.noise
    if noise is None or noise.covariance is None:
        return Section("Noise")
    readouts = f"{noise.n_readouts} noise readout{'s' * (noise.n_readouts > 1)}"
    text = (
        f"From {readouts}, {noise.n_samples} samples a coil, dwell time {noise.dwell_us:g} µs, as received."
    )
    return Section("Noise", [Picture(noise_figure(noise.covariance), text, "Noise correlation of the coils")])


def series_views(images: Iterable[Image]) -> dict[tuple[int, str], list[View]]:
    """Pictures of images by series and kind, in the order of their counters, the slice's last."""
    found: dict[tuple[int, str], list[View]] = defaultdict(list)
    for image in sorted(images, key=_place):
        for view in image_views(image):
            found[int(image.header["image_series_index"]), view.kind].append(view)
    return dict(found)


def _place(image: Image) -> tuple[int, ...]:
    counters = ("repetition", "average", "set", "contrast", "phase", "slice")
    return tuple(int(image.header[counter]) for counter in counters)


def image_sections(images: Sequence[Image]) -> list[Section]:
    """The images, one section for each series and kind."""
    sections = []
    series = series_views(images)
    for (number, kind), views in series.items():
        shown = [views[i] for i in select(len(views), AT_MOST)]
        window = window_of(shown)
        count = f"{len(shown)} of {len(views)} pictures; " if len(shown) < len(views) else ""
        title = "Images" if len(series) == 1 else f"Images, series {number}, {kind}"
        caption = f"{count}{kind}, {window.describe()}."
        picture = Picture(image_figure(shown, window), caption, f"Reconstructed images, {kind}")
        sections.append(Section(title, [picture]))
    films = films_of(images)
    for film in films[:_FILMS]:
        title = "Film" if len(films) == 1 else f"Film, {film.views[0].title}"
        sections.append(Section(title, film_parts(film)))
    return sections


def film_parts(film: Film) -> list[Part]:
    """A film that plays, and what moves in it as a picture: one line across it as time goes on."""
    window = film_window(film)
    n = len(film.views)
    if film.frame_ms is None:
        speed = f"{n} {film.along}s, played in {film.played_ms * n / 1e3:.1f} s"
    else:
        speed = f"{n} frames, one every {film.frame_ms:.0f} ms, played at {1e3 / film.played_ms:.0f} a second"
    row = liveliest_row(film)
    middle = film.views[n // 2]
    still = View(middle.pixels, "", middle.kind, middle.pixel_mm, middle.edges)
    profile = profile_figure(still, row, film.pixels[:, row], window, film.along)
    return [
        Movie(gif_of(film, window), f"{speed}; {window.describe()}.", f"Film of {n} frames"),
        Picture(
            profile, f"The line in which most moves, row {row}, and what it shows in time.", "x–t profile"
        ),
    ]


def coil_sections(observed: Observations | None, images: Sequence[Image]) -> list[Section]:
    """Coil sensitivity maps of the first slice that had any."""
    if observed is None or not observed.coil_maps:
        return []
    slice_, maps = next(iter(observed.coil_maps.items()))
    middle = maps.shape[1] // 2
    view = next((view for image in images for view in image_views(image, 1)[:1]), None)
    caption = f"From stage '{observed.maps_from}', slice {slice_}"
    caption += f", z = {middle}" if maps.shape[1] > 1 else ""
    caption += f"; {min(16, len(maps))} of {len(maps)} coils, inside the object."
    figure = coil_maps_figure(maps[:, middle], view)
    return [
        Section("Coil sensitivity maps", [Picture(figure, caption, "Magnitude and phase of the coil maps")])
    ]


def latency_section(trace: Trace | None, via: str = "direct") -> Section:
    """Where the time went."""
    if trace is None:
        text = f"The stages were {_VIA[via]}: their times are in its log. Replay with --via direct to see them here."
        return Section("Time per stage", [Text(text)])
    rows = []
    for row in trace.summary():
        total, median, p99 = (float(row[name]) for name in ("total_ms", "median_ms", "p99_ms"))
        cells = (str(row["stage"]), str(row["items"]), f"{total:.1f}", f"{median:.2f}", f"{p99:.2f}")
        rows.append((cells, total))
    if not rows:
        return Section("Time per stage")
    section = Section(
        "Time per stage", [Bars(("stage", "items", "total, ms", "median, ms", "99 %, ms"), rows, "total")]
    )
    if trace.image_latency.n:
        latency = trace.image_latency
        section.parts.append(
            Text(
                f"From the arrival of the block that completed an image until the image left: median "
                f"{latency.quantile_ms(0.5):.1f} ms, 99 % {latency.quantile_ms(0.99):.1f} ms, {latency.n} images."
            )
        )
    return section


def _meta_section(images: Sequence[Image]) -> Section:
    if not images or not len(images[0].meta):
        return Section("Attributes of the first image")
    rows = [(name, ", ".join(values)) for name, values in images[0].meta.items()]
    return Section("Attributes of the first image", [Facts(rows)])
