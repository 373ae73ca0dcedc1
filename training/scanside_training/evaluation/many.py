"""The same comparison by many workers: each image of each candidate is a task of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import torch

from scanside._version import __version__
from scanside.engines.catalog import find_bundle
from scanside.engines.manifest import MANIFEST_FILE
from scanside.errors import ConfigError, RunError
from scanside.many import Journal, Pool, Result, Task, run_many
from scanside.many.journal import identity
from scanside.many.work import reason
from scanside.pipeline import pipeline_path
from scanside_training.data.roots import data_file
from scanside_training.evaluation.candidates import AnyCandidate, Candidate
from scanside_training.evaluation.candidates.engine import EngineOf
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.evaluation.case import Case, Cases, spread
from scanside_training.evaluation.config import EvaluationConfig
from scanside_training.evaluation.failures import UNUSABLE, Failure
from scanside_training.evaluation.leaks import bundles_of, seen_by
from scanside_training.evaluation.measured import CflData, MrdData
from scanside_training.evaluation.pictures import Shown
from scanside_training.evaluation.run import (
    Evaluation,
    add_perturbation,
    check_candidates,
    opened,
    show_worst,
    time_candidates,
    to_show,
)
from scanside_training.evaluation.scores import MEASURES, Score, score
from scanside_training.evaluation.simulated import SimulatedData

__all__ = ["compare_many"]

Progress: TypeAlias = Callable[[int, int, int], None]
"""Told how many images are made, how many could not be made, and how many there are to make."""


@dataclass(frozen=True)
class Part:
    """Data that are read together: a file of many, or all.

    Attributes:
        subject: whose file; None for all.
        first: how many slices the files before it hold.
    """

    subject: str | None = None
    first: int = 0

    def open(self, config: EvaluationConfig) -> Cases:
        """Its cases."""
        if self.subject is None:
            return config.data.open()
        assert isinstance(config.data, MrdData)
        return config.data.open_file(self.subject, self.first)


@dataclass(frozen=True)
class _Image:
    """One image to make: of which case in which part, by which candidate; it comes back where it is to be shown."""

    part: Part
    case: int
    candidate: str
    shown: bool


@dataclass(frozen=True)
class _Compare:
    """Makes workers: each opens a candidate when it first needs it, and keeps the part and the case it had last."""

    config: EvaluationConfig

    def __call__(self) -> _Comparer:
        return _Comparer(self.config)


@dataclass
class _Comparer:
    config: EvaluationConfig
    candidates: dict[str, Candidate] = field(default_factory=dict)
    part: tuple[Part, Cases] | None = None
    case: tuple[Part, int, Case] | None = None

    def __call__(self, wanted: _Image | Part) -> Any:
        if isinstance(wanted, Part):
            return len(self._cases(wanted))
        case, candidate = self._case(wanted), self._candidate(wanted.candidate)
        made: dict[str, Any] = {"case": case.name}
        try:
            image = candidate.job(case)()
            chosen = self._chosen(wanted.candidate)
            found = score(
                wanted.candidate, case, image, seen_by(chosen), candidate.told, self.config.measuring
            )
            made["score"] = asdict(found)
        except UNUSABLE as error:
            return made | {"refused": reason(error)}
        if wanted.shown:
            made["pixels"] = image.detach().cpu().numpy()
        return made | {"facts": dict(candidate.facts)}

    def _candidate(self, name: str) -> Candidate:
        if name not in self.candidates:
            self.candidates[name] = self._chosen(name).open()
        return self.candidates[name]

    def _chosen(self, name: str) -> AnyCandidate:
        return next(one for one in self.config.candidates if (one.name or one.label) == name)

    def _cases(self, part: Part) -> Cases:
        if self.part is None or self.part[0] != part:
            self.part = part, part.open(self.config)
        return self.part[1]

    def _case(self, wanted: _Image) -> Case:
        if self.case is None or self.case[:2] != (wanted.part, wanted.case):
            self.case = wanted.part, wanted.case, self._cases(wanted.part)[wanted.case]
        return self.case[2]


def compare_many(
    config: EvaluationConfig,
    pool: Pool,
    folder: Path,
    *,
    again: bool | Collection[str] = False,
    on_progress: Progress = lambda done, failed, total: None,  # noqa: ARG005
) -> Evaluation:
    """Reconstruct all cases with all candidates, by many workers; the result is that of one process.

    What is made is noted in the folder's journal, and an image that an earlier run has made of the same data by the
    same candidate is not made again. Perturbed scans are reconstructed here, afterwards; times are taken at the end,
    when nothing else runs here.

    Args:
        config: what is compared, on which data.
        pool: by whom.
        folder: where the journal is.
        again: make also what is made, of all candidates or of those that are named.
        on_progress: told after every image.

    Raises:
        ConfigError: no candidate was given, the data are not there, another run writes into the folder, or volumes
            are to be measured.
        RunError: no worker can start.
        ScansideError: the data cannot be read.
    """
    check_candidates(config)
    if "volume" in config.by:
        raise ConfigError(
            f"evaluation '{config.name}' measures volumes, whose slices must lie in one process: leave --workers and "
            "--ray out, or 'volume' out of by"
        )
    result = Evaluation(config)
    candidates = opened(config, result)
    with Journal(folder) as journal:
        parts = _parts(config, pool, journal)
        numbered = [(part, case) for part, n in parts for case in range(n)]
        chosen = spread(len(numbered), config.pictures)
        tasks = []
        for number, (part, case) in enumerate(numbered):
            tasks += [_task(part, case, name, shown=number in chosen) for name in candidates]
        whats = {name: _what(config, name) for name in candidates}
        anew = () if again is False else candidates if again is True else again
        images = _made(tasks, whats, config, pool, journal, anew, on_progress)
        records = [(task, journal.records[task.key]) for task in tasks]
        _gather(result, records, candidates)
        for number in sorted(chosen):
            result.shown.append(_shown(config, *numbered[number], candidates, images))
        # Which are the worst is known only now: their images are made once more.
        if worst := to_show(result):
            places = {record["case"]: (task.payload.part, task.payload.case) for task, record in records}
            tasks = [
                _task(*places[case], name, shown=True) for case, names in worst.items() for name in names
            ]
            images = _made(tasks, whats, config, pool, journal, (), on_progress)
            made = {case: _shown(config, *places[case], names, images) for case, names in worst.items()}
            show_worst(result, made)
    if config.perturbation is not None:
        add_perturbation(result, config.data.open(), candidates)
    if config.speed is not None and numbered:
        part, case = numbered[0]
        time_candidates(result, candidates, part.open(config)[case], config.speed)
    return result


def _task(part: Part, case: int, candidate: str, *, shown: bool) -> Task:
    group = f"{part.subject or ''}#{case}"
    return Task(f"{group} {candidate}", _Image(part, case, candidate, shown), group)


def _shown(
    config: EvaluationConfig, part: Part, case: int, names: Iterable[str], images: Mapping[str, torch.Tensor]
) -> Shown:
    """A case with those of its images that were made."""
    keys = {name: _task(part, case, name, shown=True).key for name in names}
    found = {name: images[key] for name, key in keys.items() if key in images}
    return Shown(part.open(config)[case], found)


def _parts(config: EvaluationConfig, pool: Pool, journal: Journal) -> list[tuple[Part, int]]:
    """The parts of the data, with the number of their cases; files are read for it unless that is known."""
    if not isinstance(config.data, MrdData) or len(config.data.files) == 1:
        return [(Part(), len(config.data.open()))]
    data = config.data
    files = {subject: data.path(subject) for subject in data.files}
    unknown = {
        subject: path
        for subject, path in files.items()
        if journal.records.get(str(path), {}).get("file") != identity(path)
    }
    tasks = [Task(str(path), Part(subject)) for subject, path in unknown.items()]
    for counted in run_many(tasks, _Compare(config), pool):
        if counted.error:
            raise RunError(f"{counted.task.key} cannot be read: {counted.error}")
        n_slices = counted.value // len(data.masks)
        journal.note((counted.task.key, {"file": identity(Path(counted.task.key)), "n_slices": n_slices}))
    sizes = [int(journal.records[str(path)]["n_slices"]) for path in files.values()]
    firsts = accumulate(sizes, initial=0)
    return [
        (Part(subject, first), n * len(data.masks))
        for subject, first, n in zip(files, firsts, sizes, strict=False)
    ]


def _made(
    tasks: list[Task],
    whats: dict[str, str],
    config: EvaluationConfig,
    pool: Pool,
    journal: Journal,
    again: Collection[str],
    on_progress: Progress,
) -> dict[str, torch.Tensor]:
    """Make what is not made; gives the images that are to be shown, which are made always."""

    def is_made(task: Task) -> bool:
        record = journal.records.get(task.key, {})
        return bool(record.get("score")) and record["what"] == whats[task.payload.candidate]

    left = [
        task for task in tasks if task.payload.candidate in again or task.payload.shown or not is_made(task)
    ]
    images: dict[str, torch.Tensor] = {}
    n_done = n_failed = 0
    on_progress(0, 0, len(left))
    for result in run_many(left, _Compare(config), pool):
        made = _record(result)
        if (pixels := made.pop("pixels", None)) is not None:
            images[result.task.key] = torch.from_numpy(pixels)
        journal.note((result.task.key, {"what": whats[result.task.payload.candidate], **made}))
        n_done, n_failed = n_done + (made["refused"] == ""), n_failed + (made["refused"] != "")
        on_progress(n_done, n_failed, len(left))
    return images


def _record(result: Result) -> dict[str, Any]:
    """What a worker made, or why it did not; every field, so that none is left from an earlier run."""
    empty: dict[str, Any] = {"case": result.task.group, "score": None, "facts": {}, "refused": result.error}
    return empty | (result.value or {})


def _gather(
    result: Evaluation, records: list[tuple[Task, dict[str, Any]]], candidates: dict[str, Candidate]
) -> None:
    """Put what was made into the order in which one process makes it."""
    refused: dict[str, list[tuple[str, str]]] = {}
    result.facts = {name: dict(candidate.facts) for name, candidate in candidates.items()}
    for task, record in records:
        name = task.payload.candidate
        if record["refused"]:
            refused.setdefault(name, []).append((record["case"], record["refused"]))
        else:
            result.scores.append(Score(**record["score"]))
            result.facts[name] |= record["facts"]
    for name, which in refused.items():
        result.failures.append(Failure(name, tuple(case for case, _ in which), which[0][1]))


def _what(config: EvaluationConfig, name: str) -> str:
    """A hash of all that decides about a candidate's figures: Scanside's version, data, settings, files, measures."""
    chosen = next(one for one in config.candidates if (one.name or one.label) == name)
    files = [
        [str(path), identity(path)]
        for path in (*_files_of_data(config), *_files_of(chosen))
        if path.is_file()
    ]
    measured = config.model_dump(mode="json", include={"definition", "regions", "contrasts"})
    said = [
        *(__version__, config.data.model_dump(mode="json"), chosen.model_dump(mode="json"), files),
        *(list(MEASURES), measured),
    ]
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _files_of_data(config: EvaluationConfig) -> Iterator[Path]:
    data = config.data
    if isinstance(data, (CflData, MrdData)):
        yield from (data_file(data.root, str(mask)) for mask in data.masks.values() if isinstance(mask, Path))
    if isinstance(data, SimulatedData) and data.config is not None:
        yield data.config
    elif isinstance(data, CflData):
        yield data_file(data.root, str(data.kspace.with_suffix(".cfl")))
    elif isinstance(data, MrdData):
        yield from map(data.path, data.files)


def _files_of(candidate: AnyCandidate) -> Iterator[Path]:
    if isinstance(candidate, Run):
        yield from sorted(candidate.folder.glob("*"))
    elif isinstance(candidate, EngineOf):
        yield find_bundle(candidate.bundle) / MANIFEST_FILE  # which holds the hashes of all other files
    elif isinstance(candidate, PipelineRun):
        yield pipeline_path(candidate.pipeline)
        yield from (find_bundle(name) / MANIFEST_FILE for name in bundles_of(candidate))
