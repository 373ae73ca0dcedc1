"""Measures over numbers of the scan: groups, means over subjects, and what is drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from scanside_training.evaluation.curves import conditions_of, curve_figure, points
from scanside_training.evaluation.scores import Score


def scan(n: int, subject: str, psnr: float, **conditions: float) -> Score:
    return Score(
        "net", str(n), {"subject": subject}, {"psnr": psnr, "ssim": psnr / 100}, conditions=conditions
    )


def test_few_values_are_points_of_their_own() -> None:
    scores = [
        scan(n, f"s{n // 3}", 30.0 + n % 3 + n // 3, acceleration=2.0 + n % 3, coils=8) for n in range(21)
    ]
    assert conditions_of(scores) == ["acceleration"]
    found = [one for one in points(scores, ["acceleration"]) if one.measure == "psnr"]
    assert [one.at for one in found] == [2, 3, 4]
    assert [one.mean for one in found] == pytest.approx([33, 34, 35])
    assert all(one.low is not None and one.low < one.mean for one in found)
    assert found[0].n_subjects == 7


def test_many_values_are_grouped_evenly_and_each_lies_in_one() -> None:
    rng = np.random.default_rng(0)
    scores = [scan(n, f"s{n}", 30.0, snr=float(rng.uniform(5, 100))) for n in range(40)]
    found = [one for one in points(scores, ["snr"]) if one.measure == "psnr"]
    assert sum(one.n_images for one in found) == 40
    assert len(found) == 6
    assert all(a.last < b.first for a, b in pairwise(found))


def test_groups_of_few_subjects_have_no_band() -> None:
    scores = [scan(n, f"s{n % 2}", 30.0 + n, snr=10.0 * (1 + n % 3)) for n in range(6)]
    found = points(scores, ["snr"])
    assert {one.low for one in found} == {None}
    figure = curve_figure(found, "snr")
    assert [axis.get_ylabel() for axis in figure.axes] == ["PSNR, dB", "SSIM"]
    assert len(figure.axes[0].lines[0].get_xdata()) == 3  # type: ignore[arg-type]


def test_images_of_unknown_people_are_in_no_curve() -> None:
    scores = [Score("net", str(n), {}, {"psnr": 30.0}, conditions={"snr": float(n)}) for n in range(4)]
    assert points(scores, ["snr"]) == []
