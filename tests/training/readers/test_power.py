"""Power as by the normal approximation where that holds, and lower where it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scipy import stats
from tests.training.readers.conftest import LIKERT, METHODS, form_of

from scanside_training.readers.form import PowerConfig
from scanside_training.readers.power import estimate_power, noninferiority_power
from scanside_training.readers.study import ReaderStudy


@pytest.mark.parametrize(("margin", "effect"), [(0.1, 0.0), (0.15, 0.0), (0.2, -0.05), (0.1, 0.05)])
def test_many_readers_and_subjects(margin: float, effect: float) -> None:
    assumed = PowerConfig(sd=0.8, sd_cases=0.3, sd_readers=0.2, effect=effect)
    error = (0.3**2 / 40 + 0.2**2 / 30 + 0.8**2 / 1200) ** 0.5
    expected = stats.norm.cdf((margin + effect) / error - stats.norm.ppf(0.975))
    assert noninferiority_power(assumed, margin, 30, 40) == pytest.approx(expected, abs=0.03)


def test_one_reader_is_a_t_test() -> None:
    expected = stats.nct.sf(stats.t.ppf(0.975, 19), 19, 0.5 / (0.8 / 20**0.5))
    assert noninferiority_power(PowerConfig(sd=0.8), 0.5, 1, 20) == pytest.approx(expected, abs=0.025)


def test_few_readers_show_less() -> None:
    assumed = PowerConfig(sd=0.8, sd_readers=0.3)
    two, four = (noninferiority_power(assumed, 0.5, n, 30) for n in (2, 4))
    assert two < 0.5 < four
    # A method that is worse by just the margin is taken for one that is not, at most as often as allowed.
    assert noninferiority_power(PowerConfig(sd=0.8, sd_readers=0.3, effect=-0.5), 0.5, 4, 30) < 0.04


def test_what_a_form_assumes_is_told(make_study: Callable[..., ReaderStudy]) -> None:
    wanted = {"control": METHODS[0], "margin": 0.5, "power": {"sd": 0.5}}
    study = make_study(form_of(questions=[LIKERT | {"noninferiority": wanted}]), n_cases=8)
    (power,) = estimate_power(study)
    assert power.text.startswith("quality: ")
    assert f"no worse than {METHODS[0]} by 0.5 (2 reader(s), 8 subjects)" in power.text
    assert power.power == noninferiority_power(PowerConfig(sd=0.5), 0.5, 2, 8)


def test_one_subject_shows_nothing(make_study: Callable[..., ReaderStudy]) -> None:
    wanted = {"control": METHODS[0], "margin": 0.5, "power": {"sd": 0.5}}
    form = form_of(questions=[LIKERT | {"noninferiority": wanted}])
    (power,) = estimate_power(make_study(form, n_cases=2, subjects={0: "p", 1: "p"}))
    assert power.power is None
    assert "all cases are of one subject" in power.text
