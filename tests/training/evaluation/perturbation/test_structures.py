from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.perturbation.structures import (
    StructuresConfig,
    added_to,
    disc,
    smooth_phase,
)

Scan = Callable[..., Case]


def structures(**settings: Any) -> StructuresConfig:
    return StructuresConfig(**{"diameters": (3.0,), "contrasts": (0.5,), **settings})


def added(case: Case, config: StructuresConfig) -> Any:
    assert case.problem is not None
    return added_to(case, case.problem, config)


@pytest.mark.parametrize("diameter", [1.0, 2.5, 7.0])
@pytest.mark.parametrize("pixel", [(1.0, 1.0), (0.5, 1.25)])
def test_a_disc_has_the_area_and_centre_that_it_should(diameter: float, pixel: tuple[float, float]) -> None:
    center = 11.3, 9.6
    image = disc((24, 20), center, diameter, pixel)
    area = np.pi * diameter**2 / 4 / (pixel[0] * pixel[1])
    assert image.sum() == pytest.approx(area, rel=0.03)
    y, x = np.indices(image.shape)
    assert (image * y).sum() / image.sum() == pytest.approx(center[0], abs=0.1)
    assert (image * x).sum() / image.sum() == pytest.approx(center[1], abs=0.1)
    assert image.max() <= 1


def test_the_smallest_disc_is_one_pixel() -> None:
    image = disc((9, 9), (4, 5), 1.0)
    assert np.argwhere(image).tolist() == [[4, 5]]
    assert image[4, 5] == pytest.approx(np.pi / 4, rel=0.03)


def test_a_soft_edge_keeps_what_is_added() -> None:
    sharp, soft = (disc((40, 40), (20, 20), 8.0, edge=edge) for edge in (0.0, 1.5))
    assert soft.sum() == pytest.approx(sharp.sum(), rel=1e-3)
    assert soft[20, 24] == pytest.approx(0.5, abs=0.1)
    assert sharp[20, 26] == 0 < soft[20, 26]


def test_contrast_is_relative_to_the_signal_around(scan: Scan) -> None:
    case = scan()
    config = structures(diameters=(1.0, 3.0), contrasts=(0.2, -0.5), places=((16.0, 18.0), (30.0, 30.0)))
    found = added(case, config)
    assert [one.structure.diameter for one in found] == [1, 1, 3, 3] * 2
    assert [round(one.amplitude, 6) for one in found] == [0.3, -0.75] * 2 + [0.2, -0.5] * 2
    for one in found:
        np.testing.assert_allclose(one.image.abs().numpy(), abs(one.amplitude) * one.profile, atol=1e-6)


def test_structures_have_the_phase_of_the_object(scan: Scan) -> None:
    case = scan()
    assert case.problem is not None
    phase = smooth_phase(case.problem)
    inside = (slice(10, 34), slice(12, 38))
    difference = (phase * case.problem.adjoint.conj())[inside].angle()
    assert float(difference.abs().max()) < 0.1


def test_places_are_chosen_on_a_grid_inside(scan: Scan) -> None:
    found = added(scan(), structures(places=5))
    places = [(one.structure.y, one.structure.x) for one in found]
    assert len(set(places)) == 5
    assert all(9 <= y <= 34 and 11 <= x <= 38 for y, x in places)
    assert min(abs(a - c) + abs(b - d) for a, b in places for c, d in places if (a, b) != (c, d)) >= 8


def test_structures_that_do_not_fit(scan: Scan) -> None:
    case = scan()
    with pytest.raises(ConfigError, match=r"3 pixels at \(3, 25\) does not lie in the object of boxes"):
        added(case, structures(places=((3.0, 25.0),)))
    with pytest.raises(ConfigError, match=r"at \(50, 25\) does not lie in the field of view.*44 × 50 pixels"):
        added(case, structures(places=((50.0, 25.0),)))
    with pytest.raises(ConfigError, match=r"at \(20, 0\.5\) does not lie in the field of view"):
        added(case, structures(places=((20.0, 0.5),)))
    with pytest.raises(ConfigError, match=r"40 pixels is larger than the object of boxes.*up to 32 pixels"):
        added(case, structures(diameters=(40.0,)))
    with pytest.raises(ConfigError, match=r"boxes has .* places .* 2000 were asked for"):
        added(case, structures(places=2000))
    case.inside[20:30, 20:30] = 0
    try:
        with pytest.raises(ConfigError, match=r"no signal at \(25, 25\)"):
            added(case, structures(places=((25.0, 25.0),)))
    finally:
        case.inside[20:30, 20:30] = 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameters": (-1.0,)}, "greater than 0"),
        ({"diameters": (0.0,)}, "greater than 0"),
        ({"contrasts": (0.1, 0.0)}, "a contrast of 0 adds nothing"),
        ({"contrasts": (-1.5,)}, "takes away more signal than there is"),
        ({"unit": "mm"}, "give pixel_mm"),
        ({"realisations": 2}, "tell no deviation"),
        ({"places": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        structures(**settings)


def test_millimetres(scan: Scan) -> None:
    place = ((24.0, 26.0),)
    (by_mm,) = added(scan(), structures(unit="mm", pixel_mm=(0.5, 0.5), diameters=(2.0,), places=place))
    (by_pixels,) = added(scan(), structures(diameters=(4.0,), places=place))
    np.testing.assert_array_equal(by_mm.profile, by_pixels.profile)
