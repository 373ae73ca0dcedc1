"""Lines of one image lie in one place and are sampled at one speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scanside.mrd.flags import AcquisitionFlag

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("block", [None, 1, 5])
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("position", (3.0, 4.0, 0.0), "their positions are up to 5.0 mm apart"),
        ("patient_table_position", (0.0, 0.0, 20.0), "the table moved by 20.0 mm"),
        ("sample_time_us", 7.0, "their dwell times are 10 and 7 µs"),
        ("read_dir", (0.0, 1.0, 0.0), "their directions up to 90.0°"),
    ],
)
def test_what_changes_within_an_image(
    make_scan: Callable[..., Any], field: str, value: Any, said: str, block: int | None
) -> None:
    scan = make_scan(timing={"dwell_us": 10.0})
    lines = scan.lines.headers
    lines["position"] = 0
    lines["read_dir"] = (1, 0, 0)
    lines[field][20:] = value
    told, (found,) = scan.compare(block=block)
    assert [finding.level for finding in told] == ["warning"]
    assert said in found.text
    assert f"that with scan counter {int(lines['scan_counter'][20])}" in found.text


def test_what_changes_from_image_to_image(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(
        dynamics={"repetitions": 2, "te_ms": (5, 10)}, geometry={"matrix": (16, 16, 1), "n_slices": 3}
    )
    for block in scan.blocks:
        idx = block.headers["idx"]
        block.headers["position"][:, 0] += 5.0 * idx["repetition"]
        block.headers["sample_time_us"] = 5.0 + idx["contrast"]
    assert scan.texts() == []


def test_little_moves_are_none(make_scan: Callable[..., Any]) -> None:
    """A scanner that follows the patient, and rounding."""
    scan = make_scan()
    n = len(scan.lines)
    scan.lines.headers["position"][:, 1] += np.linspace(0, 0.4, n)
    scan.lines.headers["sample_time_us"] *= 1 + 1e-5 * np.arange(n)
    assert scan.texts() == []


def test_separate_calibration_may_lie_elsewhere(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(sampling={"acceleration": (2, 1), "acs": (8, 0), "acs_mode": "separate"})
    n = 0
    for block in scan.blocks:
        only = block.headers["flags"] & np.uint64(int(AcquisitionFlag.PARALLEL_CALIBRATION)) != 0
        block.headers["sample_time_us"][only] = 3.0
        n += int(only.sum())
    assert n == 8
    assert scan.texts() == []


def test_numbers_that_are_none(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    scan.lines.headers["position"][3] = np.nan
    scan.lines.headers["read_dir"][4] = 0
    scan.lines.headers["slice_dir"][5] = np.inf
    assert scan.texts() == []
