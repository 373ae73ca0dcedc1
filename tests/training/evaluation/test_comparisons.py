"""Candidates against a reference: what is counted, what is concluded, and where nothing can be."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from scanside_training.evaluation.comparisons import (
    NonInferiorityConfig,
    comparisons,
    non_inferiority,
    unpaired,
)
from scanside_training.evaluation.scores import ALL, Score


def made(
    candidate: str, values: list[float], subjects: str, measure: str = "psnr", **strata: str
) -> list[Score]:
    return [
        Score(candidate, f"{n}", {"subject": who, **strata}, {measure: value})
        for n, (who, value) in enumerate(zip(subjects, values, strict=True))
    ]


REFERENCE = made("ref", [20.0] * 8, "abcdefgh")


def test_difference_is_over_subjects_and_tested_as_scipy_does() -> None:
    values = [20.5, 21, 20.2, 20.9, 20.4, 19.9, 20.7, 20.3]
    found = comparisons([*REFERENCE, *made("net", values, "abcdefgh")], "ref")
    (one,) = [each for each in found if each.stratum == ALL]
    differences = np.array(values) - 20
    assert one.people.mean == pytest.approx(differences.mean())
    assert one.p == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert one.share == 7 / 8
    assert one.people.low is not None
    assert 0 < one.people.low < one.people.mean


def test_all_candidates_are_corrected_together() -> None:
    better, mixed = [20 + 0.1 * n for n in range(1, 9)], [20 + (-1.0) ** n * n for n in range(1, 9)]
    one, two = comparisons(
        [*REFERENCE, *made("one", better, "abcdefgh"), *made("two", mixed, "abcdefgh")], "ref"
    )
    assert one.p == pytest.approx(2 * 2 / 2**8)
    assert two.p == pytest.approx(two.people.p)


def test_a_smaller_error_is_better() -> None:
    scores = made("ref", [0.2] * 6, "abcdef", "nmse") + made("net", [0.1] * 6, "abcdef", "nmse")
    (one,) = comparisons(scores, "ref")
    assert one.share == 1
    assert one.people.mean == pytest.approx(-0.1)


def test_candidates_on_different_cases_share_some_or_none() -> None:
    half = [one for one in made("half", [21.0] * 8, "abcdefgh") if int(one.case) < 6]
    none = [Score("none", f"x{n}", {"subject": "a"}, {"psnr": 1.0}) for n in range(2)]
    found = comparisons([*REFERENCE, *half, *none], "ref")
    assert [(one.candidate, one.people.n_images) for one in found] == [("half", 6)]
    told = unpaired([*REFERENCE, *half, *none], "ref")
    assert told[0] == "half made 6 images, and ref 8: they are compared on the 6 that both made"
    assert told[1].endswith("they are compared on none, as both made none of the same")


def test_a_stratum_with_one_subject_has_no_interval() -> None:
    scores = []
    for name, psnr in (("ref", 20.0), ("net", 21.0)):
        for n, who in enumerate("abcdefgh"):
            strata = {"subject": who, "coils": "32" if who == "a" else "8"}
            scores.append(Score(name, str(n), strata, {"psnr": psnr}))
    found = {one.value: one for one in comparisons(scores, "ref")}
    assert found["8"].people.low == 1
    assert (found["32"].people.n_subjects, found["32"].people.low, found["32"].p) == (1, None, None)


def test_unknown_people_and_few_of_them_are_told() -> None:
    scores = made("ref", [20.0] * 3, "abc") + made("net", [21.0] * 3, "abc")
    assert unpaired(scores, "ref") == ["3 subject(s): no interval and no test, for which 6 are needed"]
    nobody = [Score(name, "0", {}, {"psnr": 20.0}) for name in ("ref", "net")]
    assert comparisons(nobody, "ref") == []
    assert "do not say whose" in unpaired(nobody, "ref")[0]
    assert "made no image" in unpaired(nobody, "other")[0]


def test_equal_images_have_no_difference_of_psnr() -> None:
    scores = made("ref", [float("inf")] + [20.0] * 6, "abcdefg") + made(
        "net", [float("inf")] + [21.0] * 6, "abcdefg"
    )
    (one,) = comparisons(scores, "ref")
    assert one.people.n_images == 6


@pytest.mark.parametrize(("margin", "verdict"), [(0.5, "not inferior"), (0.1, "not shown")])
def test_non_inferiority_goes_by_the_lower_bound(margin: float, verdict: str) -> None:
    values = [20 - 0.2 + 0.1 * n for n in (-1, 1, 0, -2, 2, 0, 1, -1)]
    config = NonInferiorityConfig(against="ref", margin=margin)
    (one,) = non_inferiority([*REFERENCE, *made("net", values, "abcdefgh")], config)
    assert one.bound is not None
    assert -0.5 < one.bound < one.mean == pytest.approx(-0.2)
    assert one.verdict == verdict
    loose = NonInferiorityConfig(against="ref", margin=margin, level=0.95)
    (other,) = non_inferiority([*REFERENCE, *made("net", values, "abcdefgh")], loose)
    assert other.bound is not None
    assert other.bound > one.bound


def test_non_inferiority_of_errors_and_of_few() -> None:
    scores = made("ref", [0.2] * 6, "abcdef", "nmse")
    scores += made("net", [0.1, 0.11, 0.1, 0.12, 0.1, 0.1], "abcdef", "nmse")
    config = NonInferiorityConfig(against="ref", measure="nmse", margin=0.01)
    (one,) = non_inferiority(scores, config)
    assert one.mean > 0
    assert one.verdict == "not inferior"
    (few,) = non_inferiority([one for one in scores if one.subject in "abc"], config)
    assert few.verdict == "3 subjects: no verdict"


@pytest.mark.parametrize("margin", [-0.5, 0.0])
def test_a_margin_of_the_wrong_sign(margin: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        NonInferiorityConfig(against="ref", margin=margin)
