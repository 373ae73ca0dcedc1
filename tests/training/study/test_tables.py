"""What a comparison says, and what keeps it from meaning much."""

from __future__ import annotations

import pytest

from scanside_training.evaluation.paired import PairedDifference
from scanside_training.evaluation.scores import Score
from scanside_training.study.report import difference_cells
from scanside_training.study.seeds import SeedsInterval
from scanside_training.study.tables import Difference, corrected, over_both, over_subjects


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


def test_what_seeds_and_subjects_leave_open_is_no_difference() -> None:
    wide = SeedsInterval(1.0, -0.5, 2.5, 0.2, 2.0)
    narrow = SeedsInterval(1.0, 0.5, 1.5, 0.01, 9.0)
    first, second = (25.0, 25.1), (24.0, 24.1)
    verdicts = [
        Difference("one", "other", "psnr", first, second, 0.5, both=both).verdict for both in (wide, narrow)
    ]
    assert verdicts == ["better, within the interval", "better"]


def test_subjects_and_seeds_of_a_study() -> None:
    sides = [
        [of([base + seed, base + 1 + seed, base], [0] * 3, "aab")[0] for seed in (0.0, 0.2)]
        for base in (25.0, 24.0)
    ]
    assert over_both(sides, "psnr") is None  # two subjects
    many = [[of([base + n % 3 for n in range(8)], [0] * 8, "abcdefgh")[0]] * 2 for base in (25.0, 24.0)]
    found = over_both(many, "psnr")
    assert found is not None
    assert (found.mean, found.low, found.high) == (1, 1, 1)
    nobody = [[[Score("one", "0", {}, {"psnr": 25.0})]] * 2] * 2
    assert over_both(nobody, "psnr") is None


def of(first: list[float], second: list[float], subjects: str) -> list[list[Score]]:
    """Scores of both sides, an image of each subject."""
    sides: list[list[Score]] = []
    for name, values in (("one", first), ("other", second)):
        cases = zip(subjects, values, strict=True)
        sides.append(
            [Score(name, str(n), {"subject": who}, {"psnr": value}) for n, (who, value) in enumerate(cases)]
        )
    return sides


def test_differences_are_those_of_subjects() -> None:
    sides = of([26.0, 26, 28], [25.0, 25, 25], "aab")
    images = [[one.values["psnr"] for one in side] for side in sides]
    found = over_subjects(sides[0], images)
    assert found is not None
    assert found.mean == 2  # of a 1, of b 3
    assert (found.n_subjects, found.n_images) == (2, 3)


def test_images_of_unknown_people_have_no_interval() -> None:
    nobody = [Score("one", "0", {}, {"psnr": 25.0})]
    assert over_subjects(nobody, [[25.0], [24.0]]) is None


def test_comparisons_by_one_measure_are_corrected_together() -> None:
    def compared(measure: str, p: float | None) -> Difference:
        people = PairedDifference(1.0, None, None, p, 1.0, 8, 8)
        return Difference("one", "other", measure, (1.0,), (0.0,), 1.0, people)

    found = corrected(
        [compared("psnr", 0.01), compared("ssim", 0.04), compared("psnr", 0.03), compared("psnr", None)]
    )
    assert [one.p for one in found] == [pytest.approx(0.02), pytest.approx(0.04), pytest.approx(0.03), None]


def test_how_a_comparison_is_shown() -> None:
    people = PairedDifference(1.0, 0.4, 1.6, 0.01, 0.9, 8, 24)
    one = Difference("one", "other", "psnr", (25.0,), (24.0,), 0.9, people, 0.02)
    assert difference_cells(one)[2:5] == ["+1.00 ± 0.00", "+0.40 to +1.60 (8 subjects)", "0.02"]
    few = Difference(
        "one", "other", "psnr", (25.0,), (24.0,), 0.9, PairedDifference(1.0, None, None, None, 1, 3, 9)
    )
    assert difference_cells(few)[3:6] == ["– (3 subjects)", "–", "– (one seed)"]
    both = SeedsInterval(1.0, 0.2, 1.8, 0.03, 4.0)
    seeds = Difference("one", "other", "psnr", (25.0, 25.0), (24.0, 24.0), 0.9, people, 0.02, both)
    assert difference_cells(seeds)[5] == "+0.20 to +1.80"
