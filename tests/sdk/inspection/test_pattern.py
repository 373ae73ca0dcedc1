"""Sampling patterns in words and characters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanside.inspection.pattern import AxisBand, SamplingPattern, describe_band

pytestmark = pytest.mark.torch_free


def pattern(imaging: list[str], calibration: list[str]) -> SamplingPattern:
    lines, reference = (np.array([list(row) for row in rows]) != "." for rows in (imaging, calibration))
    n2, n1 = lines.shape
    bands = AxisBand(0, n1 - 1, n1), AxisBand(0, n2 - 1, n2)
    return SamplingPattern(lines, reference, np.ones_like(lines), 1, 1, lines.sum(), lines.sum(), bands)


def test_text_shows_every_line_once() -> None:
    found = pattern(["x..x.xxx..x."], ["....xxx....."])
    assert found.text() == ["           ▼", "   0 █··█▒▓▓█··█·"]
    assert found.text(width=8) == ["           ▼", "   0 █··█▒▓▓█", "   8 ··█·"]
    assert found.n_lines == 6
    assert found.acceleration == 2
    assert found.calibration_range == ((4, 6), (0, 0))


def test_two_phase_encodings() -> None:
    found = pattern(["x.x.", "....", "x.x.", "...."], ["....", ".xx.", ".xx.", "...."])
    assert found.text() == ["       ▼", "   0 █·█·", "   1 ·▒▒·", "   2 █▒▓·", "   3 ····"]
    coarse = found.text(width=2)
    assert coarse == [
        "      ▼",
        "   0 ██",
        "   1 ▒▒",
        "   2 █▓",
        "   3 ··",
        "     one character: 2 × 1 lines (k1 × k2)",
    ]


@pytest.mark.parametrize(
    ("lines", "calibration", "spacing"),
    [
        ("x..x..x..x..", "............", 3),
        ("xxxxxxxxxxxx", "............", 1),
        ("x.x.x...x.x.", ".....xxx....", 2),
        ("x.x.x...x.x.", "............", 0),
        ("x..xx.x...x.", "............", 0),
        ("x...........", "............", 1),
        ("x.........x.", "............", 0),
        ("xxxxxxxxxxxx", "xxxxxxxxxxxx", 1),
    ],
)
def test_spacing(lines: str, calibration: str, spacing: int) -> None:
    assert pattern([lines], [calibration]).spacing == (spacing, 1)


@pytest.mark.parametrize(
    ("lines", "spacing"),
    [
        (["x.x.x.", "......"] * 3, (2, 2)),
        (["xxxxxx", "......"] * 3, (1, 2)),
        (["x.x.x.", ".x.x.x"] * 3, (0, 0)),  # shifted from row to row: all rows and all columns occur
        (["xx.xxx", "x.xx.x", ".xxxxx"] * 2, (0, 0)),
    ],
)
def test_spacing_of_planes(lines: list[str], spacing: tuple[int, int]) -> None:
    assert pattern(lines, ["......"] * 6).spacing == spacing


@pytest.mark.parametrize("n", [16, 31, 64, 144, 255])
def test_kinds_are_those_that_the_reconstruction_tells_apart(n: int) -> None:
    partial_fourier = pytest.importorskip("scanside.recon.partial_fourier", reason="needs torch")
    kinds = {"full": "full", "reduced-resolution": "reduced", "partial": "partial"}
    for first in range(0, n // 2, max(n // 24, 1)):
        for last in range(n // 2, n, max(n // 24, 1)):
            expected = kinds[partial_fourier.classify(first, last, n // 2, n)]
            assert AxisBand(first, last, n).kind == expected


def test_bands_in_words() -> None:
    whole = AxisBand(0, 143, 144)
    assert describe_band(whole, "lines", "reduced", "partial") == "144 of 144 lines: the whole matrix"
    reduced = describe_band(AxisBand(18, 123, 144), "lines", "reduced resolution", "partial Fourier")
    assert reduced.endswith(
        "54 below and 51 above the centre: reduced resolution (74 %), not partial Fourier"
    )
    partial = describe_band(AxisBand(36, 143, 144), "lines", "reduced resolution", "partial Fourier")
    assert partial.endswith("partial Fourier, 6.0/8 of the symmetric band")


def test_frames_as_text() -> None:
    found = replace(pattern(["x..x.x"], ["......"]), frames=np.array([[1, 0, 0, 1, 1, 1], [0] * 6], bool))
    assert found.frames_text() == ["      ▼", "   0 ▌▐█", "   1 ···"]
    assert found.frames_text(width=2, at_most=1) == ["      ▼", "   0 ▌▐", "     and 1 more frames"]
    odd = replace(found, frames=np.array([[0, 1, 1, 0, 1]], bool))
    assert odd.frames_text() == ["      ▼", "   0 ▐▌▌"]
    assert pattern(["x.x."], ["...."]).frames_text() == []
