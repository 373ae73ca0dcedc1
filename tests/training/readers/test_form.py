"""Forms that can be used, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.readers.conftest import LIKERT, METHODS, PREFERENCE, REMARK, YES_NO, form_of

from scanside.errors import ConfigError
from scanside_training.readers.form import LONGEST_TEXT, Scored, check_methods, load_form

EXAMPLE = Path(__file__).resolve().parents[3] / "training" / "configs" / "readers.yaml"
CONTROL = {"control": METHODS[1], "margin": 0.5}


def test_example_can_be_used() -> None:
    form = load_form(EXAMPLE)
    assert {one.kind for one in form.questions} >= {"likert", "yes-no", "text"}
    assert any(
        isinstance(one, Scored) and one.noninferiority and one.noninferiority.power for one in form.questions
    )
    assert load_form(EXAMPLE, {"seed": 99}).seed == 99


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"questions": [LIKERT | {"kind": "stars"}]},
            r"questions\[0\].*'stars'.*'likert', 'yes-no', 'choice'",
        ),
        (
            {"questions": [LIKERT | {"labels": ["good"]}]},
            r"questions\[0\]\.labels.*a scale has 2 to 9 steps, not 1",
        ),
        ({"questions": [LIKERT | {"labels": ["good", "good"]}]}, "two steps read the same"),
        (
            {"questions": [{"name": "a", "kind": "choice", "text": "?", "choices": ["b"]}]},
            "2 to 9 answers, not 1",
        ),
        (
            {"questions": [LIKERT | {"noninferiority": CONTROL | {"margin": -0.5}}]},
            r"noninferiority\.margin = -0\.5: .*give it above 0",
        ),
        ({"questions": [LIKERT | {"noninferiority": CONTROL | {"margin": 0}}]}, "give it above 0"),
        ({"questions": [LIKERT, LIKERT]}, "questions of the same name: quality"),
        ({"questions": []}, "questions"),
        ({"questions": [LIKERT | {"txt": "?"}]}, r"no setting 'txt' \(did you mean 'text'\?\)"),
        ({"readers": ["anna", "anna"]}, "readers of the same name: anna"),
        ({"readers": ["../x"]}, r"readers\[0\]"),
        ({"readers": []}, "readers"),
        ({"questions": [PREFERENCE]}, "better: asked of pairs.*mode: side-by-side"),
        ({"mode": "side-by-side", "questions": [PREFERENCE | {"of": "image"}]}, "leave 'of' out"),
        ({"pairs_with": "x"}, "pairs_with chooses pairs"),
        (
            {"mode": "side-by-side", "questions": [LIKERT | {"of": "pair", "noninferiority": CONTROL}]},
            "this is asked of pairs",
        ),
        ({"repeats": 1.5}, "repeats = 1.5"),
    ],
)
def test_form_that_cannot_be_used(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        form_of(**settings)


def test_methods_that_do_not_fit() -> None:
    pairs = form_of(mode="side-by-side", questions=[PREFERENCE])
    check_methods(pairs, METHODS)
    with pytest.raises(ConfigError, match="needs two methods, and there is wavelet-magic"):
        check_methods(pairs, METHODS[:1])
    with pytest.raises(ConfigError, match=r"pairs_with is 'grappa', and the methods are wavelet-magic"):
        check_methods(form_of(mode="side-by-side", pairs_with="grappa"), METHODS)
    with pytest.raises(ConfigError, match=r"noninferiority\.control of 'quality' is 'grappa'"):
        check_methods(
            form_of(questions=[LIKERT | {"noninferiority": CONTROL | {"control": "grappa"}}]), METHODS
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"title": "Is Wavelet-Magic better?"},
        {"instructions": "Netz-9000, and others"},
        {"questions": [LIKERT | {"text": "zerofill-plain?"}]},
        {"questions": [LIKERT | {"labels": ["like netz-9000", "other"]}]},
    ],
)
def test_form_that_tells_a_method(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="readers must not know the methods"):
        check_methods(form_of(**settings), METHODS)
    check_methods(form_of(title="netz-90001"), METHODS)


def test_answers_of_each_kind() -> None:
    form = form_of(mode="side-by-side", questions=[LIKERT, YES_NO, PREFERENCE, REMARK])
    quality, artefacts, better, remark = form.questions
    assert quality.check(5) == 5
    assert isinstance(quality, Scored)
    assert isinstance(artefacts, Scored)
    assert (quality.number(4), artefacts.number("yes"), artefacts.number("no")) == (4, 1, 0)
    assert [value for value, _ in better.options] == ["left", "same", "right"]
    assert remark.check("") == ""
    for question, wrong in (
        (quality, 6),
        (quality, 0),
        (quality, True),
        (quality, "3"),
        (quality, 3.0),
        (quality, None),
        (artefacts, "maybe"),
        (better, METHODS[0]),
        (remark, 3),
        (remark, "x" * (LONGEST_TEXT + 1)),
    ):
        with pytest.raises(ValueError, match=question.name):
            question.check(wrong)
    strict = form_of(mode="side-by-side", questions=[PREFERENCE | {"ties": False}]).questions[0]
    with pytest.raises(ValueError, match="one of left, right"):
        strict.check("same")
