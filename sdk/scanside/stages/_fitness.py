"""Whether a network is fit for a k-space: what it cannot take at all, and what it was not trained for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scanside.engines.manifest import Manifest, Range, Shapes
from scanside.engines.shapes import check_frames, fit
from scanside.errors import ShapeError
from scanside.items import KSpace
from scanside.recon.columns import MAX_ROWS
from scanside.recon.stacked import rows_seen
from scanside.stages._axes import readout_of
from scanside.stages._lattice import lattice_of
from scanside.stages.partial_fourier import axis_name, partial_bands

__all__ = ["Fitness", "fitness_of"]


@dataclass(frozen=True)
class Fitness:
    """What speaks against a network, in words; nothing where both are empty.

    Attributes:
        cannot: why it cannot reconstruct this k-space.
        untrained: in what the scan differs from those that it was trained for.
    """

    cannot: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()


def fitness_of(manifest: Manifest, item: KSpace) -> Fitness:
    """Compare a k-space with what a bundle's manifest says.

    Args:
        manifest: of the bundle.
        item: one image or several, or for a network that takes windows, a window.
    """
    return Fitness(tuple(_obstacles(manifest, item)), tuple(_differences(manifest, item)))


def _obstacles(manifest: Manifest, item: KSpace) -> list[str]:
    n2, n1, n0 = item.data.shape[-3:]
    found = []
    if n2 > 1:
        found.append(f"it takes slices, and this k-space has {n2} partitions")
    try:
        place = fit(manifest.lowering, manifest.shapes, n1, n0)
    except ShapeError as error:
        found.append(str(error))
    else:
        if item.second_maps is not None:
            found += _obstacles_of_two_sets(
                manifest.form_for(place.bucket) == "columns", n1, item.second_maps
            )
    if manifest.shapes.frames is not None:
        found += _obstacles_of_window(manifest.shapes, item)
    if manifest.lowering != "none":
        if not manifest.shapes.accepts_coils(item.n_coils):
            fewer = manifest.shapes.coils_for(item.n_coils)
            remedy = (
                "" if fewer is None else f"; put 'coil-compression: {{n_coils: {fewer}}}' before 'coil-maps'"
            )
            found.append(f"it takes {_counts(manifest)} coils, and there are {item.n_coils}{remedy}")
        if manifest.sampling.undersampled_axes == 1 and readout_of(item) is not None:
            found.append("it takes whole readouts only, and these are asymmetric echoes")
    return found


def _obstacles_of_two_sets(by_columns: bool, n1: int, second: torch.Tensor) -> list[str]:
    if not by_columns:
        return [
            "it takes one set of coil maps, and here one does not explain the calibration lines: the object is "
            "larger than the field of view"
        ]
    n_rows = n1 + len(rows_seen(second))
    if n_rows > MAX_ROWS:
        return [
            f"both sets of coil maps have {n_rows} rows, and no more than {MAX_ROWS} are solved by columns"
        ]
    return []


def _obstacles_of_window(shapes: Shapes, item: KSpace) -> list[str]:
    if len(item.other) != 1:
        what = " × ".join(item.other) if item.other else "a single frame"
        remedy = f"put 'window: {{size: {shapes.frames}}}' before it"
        return [f"it takes windows of {shapes.frames} frames, and this is {what}: {remedy}"]
    try:
        check_frames(shapes, item.data.shape[0])
    except ShapeError as error:
        return [str(error)]
    return []


def _differences(manifest: Manifest, item: KSpace) -> list[str]:
    trained = manifest.sampling
    n1, n0 = item.data.shape[-2:]
    found = []
    for name, value, allowed in (
        ("matrix", n1, trained.matrix),
        ("matrix", n0, trained.matrix),
        ("coil count", item.n_coils, trained.n_coils),
    ):
        found += _outside(name, value, allowed)
    # By their bytes: NumPy takes a millisecond to find the different rows of a single one.
    patterns = {frame.tobytes(): frame for frame in item.mask.reshape(-1, n1).cpu().numpy()}
    lines = np.stack([*patterns.values()])
    lines = lines[lines.any(axis=1)]  # a frame without lines has no pattern
    for sampled in lines:
        found += _outside("acceleration", n1 / int(sampled.sum()), trained.acceleration)
        found += _outside("ACS width", _lines_around(sampled, n1 // 2), trained.acs_lines)
    for kinds in (
        [_kinds(one) for one in lines] if manifest.shapes.frames is None else [_kinds_of_film(lines)]
    ):
        if not set(kinds) & set(trained.kinds):
            found.append(f"sampling {' or '.join(kinds)}, trained for {', '.join(trained.kinds)}")
    partial = [axis_name(dim) for dim in partial_bands(item)]
    if partial:
        found.append(f"sampled on one side only along {', '.join(partial)}, trained on whole k-space")
    return list(dict.fromkeys(found))


def _outside(name: str, value: float, allowed: Range) -> list[str]:
    return [] if value in allowed else [f"{name} {value:.3g}, trained for {allowed}"]


def _kinds(sampled: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """What kinds of sampling a pattern ``(k1,)`` may be: irregular ones look alike."""
    return ("equispaced",) if lattice_of(sampled[None]) is not None else ("random", "variable-density")


def _kinds_of_film(patterns: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """What kinds of sampling the different patterns ``(n, k1)`` of frames may be."""
    if all(_kinds(one) == ("equispaced",) for one in patterns):
        return ("equispaced",) if len(patterns) < 2 else ("kt",)
    return ("random", "variable-density", "golden")


def _lines_around(sampled: npt.NDArray[np.bool_], center: int) -> int:
    """How many lines lie around the centre without a gap."""
    above = np.flatnonzero(~sampled[center:])
    below = np.flatnonzero(~sampled[center::-1])
    n_above = int(above[0]) if len(above) else len(sampled) - center
    n_below = int(below[0]) if len(below) else center + 1
    return max(n_above + n_below - 1, 0)


def _counts(manifest: Manifest) -> str:
    coils = manifest.shapes.coils
    return str(coils) if isinstance(coils, Range) else " or ".join(map(str, coils or ()))
