"""Where each reader stands, and what was answered: the journal, played from its beginning."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

from scanside.errors import FileFormatError
from scanside_training.readers.design import Trial
from scanside_training.readers.form import AnyQuestion, FreeText, Value
from scanside_training.readers.journal import AnswerJournal
from scanside_training.readers.study import ReaderStudy

__all__ = ["Asked", "LiveReadings", "NotNow", "Reading", "Readings", "WrongAnswer"]

Asked = tuple[str, int | None]
"""A question's name, and the pane that it is asked of; None of the pair."""

_LONGEST_SECONDS = 86_400.0


class NotNow(Exception):
    """What came is about a trial that is over, or was answered otherwise in another window."""


class WrongAnswer(ValueError):
    """What came is no answer to what is asked."""


@dataclass
class Reading:
    """A trial of a reader.

    Attributes:
        answers: by question and pane; the last of several.
        seconds: how long the images were on the screen; None as long as the reader is at it.
    """

    answers: dict[Asked, Value] = field(default_factory=dict)
    seconds: float | None = None


class Readings:
    """The readings of a study.

    Args:
        study: that is read.
        records: lines of its journal.

    Raises:
        FileFormatError: a line is about a reader, a trial or a question that the study has not.
    """

    def __init__(self, study: ReaderStudy, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.study = study
        self.by_reader: dict[str, list[Reading]] = {
            reader: [Reading() for _ in study.trials(reader)] for reader in study.form.readers
        }
        for record in records:
            self._play(record)

    def current(self, reader: str) -> int:
        """Number of the reader's trial that is not finished; that of all trials when all are."""
        readings = self.by_reader[reader]
        return next((i for i, one in enumerate(readings) if one.seconds is None), len(readings))

    def asked(self, trial: Trial) -> list[tuple[AnyQuestion, int | None]]:
        """All that is asked of a trial: what is asked of images once for each."""
        found: list[tuple[AnyQuestion, int | None]] = []
        for question in self.study.form.questions:
            panes = [None] if question.of == "pair" else range(len(trial.methods))
            found += [(question, pane) for pane in panes]
        return found

    def missing(self, reader: str, trial: int) -> list[str]:
        """Names of what a reader has still to answer; remarks may stay empty."""
        answers = self.by_reader[reader][trial].answers
        asked = self.asked(self.study.trials(reader)[trial])
        return [
            one.name
            for one, pane in asked
            if not isinstance(one, FreeText) and (one.name, pane) not in answers
        ]

    def checked(
        self, reader: str, trial: int, question: object, pane: object, value: object
    ) -> tuple[Asked, Value]:
        """An answer, if it is one.

        Raises:
            WrongAnswer: it is none.
        """
        for one, place in self.asked(self.study.trials(reader)[trial]):
            if one.name == question and place == pane and type(place) is type(pane):
                try:
                    return (one.name, place), one.check(value)
                except ValueError as error:
                    raise WrongAnswer(str(error)) from error
        raise WrongAnswer(f"there is no question {str(question)[:80]!r} of pane {str(pane)[:20]!r}")

    def _play(self, record: Mapping[str, Any]) -> None:
        reader, trial = record.get("reader"), record.get("trial")
        if reader not in self.by_reader:
            raise FileFormatError(
                f"the journal has answers of {str(reader)[:80]!r}, who is no reader of this study; they are "
                f"{', '.join(self.by_reader)}"
            )
        readings = self.by_reader[reader]
        if type(trial) is not int or not 0 <= trial < len(readings):
            raise FileFormatError(
                f"the journal has an answer of {reader} to trial {trial!r} of {len(readings)}"
            )
        if record.get("kind") == "finished":
            seconds = record.get("seconds")
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise FileFormatError(f"the journal ends trial {trial} of {reader} after {seconds!r} seconds")
            readings[trial].seconds = float(seconds)
            return
        try:
            asked, value = self.checked(
                reader, trial, record.get("question"), record.get("pane"), record.get("value")
            )
        except WrongAnswer as error:
            raise FileFormatError(
                f"the journal has an answer of {reader} to trial {trial}: {error}"
            ) from error
        readings[trial].answers[asked] = value


class LiveReadings:
    """Takes answers: into the journal first, then into the readings. Several threads may ask.

    Args:
        study: that is read.
        journal: of its folder.

    Raises:
        FileFormatError: the journal is not one of this study.
    """

    def __init__(self, study: ReaderStudy, journal: AnswerJournal) -> None:
        self._readings = Readings(study, journal.records)
        self._journal = journal
        self._lock = threading.Lock()

    def current(self, reader: str) -> tuple[int, dict[Asked, Value]]:
        """The reader's trial, and what is answered of it so far."""
        with self._lock:
            number = self._readings.current(reader)
            readings = self._readings.by_reader[reader]
            return number, dict(readings[number].answers) if number < len(readings) else {}

    def answer(self, reader: str, trial: int, question: object, pane: object, value: object) -> None:
        """Take an answer; it is on the disk when this returns.

        Raises:
            NotNow: the reader is not at this trial.
            WrongAnswer: it is none.
            OSError: it could not be written.
        """
        with self._lock:
            self._expect(reader, trial)
            asked, checked = self._readings.checked(reader, trial, question, pane, value)
            if self._readings.by_reader[reader][trial].answers.get(asked) == checked:
                return
            self._note("answer", reader, trial, question=asked[0], pane=asked[1], value=checked)
            self._readings.by_reader[reader][trial].answers[asked] = checked

    def finish(self, reader: str, trial: int, answers: Mapping[Asked, Value], seconds: object) -> None:
        """End a trial, whose answers stand from then on.

        Args:
            reader: who.
            trial: which.
            answers: that the reader saw when ending it.
            seconds: how long the images were on the screen.

        Raises:
            NotNow: the reader is not at this trial, or its answers are others.
            WrongAnswer: one is missing, or the time is none.
            OSError: it could not be written.
        """
        with self._lock:
            self._expect(reader, trial)
            if missing := self._readings.missing(reader, trial):
                raise WrongAnswer(f"not answered yet: {', '.join(dict.fromkeys(missing))}")
            if dict(answers) != self._readings.by_reader[reader][trial].answers:
                raise NotNow("these images were answered in another window")
            if (
                isinstance(seconds, bool)
                or not isinstance(seconds, int | float)
                or not math.isfinite(seconds)
            ):
                raise WrongAnswer("'seconds' is a number")
            spent = round(min(max(float(seconds), 0.0), _LONGEST_SECONDS), 2)
            self._note("finished", reader, trial, seconds=spent)
            self._readings.by_reader[reader][trial].seconds = spent

    def _expect(self, reader: str, trial: int) -> None:
        if trial != self._readings.current(reader):
            raise NotNow("these images were finished, perhaps in another window")

    def _note(self, kind: str, reader: str, trial: int, **facts: Any) -> None:
        self._journal.note(
            {"kind": kind, "time": round(time(), 3), "reader": reader, "trial": trial, **facts}
        )
