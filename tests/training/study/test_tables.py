"""What a comparison says, and what keeps it from meaning much."""

from __future__ import annotations

import pytest

from scanside_training.study.tables import Difference


@pytest.mark.parametrize(
    ("measure", "first", "second", "verdict"),
    [
        ("psnr", (25.0, 25.1, 25.2), (24.0, 24.1, 24.2), "better"),
        ("psnr", (24.0, 24.1, 24.2), (25.0, 25.1, 25.2), "not better"),
        ("nmse", (0.1, 0.11), (0.2, 0.21), "better"),
        ("psnr", (25.0, 25.4), (25.1, 25.2), "better, within the spread"),
        ("ssim", (0.70, 0.74), (0.73, 0.72), "not better, within the spread"),
        ("psnr", (25.0,), (24.0,), "better, one seed"),
        ("psnr", (25.0,), (25.1, 25.2), "not better, one seed"),
    ],
)
def test_verdict(measure: str, first: tuple[float, ...], second: tuple[float, ...], verdict: str) -> None:
    assert Difference("one", "other", measure, first, second, 0.5).verdict == verdict
