"""Position and directions of images: handed on as they came, and told where they cannot be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scanside.stages.accumulate import Accumulate
from scanside.stages.finish import Finish
from scanside.stages.fourier import Fourier


@pytest.fixture
def images(make_header: Any, lines: Any, run_stage: Any) -> Any:
    """Images of two repetitions, finished, whose readouts have the given fields; and all warnings of the scan."""

    def make(**fields: Any) -> tuple[list[Any], list[str]]:
        blocks = [lines(range(12), repetition=repetition) for repetition in range(2)]
        for block in blocks:
            for name, value in fields.items():
                block.headers[name] = value
        kspaces = run_stage(Accumulate(), make_header(), blocks).items
        ran = run_stage(Fourier(), make_header(), kspaces)
        return run_stage(Finish(), make_header(), ran.items).items, ran.scan.warnings

    return make


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"read_dir": (1, 1, 1)}, "must be of unit length and perpendicular"),
        ({"slice_dir": (0, 0, 0)}, "must be of unit length and perpendicular"),
        ({"phase_dir": (0.02, 1, 0)}, "must be of unit length and perpendicular"),
        ({"position": (0, np.nan, 0)}, "position needs three finite numbers"),
        ({"read_dir": 0, "phase_dir": 0, "slice_dir": 0}, "tell no directions"),
    ],
)
def test_geometry_that_cannot_be_right(images: Any, fields: dict[str, Any], told: str) -> None:
    made, warnings = images(**fields)
    (warning,) = warnings
    assert "position and orientation of images are wrong or unknown" in warning
    assert told in warning
    for image in made:
        assert told in image.meta.first("ScansideGeometry")
        for name, value in fields.items():
            np.testing.assert_array_equal(image.header[name], np.float32(value) * np.ones(3, np.float32))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"slice_dir": (0, 0, -1)},  # left-handed
        {"read_dir": (0.6, 0.8, 0), "phase_dir": (-0.8, 0.6, 0)},
        {"read_dir": (1, 0.0004, 0)},  # rounded
    ],
)
def test_no_false_alarms(images: Any, fields: dict[str, Any]) -> None:
    made, warnings = images(**fields)
    assert warnings == []
    assert all("ScansideGeometry" not in image.meta for image in made)
