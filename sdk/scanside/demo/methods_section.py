"""What several methods made of a slice, beside the truth: pictures and figures for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scanside.demo.compare import Magnitude, Quality, SliceResult, mean
from scanside.demo.result import TITLES, MethodResult
from scanside.report import figures
from scanside.report.page import Messages
from scanside.report.views import View, plane_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "MEASURES",
    "TRUTH",
    "error_view",
    "messages_of",
    "methods_figure_of",
    "methods_of",
    "numbers",
    "row_of",
    "title_of",
    "view_of",
]

TRUTH = (
    "Truth is the simulated object as the receive array sees it (times the root sum of squares of the prewhitened "
    "true coil maps)."
)
MEASURES = ("PSNR, dB", "SSIM", "PSNR in the object, dB", "SSIM in the object")

_DETAIL = 0.34
"""Share of the image's sides that the detail shows."""


def methods_of(slices: Sequence[SliceResult]) -> list[str]:
    """Methods in the order in which they are shown."""
    return list(slices[0].images)


def title_of(name: str) -> str:
    """What a method is called."""
    return TITLES.get(name, name)


def numbers(quality: Quality) -> str:
    """Of the whole image, in a line."""
    return f"{quality.psnr_db:.1f} dB, {quality.ssim:.3f}"


def row_of(name: str, slices: Sequence[SliceResult]) -> tuple[str, ...]:
    """A method and `MEASURES` of it."""
    psnr, ssim, psnr_inside, ssim_inside = mean(slices, name)
    return title_of(name), f"{psnr:.1f}", f"{ssim:.3f}", f"{psnr_inside:.1f}", f"{ssim_inside:.3f}"


def messages_of(methods: Sequence[MethodResult]) -> list[Messages]:
    """What is missing, and what images say of their making."""
    missing = [("warning", f"{one.pipeline}: {one.missing}") for one in methods if one.missing]
    notes = [("warning", f"{one.pipeline}: {text}") for one in methods for text in one.notes]
    return [Messages(missing + notes)] if missing or notes else []


def methods_figure_of(slices: Sequence[SliceResult]) -> Figure:
    """The middle slice: images, a detail, errors."""
    one = slices[len(slices) // 2]
    images = [
        view_of(one, pixels, f"{title_of(name)}\n{numbers(one.quality[name])}")
        for name, pixels in one.images.items()
    ]
    images.append(view_of(one, one.truth, "truth\n"))
    details = [view_of(one, _detail(view.pixels), "", letters=False) for view in images]
    errors = [error_view(one, pixels, "") for pixels in one.images.values()]
    return figures.methods_figure(images, details, errors)


def _detail(pixels: Magnitude) -> Magnitude:
    """A part beside the middle: cortex, a ventricle, and rows of small dots."""
    n_y, n_x = (round(_DETAIL * n) for n in pixels.shape)
    y, x = round(0.28 * pixels.shape[0]), round(0.24 * pixels.shape[1])
    return pixels[y : y + n_y, x : x + n_x]


def error_view(one: SliceResult, pixels: Magnitude, title: str) -> View:
    """What is wrong with an image, in percent of the truth's maximum."""
    return view_of(one, 100 * np.abs(pixels - one.truth) / one.truth.max(), title, letters=False)


def view_of(one: SliceResult, pixels: Magnitude, title: str, *, letters: bool = True) -> View:
    """A picture of a slice, with the patient's directions at its edges."""
    view = plane_view(pixels[None], one.geometry, 2, 0, title)
    return view if letters else View(view.pixels, title, pixel_mm=view.pixel_mm)
