"""A reader study in its folder: images that are made once, what is shown to whom, and what was answered.

::

    FOLDER/
    ├── study.json       form, methods, who sees what in which order, the readers' links; readable by its owner only
    ├── images/          16-bit arrays under names that tell nothing
    ├── answers.jsonl    every answer
    └── results/         what came out
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from scanside._version import __version__
from scanside.errors import ConfigError, FileFormatError
from scanside.many.work import reason
from scanside.metrics import Real
from scanside.storage import naming_disk
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case, spread
from scanside_training.evaluation.config import EvaluationConfig
from scanside_training.evaluation.failures import UNUSABLE
from scanside_training.evaluation.leaks import seen_by
from scanside_training.evaluation.pictures import as_reference
from scanside_training.evaluation.run import Evaluation, check_candidates, opened
from scanside_training.readers.design import Trial, draw_plan
from scanside_training.readers.form import REFERENCE, Form, check_methods
from scanside_training.readers.images import brightness_of, greys_of
from scanside_training.readers.journal import FolderLock, read_answers

__all__ = ["STUDY", "PreparedCase", "ReaderStudy", "StudyDocument", "open_study", "prepare", "write_study"]

logger = logging.getLogger(__name__)

STUDY = "study.json"
_IMAGES = "images"

Progress = Callable[[int, "int | None"], None]
_FileName = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class PreparedCase(Settings):
    """A case that is read."""

    subject: str
    """Whose it is: what is compared are subjects."""
    images: dict[str, _FileName]
    """Files by method, the reference among them where it is shown."""


class StudyDocument(Settings):
    """What `STUDY` holds."""

    scanside: str
    notice: str = "Research use only"
    form: Form
    evaluation: dict[str, Any]
    methods: tuple[str, ...]
    cases: dict[str, PreparedCase]
    plan: dict[str, tuple[Trial, ...]]
    links: dict[str, str]
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReaderStudy:
    """A prepared study.

    Attributes:
        folder: where it is.
        document: what was written down when it was prepared.
    """

    folder: Path
    document: StudyDocument

    @property
    def form(self) -> Form:
        """As it was when the study was prepared: what was not asked then is not asked now."""
        return self.document.form

    @property
    def methods(self) -> tuple[str, ...]:
        """All that is rated."""
        return self.document.methods

    @property
    def cautions(self) -> tuple[str, ...]:
        """What whoever reads the results should know."""
        return self.document.cautions

    def trials(self, reader: str) -> tuple[Trial, ...]:
        """What a reader sees, in order.

        Raises:
            ConfigError: there is no such reader.
        """
        if reader not in self.document.plan:
            raise ConfigError(
                f"'{reader}' is no reader of this study; they are {', '.join(self.form.readers)}"
            )
        return self.document.plan[reader]

    def subject(self, case: str) -> str:
        """Whose a case is."""
        return self.document.cases[case].subject

    @cached_property
    def readers(self) -> dict[str, str]:
        """Readers by what their link ends in."""
        return {link: reader for reader, link in self.document.links.items()}

    def link(self, reader: str) -> str:
        """The secret that a reader's link ends in.

        Raises:
            ConfigError: there is no such reader.
        """
        self.trials(reader)
        return self.document.links[reader]

    def panes(self, trial: Trial) -> tuple[str, ...]:
        """The methods of the images that are shown in a trial, from left to right; the reference comes last."""
        return (*trial.methods, *((REFERENCE,) if self.form.reference == "shown" else ()))

    def image(self, case: str, method: str) -> npt.NDArray[np.uint16]:
        """``(frame, y, x)`` of a method.

        Raises:
            FileFormatError: its file is damaged.
        """
        path = self.folder / _IMAGES / f"{self.document.cases[case].images[method]}.npy"
        try:
            found: npt.NDArray[np.uint16] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FileFormatError(f"{path} is damaged: {error}. Prepare the study again elsewhere") from error
        if found.dtype != np.uint16 or found.ndim != 3:
            raise FileFormatError(f"{path} holds {found.dtype} {found.shape}, not frames of uint16")
        return found

    def answers(self) -> list[dict[str, Any]]:
        """The journal's lines so far."""
        return read_answers(self.folder)


def open_study(folder: Path) -> ReaderStudy:
    """Open a study that was prepared.

    Raises:
        ConfigError: there is none.
        FileFormatError: it is damaged.
    """
    path = folder / STUDY
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} holds no reader study ({STUDY}): prepare one by 'scanside evaluate CONFIG --readers FORM'"
        ) from None
    try:
        return ReaderStudy(folder, StudyDocument.model_validate_json(text))
    except ValidationError as error:
        raise FileFormatError(f"{path} is no reader study: {error.errors()[0]['msg']}") from error


def prepare(
    config: EvaluationConfig,
    form: Form,
    folder: Path,
    *,
    on_progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> ReaderStudy:
    """Make all images of a study and lay down who sees them when. What is prepared already is opened.

    A case that a method cannot reconstruct is read by nobody, as comparisons are of the same cases.

    Args:
        config: data and candidates.
        form: readers and questions.
        folder: of the study; made where it is missing.
        on_progress: told how many cases are made, and how many there are to make.

    Raises:
        ConfigError: form and candidates do not fit, a candidate cannot be opened, no case is left, the folder holds
            another study, or another process has it.
        RunError: the folder cannot be written.
        ScansideError: the data cannot be read.
    """
    check_candidates(config)
    names = [one.name or one.label for one in config.candidates]
    if REFERENCE in names and form.reference != "none":
        raise ConfigError(
            f"a candidate is named '{REFERENCE}', as the fully sampled image is: name it otherwise"
        )
    methods = [*names, *([REFERENCE] if form.reference == "rated" else [])]
    check_methods(form, methods)
    with naming_disk(folder, "the reader study was not prepared"), FolderLock(folder):
        if (folder / STUDY).exists():
            return _prepared_before(folder, config, form)
        shutil.rmtree(folder / _IMAGES, ignore_errors=True)  # of a preparation that was cut off
        (folder / _IMAGES).mkdir()
        cases, cautions = _make(config, form, folder, on_progress)
        document = StudyDocument(
            scanside=__version__,
            form=form,
            evaluation=config.model_dump(mode="json"),
            methods=tuple(methods),
            cases=cases,
            plan=draw_plan(form, list(cases), methods),
            links={reader: secrets.token_urlsafe(24) for reader in form.readers},
            cautions=tuple(cautions),
        )
        write_study(folder, document)
    return ReaderStudy(folder, document)


def write_study(folder: Path, document: StudyDocument) -> None:
    """Write what a study is, whole or not at all, into a file that only its owner can read."""
    fresh = folder / f"{STUDY}.new"
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(document.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / STUDY)


def _prepared_before(folder: Path, config: EvaluationConfig, form: Form) -> ReaderStudy:
    study = open_study(folder)
    for what, then, now in (
        ("form", study.form.model_dump(mode="json"), form.model_dump(mode="json")),
        ("evaluation", study.document.evaluation, config.model_dump(mode="json")),
    ):
        if changed := [name for name in now if then.get(name) != now[name]]:
            raise ConfigError(
                f"the study in {folder} was prepared with another {what} ({', '.join(changed)}): what is asked and "
                "shown stays as it was written down before the first reading. Name another folder by --output, or go "
                f"on with 'scanside readers serve {folder}'"
            )
    return study


def _make(
    config: EvaluationConfig, form: Form, folder: Path, on_progress: Progress
) -> tuple[dict[str, PreparedCase], list[str]]:
    """The images of all cases, and what should be known of them."""
    result = Evaluation(config)
    candidates = opened(config, result)
    if result.failures:
        failed = "; ".join(f"{one.candidate}: {one.reason}" for one in result.failures)
        raise ConfigError(f"every method is read of every case, and these cannot be opened: {failed}")
    seen = {one.name or one.label: seen_by(one) for one in config.candidates}
    cases = config.data.open()
    chosen = sorted(spread(len(cases), len(cases) if form.cases is None else min(form.cases, len(cases))))
    if form.cases is not None and len(chosen) < form.cases:
        raise ConfigError(f"the form asks for {form.cases} cases, and the data hold {len(chosen)}")
    made: dict[str, PreparedCase] = {}
    cautions: list[str] = []
    learned: dict[str, int] = {}
    on_progress(0, len(chosen))
    for done, number in enumerate(chosen, 1):
        case = cases[number]
        images = {REFERENCE: case.whole} if form.reference != "none" else {}
        try:
            for name, candidate in candidates.items():
                images[name] = as_reference(candidate.job(case)().detach().cpu().numpy(), case.whole)
        except UNUSABLE as error:
            logger.debug("%s", case.name, exc_info=True)
            cautions.append(f"case {case.name} is not read: {name} cannot reconstruct it: {reason(error)}")
        else:
            made[case.name] = _written(case, images, folder, cautions)
            for name in candidates:
                learned[name] = learned.get(name, 0) + bool(case.identities & seen[name])
        on_progress(done, len(chosen))
    if not made:
        raise ConfigError(f"no case is left to be read: {cautions[0]}")
    cautions += [
        f"{name} was trained on subjects of {n} of these {len(made)} cases: readers judge what it remembers"
        for name, n in learned.items()
        if n
    ]
    return made, cautions


def _written(case: Case, images: dict[str, Real], folder: Path, cautions: list[str]) -> PreparedCase:
    brightness = brightness_of(case.whole)
    files = {}
    for name, image in images.items():
        files[name] = secrets.token_hex(8)
        greys, n_lost = greys_of(image, brightness)
        if n_lost:
            cautions.append(
                f"case {case.name}, {name}: {n_lost} pixel(s) above four times white are shown as just that bright"
            )
        np.save(folder / _IMAGES / f"{files[name]}.npy", greys)
    return PreparedCase(subject=case.strata.get("subject", case.name), images=files)
