"""Which learned images lie below the classical ones of the same scan, and whether that is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from scanside_training.evaluation.floor import FloorConfig, Verdict, grouped, verdicts, worst_cases
from scanside_training.evaluation.floor_report import floor_json, floor_sections, share_cells
from scanside_training.evaluation.scores import Score

FLOOR = FloorConfig(learned=("net",), classical=("fft", "sense"), tuned="wavelet")


def made(candidate: str, case: str, psnr: float, inside: float = 20.0, **told: Sequence[str]) -> Score:
    values = {"psnr": psnr, "psnr_inside": inside, "ssim_inside": inside / 100}
    return Score(candidate, case, {"coils": case[0]}, values, told=told)


SCORES = [
    # A scan where the network wins.
    *(made("net", "8a", 31), made("fft", "8a", 25), made("sense", "8a", 30), made("wavelet", "8a", 30.5)),
    # It loses to the zero-filled image by 2 dB, and says nothing that a classical one does not say, too.
    *(
        made("net", "8b", 28, warning=["no noise"]),
        made("fft", "8b", 30),
        made("sense", "8b", 27, warning=["no noise"]),
    ),
    # It loses by 1 dB, and says so.
    *(made("net", "1a", 29, 18, fitness=["1 coil"]), made("fft", "1a", 30, 19), made("sense", "1a", 28, 21)),
    # It is level within the margin.
    *(made("net", "1b", 29.95, fallback=["sense"]), made("sense", "1b", 30)),
    # There is nothing to compare with.
    made("net", "1c", 1),
]


@pytest.fixture
def found() -> dict[str, Verdict]:
    return {one.case: one for one in verdicts(SCORES, FLOOR)}


def test_the_floor_is_the_best_classical_image_of_each_scan(found: dict[str, Verdict]) -> None:
    assert list(found) == ["8a", "8b", "1a", "1b"]
    assert [one.classical for one in found.values()] == ["sense", "fft", "fft", "sense"]
    assert found["8a"].over_classical["psnr"] == 1
    assert found["8a"].over_tuned["psnr"] == 0.5
    # By each measure its own: inside the object SENSE is the better one here.
    assert found["1a"].over_classical["psnr_inside"] == -3
    assert not found["8b"].over_tuned
    assert [one.is_worse for one in found.values()] == [False, True, True, False]


def test_what_classical_images_say_too_tells_nothing(found: dict[str, Verdict]) -> None:
    assert not found["8b"].told
    assert found["1a"].told == {"fitness": ("1 coil",)}
    assert [one.is_told for one in found.values()] == [False, False, True, True]
    assert found["1b"].is_fallback
    # A figure in the meta warns of nothing.
    (checked,) = verdicts([made("net", "1", 1, check=["-3 dB"]), made("fft", "1", 2)], FLOOR)
    assert checked.told
    assert not checked.is_told


def test_shares_by_level() -> None:
    groups = {(one.stratum, one.value): one for one in grouped(verdicts(SCORES, FLOOR), SCORES)}
    assert share_cells(groups["", ""]) == ["4", "2 (50 %)", "1", "1", "1"]
    assert share_cells(groups["coils", "8"]) == ["2", "1 (50 %)", "0", "1", "0"]
    assert share_cells(groups["coils", "1"]) == ["2", "1 (50 %)", "1", "0", "1"]
    mean, deviation, n = groups["coils", "8"].difference("classical", "psnr") or (0, 0, 0)
    assert (mean, n) == (-0.5, 2)
    assert deviation == pytest.approx(1.5 * 2**0.5)
    assert groups["coils", "1"].difference("tuned", "psnr") is None


def test_the_worst_come_first_with_what_they_are_shown_beside() -> None:
    config = FLOOR.model_copy(update={"worst": 2})
    assert worst_cases(verdicts(SCORES, config), config) == {
        "8b": ("net", "fft", "wavelet"),
        "1a": ("net", "fft", "wavelet"),
    }


def test_as_json_and_in_the_report() -> None:
    told = floor_json(SCORES, FLOOR)
    assert told["groups"][0]["n_untold"] == 1
    assert len(told["verdicts"]) == 4
    titles = [section.title for section in floor_sections(SCORES, FLOOR, [])]
    assert titles[:2] == ["Learned against classical", "Learned against classical, by level"]
    assert floor_sections([], FLOOR, []) == []
