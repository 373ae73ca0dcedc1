"""Answers are taken once, in their order, and are there again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.training.readers.conftest import LIKERT, PREFERENCE, REMARK, YES_NO, form_of

from scanside.errors import FileFormatError
from scanside_training.readers.journal import AnswerJournal
from scanside_training.readers.readings import LiveReadings, NotNow, Readings, WrongAnswer
from scanside_training.readers.study import ReaderStudy


@pytest.fixture
def study(make_study: Callable[..., ReaderStudy]) -> ReaderStudy:
    return make_study(form_of(questions=[LIKERT, YES_NO, REMARK]))


def live(study: ReaderStudy) -> LiveReadings:
    return LiveReadings(study, AnswerJournal(study.folder))


def test_a_reader_goes_on_where_it_stopped(study: ReaderStudy) -> None:
    readings = live(study)
    readings.answer("anna", 0, "quality", 0, 4)
    readings.answer("anna", 0, "artefacts", 0, "no")
    readings.finish("anna", 0, readings.current("anna")[1], 3.14159)
    readings.answer("anna", 1, "quality", 0, 2)
    readings.answer("ben", 0, "quality", 0, 1)
    again = live(study)
    assert again.current("anna") == (1, {("quality", 0): 2})
    assert again.current("ben") == (0, {("quality", 0): 1})
    found = Readings(study, study.answers()).by_reader["anna"]
    assert (found[0].seconds, found[1].seconds) == (3.14, None)
    assert found[0].answers == {("quality", 0): 4, ("artefacts", 0): "no"}


def test_the_last_answer_counts_until_the_trial_is_finished(study: ReaderStudy) -> None:
    readings = live(study)
    for value in (4, 4, 3):
        readings.answer("anna", 0, "quality", 0, value)
    assert len(study.answers()) == 2  # the same again is no new answer
    readings.answer("anna", 0, "artefacts", 0, "yes")
    with pytest.raises(NotNow, match="answered in another window"):
        readings.finish("anna", 0, {("quality", 0): 4, ("artefacts", 0): "yes"}, 1)
    readings.finish("anna", 0, {("quality", 0): 3, ("artefacts", 0): "yes"}, 1)
    for late in (0, 2):
        with pytest.raises(NotNow, match="were finished"):
            readings.answer("anna", late, "quality", 0, 5)
    with pytest.raises(NotNow):
        readings.finish("anna", 0, {("quality", 0): 3, ("artefacts", 0): "yes"}, 1)
    assert Readings(study, study.answers()).by_reader["anna"][0].answers["quality", 0] == 3


def test_what_is_no_answer(study: ReaderStudy) -> None:
    readings = live(study)
    for question, pane, value, said in (
        ("quality", 0, 9, "one of 1, 2, 3, 4, 5"),
        ("quality", 1, 3, "no question 'quality' of pane '1'"),
        ("quality", None, 3, "no question 'quality'"),
        ("quality", False, 3, "no question"),
        ("sharpness", 0, 3, "no question 'sharpness'"),
        ([], {}, None, "no question"),
    ):
        with pytest.raises(WrongAnswer, match=said):
            readings.answer("anna", 0, question, pane, value)
    with pytest.raises(WrongAnswer, match="not answered yet: quality, artefacts"):
        readings.finish("anna", 0, {}, 1)  # the remark may stay empty
    readings.answer("anna", 0, "quality", 0, 1)
    readings.answer("anna", 0, "artefacts", 0, "no")
    for seconds in (None, "1", float("nan"), True):
        with pytest.raises(WrongAnswer, match="'seconds' is a number"):
            readings.finish("anna", 0, readings.current("anna")[1], seconds)
    readings.finish("anna", 0, readings.current("anna")[1], -5)
    assert Readings(study, study.answers()).by_reader["anna"][0].seconds == 0


def test_pairs_are_asked_once_and_images_each(make_study: Callable[..., ReaderStudy]) -> None:
    study = make_study(form_of(mode="side-by-side", questions=[LIKERT, PREFERENCE]))
    readings = Readings(study)
    asked = [(one.name, pane) for one, pane in readings.asked(study.trials("anna")[0])]
    assert asked == [("quality", 0), ("quality", 1), ("better", None)]
    assert readings.missing("anna", 0) == ["quality", "quality", "better"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"reader": "zoe", "trial": 0}, "'zoe', who is no reader of this study; they are anna, ben"),
        ({"reader": "anna", "trial": 99}, "trial 99 of 8"),
        ({"reader": "anna", "trial": "1"}, "trial '1' of 8"),
        ({"reader": "anna", "trial": 0, "kind": "finished"}, "ends trial 0 of anna after None seconds"),
        (
            {"reader": "anna", "trial": 0, "question": "quality", "pane": 0, "value": 7},
            "trial 0: 'quality' is answered",
        ),
    ],
)
def test_a_journal_of_another_study(study: ReaderStudy, record: dict[str, object], said: str) -> None:
    AnswerJournal(study.folder).note(record)
    with pytest.raises(FileFormatError, match=said):
        live(study)


def test_threads_lose_nothing(study: ReaderStudy) -> None:
    readings = live(study)

    def answer(value: int) -> None:
        for _ in range(5):
            readings.answer("anna", 0, "quality", 0, value)
            readings.answer("ben", 0, "quality", 0, value)

    threads = [threading.Thread(target=answer, args=(1 + i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = live(study)
    for reader in ("anna", "ben"):
        assert again.current(reader) == readings.current(reader)


def test_an_answer_that_cannot_be_written_is_not_taken(
    study: ReaderStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = live(study)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scanside.append_log.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            readings.answer("anna", 0, "quality", 0, 4)
    assert readings.current("anna")[1] == {}
