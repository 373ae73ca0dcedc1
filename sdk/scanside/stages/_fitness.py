"""Whether a network is fit for a k-space: what it cannot take at all, and what it was not trained for."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scanside.engines.manifest import Manifest, Range, Shapes
from scanside.engines.roles import contrast_of
from scanside.engines.shapes import check_frames, fit
from scanside.errors import ShapeError
from scanside.items import KSpace
from scanside.outline import Outline
from scanside.recon.columns import MAX_ROWS
from scanside.recon.compression import ENERGY
from scanside.recon.partial_fourier import classify
from scanside.recon.stacked import rows_seen
from scanside.stages._axes import readout_of
from scanside.stages._lattice import lattice_of
from scanside.stages._signal import acquired_band, energy_beyond, noise_of_item, snr_of
from scanside.stages._virtual_coils import lost_in_compression
from scanside.stages.partial_fourier import axis_name, one_sided, planned_band

__all__ = ["SENSE_IMAGES", "Fitness", "fitness_of", "fitness_of_samples", "foreseen_fitness"]

_BEYOND = 5e-4  # more of the signal's energy than this beyond the acquired band tells in images
_UNSURE = 2.0  # by this factor the SNR of a scan may be estimated wrongly


SENSE_IMAGES = ("cg-sense", "sense")
"""What manifests call the image that networks improve."""


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
        item: one image or several, or for a network that takes windows, a window; with its coil maps, and no more
            coils than the network takes.
    """
    untrained = _differences(manifest, item) if item.data.shape[-3] == 1 else ()
    return Fitness(tuple(_obstacles(manifest, item)), tuple(untrained))


def foreseen_fitness(manifest: Manifest, outline: Outline) -> Fitness:
    """The same of a scan in outline; what only samples tell, such as noise, is left out."""
    if outline.lines is None:
        return Fitness()
    n2, (n1, n0) = outline.lines.shape[1], outline.size
    cannot = [*_slabs(n2), *_lacking_contrasts(manifest, outline.contrasts)]
    frames = manifest.shapes.frames
    if frames is not None and outline.window is None:
        cannot.append(f"it takes windows of {frames} frames, and no stage before it joins any")
    try:
        fit(manifest.lowering, manifest.shapes, n1, n0)
        if frames is not None and outline.window is not None:
            check_frames(manifest.shapes, outline.window)
    except ShapeError as error:
        cannot.append(str(error))
    if not outline.whole_readouts:
        cannot += _cut_readouts(manifest)
    if n2 > 1:
        return Fitness(tuple(cannot))
    untrained = _differences_of_sampling(manifest, (n1, n0), outline.n_coils, outline.lines[:, 0])
    band = planned_band(outline.encoding, 1, n1)
    if band is not None and band[0] <= n1 // 2 <= band[1] and classify(*band, n1 // 2, n1) == "partial":
        untrained.append(_partial([-2]))
    return Fitness(tuple(cannot), tuple(dict.fromkeys(untrained)))


def fitness_of_samples(manifest: Manifest, shape: tuple[int, int], acceleration: float | None) -> Fitness:
    """Compare samples of a slice that do not lie on a grid with what a bundle's manifest says.

    How many coils there are is all one: such networks see what all of them together say.

    Args:
        manifest: of the bundle.
        shape: of the image, (y, x).
        acceleration: as `scanside.recon.noncartesian.density.acceleration_of` counts it; None where samples would
            have to tell it.
    """
    trained, (n1, n0) = manifest.sampling, shape
    try:
        fit(manifest.lowering, manifest.shapes, n1, n0)
    except ShapeError as error:
        return Fitness(cannot=(str(error),))
    sides = [*_outside("matrix", n1, trained.matrix), *_outside("matrix", n0, trained.matrix)]
    found = (
        sides
        if acceleration is None
        else [*sides, *_outside("acceleration", acceleration, trained.acceleration)]
    )
    return Fitness(untrained=tuple(dict.fromkeys(found)))


def _obstacles(manifest: Manifest, item: KSpace) -> list[str]:
    n2, n1, n0 = item.data.shape[-3:]
    found = _slabs(n2)
    try:
        place = fit(manifest.lowering, manifest.shapes, n1, n0)
    except ShapeError as error:
        found.append(str(error))
    else:
        # What improves CG-SENSE sees one image, of both sets.
        if item.second_maps is not None and manifest.input_image not in SENSE_IMAGES:
            found += _obstacles_of_two_sets(
                manifest.form_for(place.bucket) == "columns", n1, item.second_maps
            )
    found += _lacking_contrasts(manifest, item.contrasts)
    if manifest.shapes.frames is not None:
        found += _obstacles_of_window(manifest.shapes, item)
    if readout_of(item) is not None:
        found += _cut_readouts(manifest)
    return found


def _slabs(n2: int) -> list[str]:
    return [f"it takes slices, and this k-space has {n2} partitions"] if n2 > 1 else []


def _lacking_contrasts(manifest: Manifest, at_hand: Container[str]) -> list[str]:
    names = [name for spec in manifest.inputs if (name := contrast_of(spec.name))]
    return [
        f"it sees the contrast '{name}' of the same slice beside the scan, and there is no such image: "
        "name its file in other-contrasts.images, in a stage before the engine"
        for name in names
        if name not in at_hand
    ][:1]


def _cut_readouts(manifest: Manifest) -> list[str]:
    if manifest.lowering != "none" and manifest.sampling.undersampled_axes == 1:
        return ["it takes whole readouts only, and these are asymmetric echoes"]
    return []


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
    n1, n0 = item.data.shape[-2:]
    # By their bytes: NumPy takes a millisecond to find the different rows of a single one.
    patterns = {frame.tobytes(): frame for frame in item.mask.reshape(-1, n1).cpu().numpy()}
    lines = np.stack([*patterns.values()])
    lines = lines[lines.any(axis=1)]  # a frame without lines has no pattern
    found = _differences_of_sampling(manifest, (n1, n0), item.n_coils, lines)
    if len(lines):
        found += [*_not_whole(item), *_undetermined(item), *_noise(manifest, item)]
    loss = lost_in_compression(item.meta)
    if loss > 1 - ENERGY:
        found.append(f"coil compression lost {loss:.2%} of the signal's energy, trained without loss")
    return list(dict.fromkeys(found))


def _differences_of_sampling(
    manifest: Manifest, size: tuple[int, int], n_coils: int, lines: npt.NDArray[np.bool_]
) -> list[str]:
    """Differences of the size ``(k1, k0)``, the coils and the different patterns ``(n, k1)`` of frames."""
    trained, (n1, n0) = manifest.sampling, size
    found = []
    # A network that sees no coils has it easier with more of them.
    n_coils = n_coils if _takes_coils(manifest, n1, n0) else min(n_coils, int(trained.n_coils.high))
    for name, value, allowed in (
        ("matrix", n1, trained.matrix),
        ("matrix", n0, trained.matrix),
        ("coil count", n_coils, trained.n_coils),
    ):
        found += _outside(name, value, allowed)
    for sampled in lines:
        found += _outside("acceleration", n1 / int(sampled.sum()), trained.acceleration)
        found += _outside("ACS width", _lines_around(sampled, n1 // 2), trained.acs_lines)
    for kinds in (
        [_kinds(one) for one in lines] if manifest.shapes.frames is None else [_kinds_of_film(lines)]
    ):
        if not set(kinds) & {look for kind in trained.kinds for look in _LOOKS.get(kind, (kind,))}:
            found.append(f"sampling {' or '.join(kinds)}, trained for {', '.join(trained.kinds)}")
    return found


def _takes_coils(manifest: Manifest, n1: int, n0: int) -> bool:
    """Whether the form of the network that serves images of a size has the coils themselves as input."""
    try:
        bucket = fit(manifest.lowering, manifest.shapes, n1, n0).bucket
    except ShapeError:
        return False
    return manifest.form(manifest.form_for(bucket)).takes_coils


def _not_whole(item: KSpace) -> list[str]:
    """That a part of k-space was not to be acquired: one side of it, or its ends."""
    partial = one_sided(item)
    if partial:
        return [_partial(partial)]
    (first, last), n1 = acquired_band(item), item.data.shape[-2]
    if last - first + 1 == n1:
        return []
    beyond = energy_beyond(item, (first, last), noise_of_item(item))
    if beyond < _BEYOND:
        return []
    return [
        f"rows {first} to {last} of {n1} of k-space were acquired along k1, with about {beyond:.2%} of the signal's "
        "energy beyond; trained on whole k-space"
    ]


def _partial(axes: Iterable[int]) -> str:
    return f"sampled on one side only along {', '.join(map(axis_name, axes))}, trained on whole k-space"


def _undetermined(item: KSpace) -> list[str]:
    """That there are fewer equations than unknowns, even if coils differed as much as they can."""
    n_lines, n1 = int(item.mask.reshape(-1, item.mask.shape[-1]).any(0).sum()), item.data.shape[-2]
    n_equations = item.n_coils * n_lines
    if n_equations >= n1 or item.coil_maps is None:
        return []
    sets = [item.coil_maps, *([] if item.second_maps is None else [item.second_maps])]
    n_rows = int(torch.stack([(maps != 0).flatten(0, -3).any(0).sum(0) for maps in sets]).sum(0).max())
    if n_equations >= n_rows:
        return []
    return [
        f"{item.n_coils} coils × {n_lines} lines are fewer than the {n_rows} rows that coils see: the data cannot "
        "determine the image"
    ]


def _noise(manifest: Manifest, item: KSpace) -> list[str]:
    trained = manifest.sampling.snr
    found = None if trained is None else snr_of(item, noise_of_item(item))
    if trained is None or found is None or trained.low / _UNSURE <= found <= trained.high * _UNSURE:
        return []
    return [f"SNR about {found:.2g}, trained for {trained}"]


def _outside(name: str, value: float, allowed: Range) -> list[str]:
    return [] if value in allowed else [f"{name} {value:.3g}, trained for {allowed}"]


_LOOKS = {
    "equispaced-fraction": ("equispaced", "random"),
    "fastmri-random": ("random",),
    "gaussian": ("variable-density",),
    "magic": ("random",),
    "magic-fraction": ("random",),
    "kt-uniform": ("kt",),
    "kt-gaussian": ("variable-density",),
}
"""Which kinds the masks of a further one may be taken for: of magic masks, too, no lattice has the lines."""


def _kinds(sampled: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """What kinds of sampling a pattern ``(k1,)`` may be: irregular ones look alike."""
    if lattice_of(sampled[None]) is not None:
        return ("equispaced",)
    found = np.flatnonzero(sampled)
    without_gap = len(found) > 0 and found[-1] - found[0] + 1 == len(found)
    return ("centre",) if without_gap else ("random", "variable-density")


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
