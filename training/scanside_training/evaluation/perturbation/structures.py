"""Discs of known size and contrast at known places, and what a scan acquires of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.ndimage import distance_transform_edt, gaussian_filter, uniform_filter

from scanside.errors import ConfigError
from scanside.metrics import Mask, Real
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.scaling import image_scale
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem

__all__ = ["Added", "Structure", "StructuresConfig", "added_to", "disc", "smooth_phase"]

_FINE = 32
"""Points along each side of a pixel whose mean is what the pixel holds of a disc."""
_MARGIN = 2.0
"""Pixels between the largest disc and the edge of the object, at places that are chosen here."""
_DARK = 0.2
"""Share of bright tissue below which no place is chosen here: contrast relative to hardly any signal is none."""
_SOFT = 3.0
"""Standard deviations of a soft edge that count to a disc."""

_Positive = Annotated[float, Field(gt=0)]


class StructuresConfig(Settings):
    """Discs in all combinations of diameter and contrast, one at a time, at several places."""

    diameters: tuple[_Positive, ...] = Field(min_length=1)
    unit: Literal["pixels", "mm"] = "pixels"
    """Of diameters and edge."""
    pixel_mm: tuple[_Positive, _Positive] | None = None
    """Size (y, x) of a pixel, for diameters in mm."""
    contrasts: tuple[float, ...] = Field(min_length=1)
    """What is added, relative to the mean signal where it is added: -1 leaves nothing of it."""
    edge: float = Field(default=0, ge=0)
    """Standard deviation of a Gaussian that softens the edge; 0 for a sharp disc, of which pixels hold shares."""
    places: Annotated[int, Field(ge=1)] | Annotated[tuple[tuple[float, float], ...], Field(min_length=1)] = 4
    """How many, on a grid over the object; or centres (y, x) in pixels, which may lie between them."""
    realisations: int = Field(default=8, ge=0)
    """Of noise, with and without each structure, for detectability; 0 for none of it, else at least 3."""

    @model_validator(mode="after")
    def _possible(self) -> StructuresConfig:
        if self.unit == "mm" and self.pixel_mm is None:
            raise ValueError(
                "diameters are in mm, and images do not tell how large their pixels are: give pixel_mm"
            )
        if 0 in self.contrasts:
            raise ValueError("a contrast of 0 adds nothing that could be found again")
        if min(self.contrasts) < -1:
            raise ValueError(f"a contrast of {min(self.contrasts):g} takes away more signal than there is")
        if self.realisations in (1, 2):
            raise ValueError(f"{self.realisations} realisations tell no deviation: 3 do, better 8")
        return self

    @property
    def pixel(self) -> tuple[float, float]:
        """Size (y, x) of a pixel in the unit of diameters."""
        if self.unit == "pixels":
            return 1.0, 1.0
        assert self.pixel_mm is not None
        return self.pixel_mm


@dataclass(frozen=True)
class Structure:
    """One disc.

    Attributes:
        diameter: in the unit of the configuration.
        contrast: relative to the local signal.
        y: of its centre, pixels.
        x: the same.
    """

    diameter: float
    contrast: float
    y: float
    x: float


@dataclass(frozen=True, eq=False)
class Added:
    """A disc as it is added to an image.

    Attributes:
        structure: what it is.
        profile: ``(y, x)``, the share of it that each pixel holds, 0 to 1.
        amplitude: signed, on the scale of the reference.
        image: ``(y, x)`` complex64, with the phase of the scan.
        reach: largest distance of its edge from its centre in pixels.
    """

    structure: Structure
    profile: Real
    amplitude: float
    image: torch.Tensor
    reach: float


def disc(
    shape: tuple[int, int],
    center: tuple[float, float],
    diameter: float,
    pixel: tuple[float, float] = (1.0, 1.0),
    edge: float = 0.0,
) -> Real:
    """The share of a disc that each pixel holds, ``(y, x)``.

    Args:
        shape: of the image.
        center: (y, x) in pixels; pixel i reaches from i - 1/2 to i + 1/2.
        diameter: in any unit.
        pixel: size (y, x) of a pixel in that unit.
        edge: standard deviation of a Gaussian that softens the edge, in that unit.
    """
    fine = (np.arange(_FINE) + 0.5) / _FINE - 0.5
    image = np.zeros(shape)
    spans, squares = [], []
    for n, at, size in zip(shape, center, pixel, strict=True):
        half = diameter / (2 * size) + 1
        span = slice(max(0, math.floor(at - half)), min(n, math.ceil(at + half) + 1))
        points = np.arange(span.start, span.stop)[:, None] + fine
        spans.append(span)
        squares.append(((points - at) * size) ** 2)
    inside = squares[0][:, :, None, None] + squares[1] < (diameter / 2) ** 2
    image[spans[0], spans[1]] = inside.mean((1, 3))
    if edge:
        image = gaussian_filter(image, [edge / size for size in pixel], mode="constant", truncate=6)
    return image


def smooth_phase(problem: Problem) -> torch.Tensor:
    """The phase of the object as the calibration lines show it: ``(y, x)`` complex64 of magnitude 1."""
    kspace = to_kspace(problem.adjoint)
    for axis, n in enumerate(kspace.shape):
        width = max(problem.n_calibration, 2)
        away = (torch.arange(n) - n // 2).abs() / (width / 2)
        window = torch.where(away < 1, 0.5 + 0.5 * torch.cos(torch.pi * away), 0.0)
        kspace = kspace * (window[:, None] if axis == 0 else window)
    return torch.polar(torch.ones(kspace.shape), to_image(kspace).angle())


def added_to(case: Case, problem: Problem, config: StructuresConfig) -> list[Added]:
    """All discs of a configuration, for a case: place by place, diameters and contrasts in their order.

    Args:
        case: whose reference tells the local signal.
        problem: of the case.
        config: which discs.

    Raises:
        ConfigError: a disc does not lie in the field of view or in the object, is larger than that, or would be added
            where there is no signal; or there are fewer places than were asked for.
    """
    sees = case.roi & (problem.maps.abs().sum(0) > 0).numpy()
    # What lies outside of the image is no object.
    depth = distance_transform_edt(np.pad(sees, 1))[1:-1, 1:-1]
    reach = {diameter: _reach(diameter, config) for diameter in config.diameters}
    deepest = float(depth.max())
    for diameter, one in reach.items():
        if one > deepest:
            raise ConfigError(
                f"a structure of {diameter:g} {config.unit} is larger than the object of {case.name}, which holds "
                f"discs of up to {2 * deepest:.0f} pixels"
            )
    if isinstance(config.places, int):
        places = _grid(case, depth, max(reach.values()), config.places)
    else:
        places = list(config.places)
    phase = smooth_phase(problem)
    found = []
    for y, x in places:
        for diameter in config.diameters:
            _check_view(case, (y, x), diameter, reach[diameter], config.unit)
            profile = disc(case.inside.shape, (y, x), diameter, config.pixel, config.edge)
            signal = _local_signal(case, sees, profile, (y, x), diameter, config.unit)
            for contrast in config.contrasts:
                amplitude = contrast * signal
                image = torch.from_numpy(amplitude * profile).to(phase) * phase
                structure = Structure(diameter, contrast, y, x)
                found.append(Added(structure, profile, amplitude, image, reach[diameter]))
    return found


def _reach(diameter: float, config: StructuresConfig) -> float:
    return (diameter / 2 + _SOFT * config.edge) / min(config.pixel)


def _check_view(case: Case, place: tuple[float, float], diameter: float, reach: float, unit: str) -> None:
    """Raises ConfigError where a disc does not lie in the field of view."""
    for at, n in zip(place, case.inside.shape, strict=True):
        if not reach - 0.5 <= at <= n - 0.5 - reach:
            raise ConfigError(
                f"a structure of {diameter:g} {unit} at {_text(place)} does not lie in the field of view of "
                f"{case.name}, whose image has {case.inside.shape[0]} × {case.inside.shape[1]} pixels (y, x)"
            )


def _local_signal(
    case: Case, sees: Mask, profile: Real, place: tuple[float, float], diameter: float, unit: str
) -> float:
    """The reference's mean over a disc.

    Raises:
        ConfigError: the disc does not lie in the object, or there is no signal.
    """
    if bool((~sees & (profile > 0.01)).any()):
        raise ConfigError(
            f"a structure of {diameter:g} {unit} at {_text(place)} does not lie in the object of {case.name}: name a "
            "place inside, or how many are to be chosen"
        )
    signal = float((profile * case.inside).sum() / profile.sum())
    if not signal > 0:
        raise ConfigError(
            f"there is no signal at {_text(place)} of {case.name}: contrast is relative to it, name another place"
        )
    return signal


def _grid(case: Case, depth: Real, reach: float, n: int) -> list[tuple[float, float]]:
    """Centres of the widest grid that has so many in the object where it is not dark, the ones next to its middle.

    Raises:
        ConfigError: there are not so many.
    """
    side = 2 * math.ceil(reach) + 1
    bright = uniform_filter(case.inside, side) > _DARK * float(image_scale(torch.from_numpy(case.inside)))
    possible = bright & (depth > reach + _MARGIN)
    rows, columns = np.nonzero(possible)
    if len(rows) < n:
        raise ConfigError(
            f"{case.name} has {len(rows)} places for structures that reach {reach:.1f} pixels from their centre, and "
            f"{n} were asked for: ask for fewer, or for smaller structures"
        )
    middle = round(rows.mean()), round(columns.mean())
    for step in range(max(case.inside.shape), 0, -1):
        on = (rows - middle[0]) % step == 0, (columns - middle[1]) % step == 0
        chosen = on[0] & on[1]
        if int(chosen.sum()) >= n:
            break
    found = sorted(
        zip(rows[chosen].tolist(), columns[chosen].tolist(), strict=True),
        key=lambda one: (one[0] - middle[0]) ** 2 + (one[1] - middle[1]) ** 2,
    )
    return [(float(y), float(x)) for y, x in found[:n]]


def _text(place: tuple[float, float]) -> str:
    return f"({place[0]:g}, {place[1]:g})"
