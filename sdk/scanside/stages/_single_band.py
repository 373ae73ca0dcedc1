"""References of single slices for readouts that hold several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import CalibrationError
from scanside.items import KSpace
from scanside.mrd.header import Multiband

__all__ = ["references_of", "without_references"]

_REMEDY = (
    "acquire single-band references of every slice with the same protocol, flagged as calibration "
    "(PARALLEL_CALIBRATION), in the encoding space that the header names in multiband/calibration_encoding"
)
_NEAR = 0.25  # of the distance between the slices of a readout, in which one of them is found


def references_of(
    kspace: KSpace, multiband: Multiband, references: Mapping[int, KSpace], n_excited: int
) -> KSpace:
    """The references of all slices that a k-space holds, one after the other along a leading axis ``slice``.

    Slices are found by their positions where the header tells their distances, else by their counters: of N readout
    slices the n-th holds the slices n, n + N, n + 2 N, ….

    Args:
        kspace: lines of several slices at once.
        multiband: what the header says of them.
        references: calibration lines of single slices by their slice counters.
        n_excited: how many different readout slices the header announces.

    Raises:
        CalibrationError: there are none, of other slices, or of another matrix or number of coils.
    """
    number = kspace.counters.get("slice", 0)
    problem = _problem(multiband, f"slice {number}")
    if not references:
        raise CalibrationError(without_references(multiband, f"slice {number}"))
    bands = _by_position(kspace, multiband, references)
    if bands is None:
        bands = [number + band * n_excited for band in range(multiband.factor)]
    absent = [band for band in bands if band not in references]
    if absent:
        raise CalibrationError(
            f"{problem}: of the slices {', '.join(map(str, bands))} there are no references of "
            f"{', '.join(map(str, absent))}; references came of {len(references)} slices, expected "
            f"{multiband.factor * n_excited}: {_REMEDY}"
        )
    found = [references[band] for band in bands]
    for band, one in zip(bands, found, strict=True):
        if (why := _misfit(one, kspace, found[0])) is not None:
            raise CalibrationError(f"{problem}: the reference of slice {band} {why}; {_REMEDY}")
    first = found[0]
    return first.replace(
        data=torch.stack([one.data for one in found]),
        mask=torch.stack([one.mask for one in found]),
        headers=np.stack([one.headers for one in found]),
        other=("slice", *first.other),
        encoding=replace(first.encoding, multiband=None),
        counters={name: value for name, value in kspace.counters.items() if name != "slice"},
    )


def without_references(multiband: Multiband, which: str = "each slice") -> str:
    """What to say where slices come at once without any references."""
    return f"{_problem(multiband, which)}: there are no references of single slices; {_REMEDY}"


def _problem(multiband: Multiband, which: str) -> str:
    return f"{which} holds {multiband.factor} slices at once (multiband), and they cannot be separated"


def _misfit(reference: KSpace, kspace: KSpace, first: KSpace) -> str | None:
    """Why a reference does not serve; None where it does."""
    if reference.n_coils != kspace.n_coils:
        return f"is of {reference.n_coils} coils, the lines are of {kspace.n_coils}"
    ours, theirs = kspace.encoding.encoded, reference.encoding.encoded
    grids = [
        (one.encoding.encoded.matrix[1:], one.data.shape[-1], tuple(round(mm, 1) for mm in one.extent_mm[:2]))
        for one in (kspace, reference)
    ]
    if grids[0] != grids[1]:
        return (
            f"has a matrix of {' x '.join(map(str, theirs.matrix))} over "
            f"{' x '.join(f'{mm:g}' for mm in theirs.field_of_view_mm)} mm, the lines one of "
            f"{' x '.join(map(str, ours.matrix))} over {' x '.join(f'{mm:g}' for mm in ours.field_of_view_mm)} mm"
        )
    if reference.data.shape != first.data.shape:
        return f"has other lines than that of the first slice: {reference.mask.sum()} and {first.mask.sum()}"
    return None


def _by_position(kspace: KSpace, multiband: Multiband, references: Mapping[int, KSpace]) -> list[int] | None:
    """Counters of the slices by where they lie; None where header or readouts do not tell."""
    offsets = multiband.offsets_mm(kspace.counters.get("slice", 0))
    here = _along(kspace)
    places = {number: along for number, one in references.items() if (along := _along(one)) is not None}
    if offsets is None or here is None or len(places) < len(references):
        return None
    near = _NEAR * min(abs(np.diff(offsets)).min(initial=np.inf), 1e6)
    for first in (
        here,
        here - float(np.mean(offsets)),
    ):  # the position is that of the first slice, or of their middle
        for direction in (1.0, -1.0):
            found = [
                min(places, key=lambda number, at=first + direction * offset: abs(places[number] - at))  # type: ignore[misc]
                for offset in offsets
            ]
            apart = [
                abs(places[number] - first - direction * offset)
                for number, offset in zip(found, offsets, strict=True)
            ]
            if max(apart) <= near and len(set(found)) == len(found):
                return found
    return None


def _along(kspace: KSpace) -> float | None:
    """Position along the slice direction in mm; None where readouts do not tell it."""
    headers = kspace.headers[kspace.headers["version"] > 0]
    direction: npt.NDArray[np.float64] = headers["slice_dir"][:1].astype(np.float64)
    if not direction.any():
        return None
    return float(direction[0] @ headers["position"][0].astype(np.float64))
