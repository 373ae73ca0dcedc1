"""Whether checks without the truth decide as the truth does."""

from __future__ import annotations

from collections.abc import Sequence

from scanside_training.evaluation.floor import FloorConfig
from scanside_training.evaluation.floor_report import floor_sections
from scanside_training.evaluation.scores import Score
from scanside_training.evaluation.self_checks import Decisions, decisions

FLOOR = FloorConfig(learned=("net", "other"), classical=("fft", "sense"))


def made(candidate: str, case: str, psnr: float, *check: str, **told: Sequence[str]) -> Score:
    values = {"psnr": psnr, "psnr_inside": psnr, "ssim_inside": 0.9}
    return Score(candidate, case, {}, values, told={**told, **({"check": check} if check else {})})


def scan(case: str, net: float, fft: float, sense: float, *check: str, **told: Sequence[str]) -> list[Score]:
    return [made("fft", case, fft), made("sense", case, sense), made("net", case, net, *check, **told)]


SCORES = [
    *scan("right", 31, 25, 30, "better", "+2.00 dB", "sense", "8 unseen lines"),
    *scan("undecided", 31, 25, 30, "undecided", "+0.10 dB", "sense", "8 unseen lines"),
    *scan("caught", 28, 25, 30, "worse", "-1.00 dB", "sense", "8 unseen lines"),
    *scan("missed", 28, 25, 30, "better", "+1.00 dB", "sense", "8 unseen lines"),
    *scan("false alarm", 31, 25, 30, "worse", "-1.00 dB", "sense", "8 unseen lines"),
    *scan("alike", 30.2, 25, 30, "worse", "-0.20 dB", "sense", "8 unseen lines"),
    # Against zeros it is the image without maps that counts.
    *scan("nothing", 20, 25, 19, "worse than nothing", "-3.00 dB", "sense", "8 unseen lines"),
    *scan("not checked", 31, 25, 30, "none", "there are no lines to leave out"),
    *scan("not there", 30, 25, 30, "worse", "-1.00 dB", "sense", "8 unseen lines", fallback=["sense"]),
]


def test_the_better_image_would_go_out() -> None:
    (found,) = decisions(SCORES, FLOOR)
    assert found == Decisions("net", 7, 6, 4, ("missed", "false alarm"), 4)


def test_the_report_says_so() -> None:
    titles = [section.title for section in floor_sections(SCORES, FLOOR, [])]
    assert "Self-check" in titles
    unchecked = [one for one in SCORES if not one.told]
    assert "Self-check" not in [section.title for section in floor_sections(unchecked, FLOOR, [])]
