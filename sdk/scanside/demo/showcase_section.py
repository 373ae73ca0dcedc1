"""Sections of the page about further shipped pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanside.demo.compare import mean
from scanside.demo.film_section import film_section
from scanside.demo.methods_section import TRUTH, methods_figure_of, methods_of, title_of
from scanside.demo.result import ExhibitResult, Showcase, StreamResult
from scanside.demo.stream import PIPELINE
from scanside.report import figures
from scanside.report.page import Messages, Picture, Rows, Section, Text
from scanside.report.views import image_views, window_of

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["in_words", "showcase_sections"]


def showcase_sections(showcase: Showcase | None) -> dict[str, Section]:
    """A section for each pipeline, by its name; none where nothing was asked for."""
    if showcase is None:
        return {}
    sections = {one.exhibit.name: _exhibit_section(one) for one in showcase.exhibits}
    return {**sections, PIPELINE: _stream_section(showcase.stream)}


def _exhibit_section(result: ExhibitResult) -> Section:
    told = result.exhibit.told
    columns = (
        "method, means of all slices",
        "NRMSE in the object, %",
        "PSNR in the object, dB",
        "PSNR, dB",
        "SSIM",
        *told.values(),
    )
    rows = []
    for name in methods_of(result.slices):
        quality = mean(result.slices, name)
        said = [f"{100 * result.told[name][key]:.2f}" if key in result.told[name] else "" for key in told]
        rows.append(
            (
                title_of(name),
                f"{100 * result.nrmse[name]:.1f}",
                f"{quality.psnr_inside_db:.1f}",
                f"{quality.psnr_db:.1f}",
                f"{quality.ssim:.3f}",
                *said,
            )
        )
    caption = f"A slice by every method, a detail, and what is wrong with each, in one scale. {TRUTH}"
    same = (
        "the same pixels as in one process, bit for bit" if result.same_pixels else "other pixels: a defect"
    )
    section = Section(result.exhibit.title)
    if result.warnings:
        section.parts.append(Messages([("warning", text) for text in result.warnings]))
    section.parts += [
        Picture(
            methods_figure_of(result.slices), caption, "Images of every method, a detail, and error maps"
        ),
        Rows(columns, rows, frozenset(columns[1:])),
        Text(
            f"{result.exhibit.note} Through a Gadgetron node and a warm server {result.exhibit.name} gave {same}."
        ),
    ]
    section.parts += [_map_picture(one) for one in result.maps]
    return section


def _map_picture(image: Image) -> Picture:
    """A map that came with an image, in its own values: its slice, or the middle one of a slab."""
    slope = float(image.meta.get("RescaleSlope", ["1"])[0])
    views = image_views(image.replace(data=image.data.float() * slope))[:1]
    role = image.meta["DataRole"][0]
    return Picture(
        figures.image_figure(views),
        f"{role}, with the image ({window_of(views).describe()}).",
        f"Map: {role}",
    )


def _stream_section(stream: StreamResult) -> Section:
    section = film_section(stream.film, "Radial in real time: images while the scan runs")
    section.parts.append(
        Text(f"{in_words(stream)} Truth is the mean over the time of the spokes of each image.")
    )
    return section


def in_words(stream: StreamResult) -> str:
    """How soon images came."""
    n = len(stream.film.truth)
    if not stream.delays_ms:
        return f"None of {n} images came while the scan ran: this machine is too slow for it."
    return (
        f"{stream.n_during} of {n} images came while the scan ran, {np.median(stream.delays_ms):.0f} ms (median) "
        "after the last of their spokes."
    )
