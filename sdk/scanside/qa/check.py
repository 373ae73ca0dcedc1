"""One check: reconstruct the phantom's scan, measure, and judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from scanside.errors import ScanError
from scanside.items import Image
from scanside.metrics import nrmse
from scanside.qa.limits import Limits
from scanside.qa.measures import ghosting_ratio, noise_of_pairs, piu
from scanside.qa.phantom import Phantom, Real, locate
from scanside.qa.reconstruct import Reconstructor
from scanside.qa.result import QaResult

__all__ = ["Checked", "check"]

_SEED = 1


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A check with what it was made from, for its picture.

    Attributes:
        result: what was found.
        phantom: in the classical image.
        learned: ``(y, x)``, the learned image of the same slice; None without one.
    """

    result: QaResult
    phantom: Phantom
    learned: Real | None


def check(
    scan: str | Path,
    *,
    pipeline: str = "grappa",
    learned: str | None = None,
    nominal_mm: float | None = None,
    slice_: int | None = None,
    limits: Limits | None = None,
    earlier: Sequence[QaResult] = (),
    device: str = "auto",
    group: str | None = None,
) -> Checked:
    """Check a phantom.

    Signal-to-noise ratio: mean over three quarters of the phantom's area, by the noise of repetitions where the scan
    has two or more, else of two replicas with noise of the scan's own covariance added.

    Args:
        scan: raw file of the phantom's scan.
        pipeline: classical pipeline, name or file.
        learned: pipeline whose image is compared with the classical one.
        nominal_mm: diameter that the phantom has.
        slice_: that is measured; None for the middle one.
        limits: of the site.
        earlier: checks before this one, the oldest first: the usual signal-to-noise ratio comes from them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        group: of an HDF5 file; by default ``dataset`` or the only one.

    Raises:
        ScanError: no phantom is found, or there is no such slice.
        ScansideError: whatever is wrong with file or pipelines.
    """
    path, notes = Path(scan), list[str]()
    classical = Reconstructor(path, pipeline, device, group)
    header = classical.header()
    images = classical.images()
    number = _slice(images, slice_)
    repetitions = [_plane(image) for image in images if int(image.header["slice"]) == number]
    phantom = locate(repetitions[0], _pixel_mm(images[0]))
    roi = phantom.roi()
    noise, method = None, ""
    if len(repetitions) > 1:
        noise, method = noise_of_pairs(repetitions, roi), "difference"
    else:
        try:
            noise, method = _noise_of_replicas(classical, number, phantom), "replicas"
        except ScanError as error:
            notes.append(f"no signal-to-noise ratio: {error}; a second repetition would do as well")
    other: Real | None = None
    engine: tuple[str, ...] = ()
    agreement = None
    if learned is not None:
        other, engine = _learned(Reconstructor(path, learned, device, group), number, notes)
        agreement = nrmse(other, repetitions[0], phantom.mask)
    signal = float(np.mean([one[roi].mean() for one in repetitions]))
    result = QaResult(
        time=datetime.now(timezone.utc),
        scan=path.name,
        protocol=header.protocol_name or "",
        system=header.vendor or "",
        field_strength_t=header.field_strength_t,
        n_coils=header.n_coils,
        pipeline=classical.name,
        learned=learned or "",
        engine=engine,
        slice=number,
        n_repetitions=len(repetitions),
        snr=signal / noise if noise else None,
        snr_method=method if noise else "",
        diameters_mm=phantom.diameters_mm(),
        nominal_mm=nominal_mm,
        ghosting=ghosting_ratio(phantom),
        piu=piu(phantom),
        agreement=agreement,
        notes=tuple(notes),
    )
    verdicts = (limits or Limits()).judge(result, earlier)
    return Checked(result.model_copy(update={"verdicts": tuple(verdicts)}), phantom, other)


def _slice(images: Sequence[Image], asked: int | None) -> int:
    there = sorted({int(image.header["slice"]) for image in images})
    if asked is None:
        return there[len(there) // 2]
    if asked not in there:
        raise ScanError(f"the scan has no slice {asked}; it has {', '.join(map(str, there))}")
    return asked


def _plane(image: Image) -> Real:
    """The middle plane ``(y, x)`` of an image."""
    voxels = image.data[0].detach().cpu().numpy()
    return np.asarray(np.abs(voxels[voxels.shape[0] // 2]), dtype=np.float64)


def _pixel_mm(image: Image) -> tuple[float, float]:
    (width, height, _), (n_x, n_y, _) = image.header["field_of_view"], image.header["matrix_size"]
    return float(height) / int(n_y), float(width) / int(n_x)


def _noise_of_replicas(classical: Reconstructor, number: int, phantom: Phantom) -> float:
    generator = np.random.default_rng(_SEED)
    replicas = [_first(classical.images(generator), number) for _ in range(2)]
    return noise_of_pairs([_plane(image) for image in replicas], phantom.roi())


def _first(images: Sequence[Image], number: int) -> Image:
    return next(image for image in images if int(image.header["slice"]) == number)


def _learned(reconstructor: Reconstructor, number: int, notes: list[str]) -> tuple[Real, tuple[str, ...]]:
    """The learned image, and which network made it."""
    try:
        image = _first(reconstructor.images(), number)
    except StopIteration:
        raise ScanError(f"pipeline '{reconstructor.name}' gives no image of slice {number}") from None
    if told := image.meta.get("ScansideFallback"):
        notes.append(f"pipeline '{reconstructor.name}' fell back to {told[0]}: {told[-1]}")
    notes += [
        f"pipeline '{reconstructor.name}' was not trained for it: {text}"
        for text in image.meta.get("ScansideFitness", [])
    ]
    return _plane(image), (*image.meta.get("ScansideEngine", []), *image.meta.get("ScansideWeights", [])[1:])
