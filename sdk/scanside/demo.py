"""A demonstration from end to end: simulate an accelerated scan, reconstruct it in a Gadgetron node, compare.

The truth that images are compared with is the simulated object as the receive array sees it: times the root sum of
squares of the true coil maps after prewhitening. Without parallel imaging, noise and limits of the calibration, a
reconstruction with unit-norm coil maps would give just that, up to one factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scanside import metrics
from scanside.errors import ScansideError
from scanside.inspection import inspect_file
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.replay import ReplayResult, replay
from scanside.simulate import ScanConfig, Truth, preset, simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scanside.inspection import EncodingSurvey
    from scanside.items import Image
    from scanside.report import Observations
    from scanside.report.views import View

__all__ = ["DemoResult", "SliceResult", "run_demo"]

Magnitude = npt.NDArray[np.float64]

PIPELINE = "grappa"
ZERO_FILLED = "fft"
LARGEST_DISTANCE = 0.1
"""How far a voxel may lie from the truth's, in voxels: further apart, the comparison would mean nothing."""

_READ_ME = """images.h5        the images that the Gadgetron node gave back (ISMRMRD HDF5)
report.html      the report: open it in a browser
*.png            its pictures
scan.h5          the simulated raw data: scanside inspect scan.h5
truth.npz        true images, coil maps and affines
zero_filled.h5   images of the same data without parallel imaging
"""


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """One slice compared with its truth; magnitudes ``(y, x)``, images scaled to fit the truth best.

    Attributes:
        slice: its counter.
        truth: what the receive array sees of the object.
        image: the pipeline's image.
        zero_filled: the image without parallel imaging.
        geometry: where the slice lies.
        distance_mm: largest distance of a voxel from the truth's voxel.
        psnr_db: of zero-filled and image.
        ssim: of zero-filled and image.
    """

    slice: int
    truth: Magnitude
    image: Magnitude
    zero_filled: Magnitude
    geometry: Geometry
    distance_mm: float
    psnr_db: tuple[float, float]
    ssim: tuple[float, float]


@dataclass(slots=True)
class DemoResult:
    """What the demonstration made.

    Attributes:
        folder: where everything is.
        slices: comparison with truth, slice by slice.
        same_pixels: whether the node gave the same pixels as the pipeline in this process.
        node: the reconstruction in the node.
        direct: the reconstruction in this process.
    """

    folder: Path
    slices: list[SliceResult] = field(default_factory=list)
    same_pixels: bool = False
    node: ReplayResult = field(default_factory=ReplayResult)
    direct: ReplayResult = field(default_factory=ReplayResult)

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.folder / "report.html"


def run_demo(
    folder: Path,
    *,
    config: ScanConfig | None = None,
    device: str = "auto",
    on_step: Callable[[str], None] = lambda step: None,  # noqa: ARG005
) -> DemoResult:
    """Simulate, reconstruct, compare, and write a report.

    Args:
        folder: made if need be; files of an earlier demonstration are replaced.
        config: a 2-D scan of one contrast with calibration lines; by default the preset ``brain-oblique``.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    from scanside.report import Observations

    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "scan.h5"
    on_step("simulating the scan")
    scan = simulate(config or preset("brain-oblique"))
    with Hdf5Writer(recording, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    truth = scan.truth
    truth.save(folder / "truth.npz")
    result = DemoResult(folder)
    on_step("reconstructing it in a Gadgetron node")
    result.node = replay(recording, PIPELINE, folder / "images.h5", via="gadgetron", device=device)
    on_step("reconstructing it in this process")
    observed = Observations()
    result.direct = replay(recording, PIPELINE, device=device, observe=observed)
    zero_filled = replay(recording, ZERO_FILLED, folder / "zero_filled.h5", device=device)
    result.same_pixels = _same_pixels(result.node.images, result.direct.images)
    on_step("comparing with the truth")
    others = {int(image.header["slice"]): image for image in zero_filled.images}
    seen = _as_seen(truth)
    for image in result.node.images:
        result.slices.append(_compare(image, others[int(image.header["slice"])], truth, seen))
    result.slices.sort(key=lambda compared: compared.slice)
    on_step("writing the report")
    _write_report(result, observed, recording)
    (folder / "README.txt").write_text(_READ_ME, encoding="utf-8")
    return result


def _same_pixels(some: Sequence[Image], others: Sequence[Image]) -> bool:
    if len(some) != len(others):
        return False
    return all(bool((a.data.cpu() == b.data.cpu()).all()) for a, b in zip(some, others, strict=True))


def _as_seen(truth: Truth) -> Magnitude:
    """The object as the array sees it: ``(slice, y, x)``, the middle partition of each slice."""
    whiten = np.linalg.inv(np.linalg.cholesky(truth.covariance))
    maps = np.einsum("dc,sczyx->sdzyx", whiten, truth.maps)
    sensitivity = np.sqrt((np.abs(maps) ** 2).sum(axis=1))
    seen: Magnitude = np.abs(truth.images[0, 0, 0, 0]) * sensitivity
    return seen[:, seen.shape[1] // 2]


def _compare(image: Image, zero_filled: Image, truth: Truth, seen: Magnitude) -> SliceResult:
    geometry = Geometry.from_image_header(image.header)
    number, distance = _true_slice(geometry, truth)
    reference = seen[number]
    measured, other = (one.data[0, 0].abs().cpu().numpy().astype(np.float64) for one in (image, zero_filled))
    return SliceResult(
        slice=int(image.header["slice"]),
        truth=reference,
        image=metrics.fitted(measured, reference)[0],
        zero_filled=metrics.fitted(other, reference)[0],
        geometry=geometry,
        distance_mm=distance,
        psnr_db=(metrics.psnr(other, reference), metrics.psnr(measured, reference)),
        ssim=(metrics.ssim(other, reference), metrics.ssim(measured, reference)),
    )


def _true_slice(geometry: Geometry, truth: Truth) -> tuple[int, float]:
    """The slice of the truth that lies where an image does, and the largest distance between their voxels in mm.

    Counters are not asked: an image whose header is wrong must not be compared with what it claims to be.
    """
    n_x, n_y, _ = geometry.matrix
    corners = np.array([(x, y, 0, 1) for x in (0, n_x - 1) for y in (0, n_y - 1)], np.float64)
    here = corners @ geometry.affine.T
    distances = [float(np.linalg.norm((corners @ a.T - here)[:, :3], axis=1).max()) for a in truth.affines]
    nearest = int(np.argmin(distances))
    if distances[nearest] > LARGEST_DISTANCE * float(geometry.voxel_size_mm.min()):
        raise ScansideError(
            f"an image at {geometry.position.tolist()} mm lies {distances[nearest]:.2f} mm from the nearest slice of "
            "the truth: its header is wrong"
        )
    return nearest, distances[nearest]


def _write_report(result: DemoResult, observed: Observations, recording: Path) -> None:
    from scanside.report import figures, reports
    from scanside.report.page import Page, Picture, Rows, Section, Text

    found = inspect_file(recording)
    comparison = _comparison(result)
    psnr = np.mean([one.psnr_db for one in result.slices], axis=0)
    ssim = np.mean([one.ssim for one in result.slices], axis=0)
    rows = [
        (
            str(one.slice),
            *(f"{value:.1f}" for value in one.psnr_db),
            *(f"{value:.3f}" for value in one.ssim),
        )
        for one in result.slices
    ]
    columns = (
        "slice",
        "PSNR zero-filled, dB",
        f"PSNR {PIPELINE}, dB",
        "SSIM zero-filled",
        f"SSIM {PIPELINE}",
    )
    farthest = max(one.distance_mm for one in result.slices)
    same = "the same pixels, bit for bit" if result.same_pixels else "other pixels: a defect"
    caption = (
        "Zero-filled, the pipeline's image, and truth, each scaled to fit the truth best, in one window; right, what "
        "is wrong with the first two. Truth is the simulated object as the receive array sees it (times the root "
        "sum of squares of the prewhitened true coil maps)."
    )
    images = reports.image_sections(result.node.images)
    coils = reports.coil_sections(observed, result.direct.images)
    sampling, noise = reports.sampling_section(found), reports.noise_section(found)
    times = reports.latency_section(result.direct.trace)
    times.parts.append(
        Text(
            f"Measured in one process. In the Gadgetron node the scan took {result.node.seconds:.2f} s, loading "
            f"of torch included, and gave {same}."
        )
    )
    page = Page(
        title="Scanside demonstration",
        lead=f"{found.header.protocol_name if found.header else recording.name}: simulated, "
        f"pipeline {PIPELINE} in a Gadgetron node",
        highlights={
            "PSNR, mean": f"{psnr[1]:.1f} dB",
            "SSIM, mean": f"{ssim[1]:.3f}",
            "zero-filled": f"{psnr[0]:.1f} dB, {ssim[0]:.3f}",
            "lines acquired": _acquired(found.encodings),
        },
        sections=[
            Section(
                "Compared with the truth",
                [
                    Picture(comparison, caption, "Zero-filled, result, truth and error maps"),
                    Rows(columns, rows, frozenset(columns[1:])),
                    Text(
                        f"By their headers, all voxels of the images lie within {farthest:.1g} mm of the truth's."
                    ),
                ],
            ),
            *images,
            sampling,
            *coils,
            noise,
            times,
            reports.scan_section(found),
        ],
    )
    page.write(result.report)
    pictures = {"comparison": comparison}
    shown = {"images": images[0], "sampling": sampling, "coil_maps": coils[0], "noise": noise}
    for name, section in shown.items():
        pictures[name] = next(part.figure for part in section.parts if isinstance(part, Picture))
    for name, figure in pictures.items():
        figures.save(figure, result.folder / f"{name}.png")


def _acquired(encodings: Sequence[EncodingSurvey]) -> str:
    pattern = encodings[0].sampling
    assert pattern is not None
    return f"{pattern.n_lines} of {int(pattern.within.sum())}"


def _comparison(result: DemoResult) -> Figure:
    from scanside.report.figures import comparison_figure

    rows, errors = [], []
    for one in result.slices:
        peak = one.truth.max()
        titled = ((one.zero_filled, "zero-filled"), (one.image, PIPELINE), (one.truth, "truth"))
        rows.append((f"slice {one.slice}", [_view(one, pixels, title) for pixels, title in titled]))
        wrong = ((one.zero_filled, "error, zero-filled"), (one.image, f"error, {PIPELINE}"))
        errors.append(
            [
                _view(one, 100 * np.abs(pixels - one.truth) / peak, title, letters=False)
                for pixels, title in wrong
            ]
        )
    return comparison_figure(rows, errors)


def _view(one: SliceResult, pixels: Magnitude, title: str, *, letters: bool = True) -> View:
    from scanside.report.views import View, plane_view

    view = plane_view(pixels[None], one.geometry, 2, 0, title)
    return view if letters else View(view.pixels, title, pixel_mm=view.pixel_mm)
