"""Readouts that carry their trajectory are held against a Cartesian header, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scanside.mrd.readouts import Readouts

pytestmark = pytest.mark.torch_free


def carry(scan: Any, trajectory: np.ndarray[Any, Any]) -> None:
    """Give the lines a trajectory ``(line, sample, dimension)``."""
    headers = scan.lines.headers.copy()
    headers["trajectory_dimensions"] = trajectory.shape[2]
    scan.blocks[-1] = Readouts(headers, scan.lines.samples, trajectory.astype(np.float32))


def lines(n: int = 32, n_samples: int = 64, at: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """The trajectory of parallel lines, with the places of samples along them."""
    along = np.linspace(-0.5, 0.5, n_samples, endpoint=False) if at is None else at
    return np.stack(np.broadcast_arrays(along[None], np.linspace(-0.5, 0.5, n)[:, None]), axis=-1)


def spokes(n: int = 32, n_samples: int = 64) -> np.ndarray[Any, Any]:
    angle = np.pi * np.arange(n)[:, None] / n
    along = np.linspace(-0.5, 0.5, n_samples, endpoint=False)
    return np.stack([along * np.cos(angle), along * np.sin(angle)], axis=-1)


def spirals(n: int = 32, n_samples: int = 64) -> np.ndarray[Any, Any]:
    along = np.linspace(0, 1, n_samples)
    angle = 8 * np.pi * along + 2 * np.pi * np.arange(n)[:, None] / n
    return np.stack([along * np.cos(angle), along * np.sin(angle)], axis=-1)


@pytest.mark.parametrize("block", [None, 1])
@pytest.mark.parametrize(
    ("trajectory", "how"),
    [
        (spokes(), ": 31 of 32 run otherwise than the first, by up to 90°, first that with scan counter 5."),
        (spirals(), ": they are curved; 30 of 32 run otherwise than the first, by up to 90°"),
        (spirals()[:1].repeat(32, axis=0), ": they are curved."),
    ],
    ids=["spokes", "spirals", "one curve"],
)
def test_other_than_parallel_lines(
    make_scan: Callable[..., Any], trajectory: Any, how: str, block: int | None
) -> None:
    scan = make_scan()
    carry(scan, trajectory)
    told, found = scan.compare(block=block)
    assert [finding.level for finding in told] == ["error"]
    (error,) = found
    carried = "the header's trajectory is cartesian, but the readouts carry a trajectory of 2 dimensions"
    assert error.text.startswith(carried)
    assert how in error.text


def test_weights_as_another_dimension(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    weights = np.broadcast_to(np.abs(np.linspace(-1, 1, 64))[:, None], (32, 64, 1))
    carry(scan, np.concatenate([spokes(), weights], axis=2))
    assert "3 dimensions" in scan.texts()[0]


@pytest.mark.parametrize("turn", [False, True])
def test_parallel_lines_are_right(make_scan: Callable[..., Any], turn: bool) -> None:
    scan = make_scan()
    trajectory = lines()
    if turn:
        trajectory[1::2] = trajectory[1::2, ::-1]
    carry(scan, trajectory)
    assert scan.texts() == []


def test_zeros_are_no_trajectory(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    carry(scan, np.zeros((32, 64, 3)))
    assert scan.texts() == []
    trajectory = spokes()
    trajectory[:4] = 0
    carry(scan, trajectory)
    assert "run otherwise" in scan.texts()[0]


def test_ramp_samples(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    carry(scan, lines(at=np.sin(np.linspace(-1.2, 1.2, 64))))
    (text,) = scan.texts()
    assert text.startswith("warning: ")
    assert "do not lie at equal distances" in text


def test_trajectory_that_is_named_and_not_carried(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    scan.change_header("<trajectory>cartesian<", "<trajectory>radial<")
    (text,) = scan.texts()
    assert "trajectory is radial, but no readout carries a trajectory" in text
    carry(scan, spokes())
    assert scan.texts() == []
