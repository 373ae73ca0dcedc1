"""Studies of painted images, without a reconstruction behind them, and their readers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside_training.config import read_settings
from scanside_training.readers.design import draw_plan
from scanside_training.readers.form import Form
from scanside_training.readers.images import greys_of
from scanside_training.readers.journal import ANSWERS
from scanside_training.readers.study import PreparedCase, ReaderStudy, StudyDocument, open_study, write_study

LIKERT: dict[str, Any] = {
    "name": "quality",
    "kind": "likert",
    "text": "How good is the image?",
    "labels": ["useless", "poor", "fair", "good", "excellent"],
}
YES_NO: dict[str, Any] = {
    "name": "artefacts",
    "kind": "yes-no",
    "text": "Are there artefacts?",
    "better": "low",
}
PREFERENCE: dict[str, Any] = {"name": "better", "kind": "preference", "text": "Which image do you prefer?"}
REMARK: dict[str, Any] = {"name": "remark", "kind": "text", "text": "Remarks"}

FORM: dict[str, Any] = {"title": "Sharp knees", "readers": ["anna", "ben"], "questions": [LIKERT, YES_NO]}

METHODS = ("wavelet-magic", "zerofill-plain", "netz-9000")
"""Names that are nowhere else."""


def form_of(**settings: Any) -> Form:
    """A form with other settings than `FORM`."""
    return read_settings(Form, {**FORM, **settings}, "form.yaml", "the form of a reader study")


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., ReaderStudy]:
    """Makes a prepared study; every method's images are a disc whose grey tells which method and case it is."""

    def make(
        form: Form | None = None,
        methods: tuple[str, ...] = METHODS[:2],
        n_cases: int = 4,
        n_frames: int = 1,
        subjects: Mapping[int, str] | None = None,
        size: tuple[int, int] = (40, 60),
    ) -> ReaderStudy:
        form, folder = form or form_of(), tmp_path / "study"
        (folder / "images").mkdir(parents=True)
        y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
        cases = {}
        for number in range(n_cases):
            images = {}
            shown = (*methods, "reference") if form.reference == "shown" else methods
            for place, name in enumerate(shown):
                film = np.stack([(np.hypot(x, y) < 0.8) * (0.2 + 0.1 * frame) for frame in range(n_frames)])
                film[:, 0, 0] = (1 + place + len(shown) * number) / 100
                images[name] = f"{100 * number + place:016x}"
                np.save(folder / "images" / f"{images[name]}.npy", greys_of(film, 1.0)[0])
            name = f"casus{number:02d}"
            cases[name] = PreparedCase(
                subject=(subjects or {}).get(number, f"subjekt{number}"), images=images
            )
        document = StudyDocument(
            scanside="0",
            form=form,
            evaluation={},
            methods=methods,
            cases=cases,
            plan=draw_plan(form, list(cases), methods),
            links={reader: f"link-of-{number}" for number, reader in enumerate(form.readers)},
        )
        write_study(folder, document)
        return open_study(folder)

    return make


def read_all(
    study: ReaderStudy,
    answer: Callable[[str, Any, str, int | None], Any],
    readers: tuple[str, ...] | None = None,
) -> None:
    """Let readers answer everything, ``answer(reader, trial, question, pane)``; the journal is written at once."""
    lines = []
    for reader in readers or study.form.readers:
        for number, trial in enumerate(study.trials(reader)):
            about = {"reader": reader, "trial": number, "time": 0.0}
            for question in study.form.questions:
                for pane in [None] if question.of == "pair" else range(len(trial.methods)):
                    value = answer(reader, trial, question.name, pane)
                    lines.append(
                        {"kind": "answer", **about, "question": question.name, "pane": pane, "value": value}
                    )
            lines.append({"kind": "finished", **about, "seconds": 2.0})
    (study.folder / ANSWERS).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
