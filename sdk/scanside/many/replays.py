"""Reconstruction of many recordings with one pipeline.

::

    results = replay_many(find_recordings([Path("scans")], out), out, "grappa", pool_for())

A folder of results::

    out/
    ├── scan.h5 …        images, named and laid out like the recordings
    ├── journal.jsonl    what is done, so that the same command goes on where it was cut off
    ├── failures.json    recordings without images, and why
    └── summary.json     everything in one document
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from scanside._version import __version__
from scanside.context import Context
from scanside.datasets.as_ismrmrd import recording_of
from scanside.engines.catalog import find_bundle
from scanside.engines.manifest import MANIFEST_FILE
from scanside.errors import ConfigError, RunError
from scanside.many.files import Found, result_names
from scanside.many.journal import JOURNAL, Journal, identity
from scanside.many.run import Pool, run_many
from scanside.many.work import Result, Task
from scanside.noise_store import NoiseStore
from scanside.pipeline import Pipeline, pipeline_path
from scanside.replay import Regular, replay

__all__ = ["FileResult", "ManyReplays", "Recipe", "replay_many"]

_UNFINISHED = ".unfinished"
"""Folder, below that of the results, of files that are being written."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

Progress = Callable[[int, int, int], None]
"""Told how many recordings are done, how many failed, and how many there are to do in this run."""


@dataclass(frozen=True)
class Recipe:
    """How recordings are reconstructed; what a worker needs to be made, on whatever machine.

    Attributes:
        pipeline: the pipeline's document.
        where: its file's name, for errors.
        settings: changed settings, as ``"stage.setting": value``.
        group: group of HDF5 files; by default ``dataset`` or the only one of each.
        device: as in `scanside.context.Context`.
        noise_store: folder that keeps noise covariances. Without one, each recording stands for itself: nothing
            depends on which worker had which recording before.
        undersample: see `scanside.replay.replay`.
        bundles: SHA-256 of the manifests of the bundles that the pipeline names, by name.
        folder: of the results.
    """

    pipeline: Mapping[str, Any]
    where: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    device: str = "auto"
    noise_store: Path | None = None
    undersample: npt.NDArray[Any] | Regular | None = None
    bundles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, name_or_file: str | Path, folder: Path, **choices: Any) -> Recipe:
        """Read a pipeline and find its bundles.

        Args:
            name_or_file: of the pipeline.
            folder: of the results.
            choices: `settings`, `group`, `device`, `noise_store` and `undersample`.

        Raises:
            PipelineError: there is none, or it does not fit.
            StageConfigError: a setting is wrong.
            BundleNotFound: a bundle is not there.
        """
        import yaml

        pipeline = Pipeline.load(name_or_file, choices.get("settings"))
        path = pipeline_path(name_or_file)
        document = yaml.safe_load(path.read_text("utf-8"))
        return cls(document, f"pipeline {path.name}", folder.resolve(), bundles=_bundles(pipeline), **choices)

    @property
    def name(self) -> str:
        """The pipeline's."""
        return str(self.pipeline["name"])

    @property
    def identity(self) -> str:
        """A hash of all that decides about the images but the recording.

        That is Scanside's version, the pipeline with all its settings, its bundles, the group and the mask.
        """
        pipeline = Pipeline.from_config(self.pipeline, self.settings, where=self.where)
        stages = [
            [label, stage.config.model_dump(mode="json")]
            for label, stage in zip(pipeline.labels, pipeline.stages, strict=True)
        ]
        mask: Any = None
        if isinstance(self.undersample, Regular):
            mask = asdict(self.undersample)
        elif self.undersample is not None:
            mask = np.asarray(self.undersample).astype(int).tolist()
        said = [__version__, self.name, stages, dict(self.bundles), self.group, mask]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def __call__(self) -> Replayer:
        """A worker with its pipeline prepared.

        Raises:
            ScansideError: this machine cannot run the pipeline, or does not see the folder of results.
        """
        return Replayer(self)


@dataclass(frozen=True)
class Job:
    """A recording, and the file for its images."""

    recording: Path
    output: Path


class Replayer:
    """Takes one recording after another; engines stay warm between them."""

    def __init__(self, recipe: Recipe) -> None:
        if not (recipe.folder / JOURNAL).is_file():
            raise ConfigError(
                f"the folder of results, {recipe.folder}, is not the same on this machine: all machines of a cluster "
                "must see recordings and results under the same paths"
            )
        self._recipe = recipe
        self._pipeline = Pipeline.from_config(recipe.pipeline, recipe.settings, where=recipe.where)
        if _bundles(self._pipeline) != recipe.bundles:
            raise ConfigError(
                "the bundles of this machine are not those that the run began with, and images of both would be "
                "mixed: install the same ones everywhere, or start the run again"
            )
        # Without a folder nothing is remembered from one recording to the next.
        store = NoiseStore(recipe.noise_store, capacity=0 if recipe.noise_store is None else 256)
        self._context = Context(recipe.device, store)
        # Engines are built for the recordings as they come.
        self._pipeline.prepare(replace(self._context, builds_engines=False))

    def __call__(self, job: Job) -> dict[str, Any]:
        """Reconstruct a recording; the images' file gets its name once it is whole.

        Raises:
            RunError: the disk is full.
            ScansideError: anything that is wrong with the recording.
            OSError: it cannot be read.
        """
        # A name of its own: a worker that was given up for lost may still be writing the same images.
        draft = self._recipe.folder / _UNFINISHED / f"{uuid4().hex}.h5"
        with recording_of(job.recording) as recording, _space_is_there(self._recipe.folder):
            draft.parent.mkdir(exist_ok=True)
            result = replay(
                recording,
                self._pipeline,
                draft,
                undersample=self._recipe.undersample,
                group=self._recipe.group,
                prepared=self._context,
            )
            job.output.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(job.output)
        return {
            "n_readouts": result.n_readouts,
            "n_images": len(result.images),
            "n_fallbacks": sum("ScansideFallback" in image.meta for image in result.images),
            "warnings": result.warnings,
        }


def _bundles(pipeline: Pipeline) -> dict[str, str]:
    """Hashes of the manifests, which hold the hashes of everything else, and are checked when a bundle is opened."""
    names = [name for stage in pipeline.stages for name in getattr(stage.config, "bundles", ())]
    return {name: sha256((find_bundle(name) / MANIFEST_FILE).read_bytes()).hexdigest() for name in names}


@contextmanager
def _space_is_there(folder: Path) -> Iterator[None]:
    """A full disk concerns every file that comes next: it ends the run."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # The HDF5 library tells the number in words only, and h5py makes one error or the other of them.
        told = re.search(r"errno = (\d+)", str(error))
        if (int(told[1]) if told else getattr(error, "errno", None)) not in _FULL:
            raise
        raise RunError(
            f"there is no space left for {folder}: make room and run the same command again, which goes on with what "
            "is not done"
        ) from error


# The run


@dataclass(frozen=True)
class FileResult:
    """What became of a recording.

    Attributes:
        recording: its path.
        output: the images' file below the folder of results.
        state: ``done`` in this run, ``before`` in an earlier one, ``failed``, or ``left`` where the run was cut off.
        error: why it failed.
        n_images: images.
        n_readouts: readouts.
        n_fallbacks: images that a classical method made in an engine's place.
        seconds: how long it took.
        where: machine and process that did it.
        tries: 2 where a first worker died.
        warnings: what an operator would be told.
    """

    recording: str
    output: str
    state: str
    error: str = ""
    n_images: int = 0
    n_readouts: int = 0
    n_fallbacks: int = 0
    seconds: float = 0.0
    where: str = ""
    tries: int = 0
    warnings: Sequence[str] = ()


@dataclass
class ManyReplays:
    """What became of all recordings.

    Attributes:
        folder: of the results.
        pipeline: its name.
        identity: see `Recipe.identity`.
        files: in the order in which they were named.
        seconds: of this run.
    """

    folder: Path
    pipeline: str
    identity: str
    files: list[FileResult] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, *states: str) -> int:
        """How many recordings are in one of these states."""
        return sum(one.state in states for one in self.files)

    @property
    def failures(self) -> list[FileResult]:
        """Recordings without images."""
        return [one for one in self.files if one.state == "failed"]

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON can say it."""
        return {
            "scanside": __version__,
            "folder": str(self.folder),
            "pipeline": self.pipeline,
            "pipeline_sha256": self.identity,
            "n_files": len(self.files),
            "n_done": self.count("done"),
            "n_done_before": self.count("before"),
            "n_failed": self.count("failed"),
            "n_left": self.count("left"),
            "n_images": sum(one.n_images for one in self.files),
            "seconds": self.seconds,
            "files": [asdict(one) | {"warnings": list(one.warnings)} for one in self.files],
            "research_use_only": True,
        }


def replay_many(
    recordings: Sequence[Found],
    recipe: Recipe,
    pool: Pool,
    *,
    again: bool = False,
    on_progress: Progress = lambda done, failed, total: None,  # noqa: ARG005
) -> ManyReplays:
    """Reconstruct recordings, leaving out those that are done.

    A recording is done when an earlier run into the same folder has made its images by the same `Recipe.identity`,
    and neither has the recording changed nor has the file of images gone. What fails is noted and tried again by the
    next run. Each recording is reconstructed by itself: its images are the same whatever the pool, to the byte where
    machines and numbers of threads are equal, as sums with more threads are rounded in another order.

    Args:
        recordings: by `scanside.many.files.find_recordings`.
        recipe: how.
        pool: by whom.
        again: do also what is done.
        on_progress: told after every recording.

    Raises:
        RunError: no worker can start, or the disk is full; what was done until then stays done.
        ConfigError: another run writes into the folder.
    """
    folder, recipe_identity = recipe.folder, recipe.identity
    begun = perf_counter()
    with Journal(folder) as journal, _clean(folder):
        known = {key: record["output"] for key, record in journal.records.items() if "output" in record}
        names = result_names(recordings, known, folder)
        journal.note(
            *((str(path), {"output": name}) for path, name in names.items() if str(path) not in known)
        )
        before = {str(path): identity(path) for path in names if path.is_file()}
        done = set() if again else set(_done(journal, before, recipe_identity, folder))
        tasks = [
            Task(str(path), Job(path, folder / name)) for path, name in names.items() if str(path) not in done
        ]
        n_done = n_failed = 0
        on_progress(0, 0, len(tasks))
        made: set[str] = set()
        try:
            for result in run_many(tasks, recipe, pool):
                key = result.task.key
                made.add(key)
                _note(journal, result, before.get(key), recipe_identity)
                n_done, n_failed = n_done + (not result.error), n_failed + bool(result.error)
                on_progress(n_done, n_failed, len(tasks))
        finally:
            # Also after Ctrl-C: what is known by then is told.
            files = [_row(key, journal.records[key], key in done, key in made) for key in map(str, names)]
            results = ManyReplays(folder, recipe.name, recipe_identity, files, perf_counter() - begun)
            _write(results)
    return results


@contextmanager
def _clean(folder: Path) -> Iterator[None]:
    """Without the files that were being written when a worker died, before the run and after it."""
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)


def _done(
    journal: Journal, before: Mapping[str, Mapping[str, int]], recipe_identity: str, folder: Path
) -> Iterator[str]:
    for key, record in journal.records.items():
        as_asked = record.get("pipeline") == recipe_identity and record.get("recording") == before.get(key)
        if record.get("state") == "done" and as_asked and (folder / record["output"]).is_file():
            yield key


def _note(
    journal: Journal, result: Result, recording: Mapping[str, int] | None, recipe_identity: str
) -> None:
    changes: dict[str, Any] = {
        "state": "failed" if result.error else "done",
        "recording": recording,
        "pipeline": recipe_identity,
        "seconds": round(result.seconds, 3),
        "tries": result.tries,
        "where": result.where,
        "error": result.error,
    }
    with _space_is_there(journal.path.parent):
        journal.note((result.task.key, changes | (result.value or {})))


def _row(key: str, record: Mapping[str, Any], was_done: bool, is_made: bool) -> FileResult:
    if not (was_done or is_made):
        return FileResult(key, record["output"], "left")
    state = "before" if was_done else record["state"]
    told = {name: record[name] for name in FileResult.__dataclass_fields__ if name in record}
    if record.get("error"):  # what an earlier run made is not this one's
        told |= {"n_images": 0, "n_readouts": 0, "n_fallbacks": 0, "warnings": []}
    return FileResult(**{**told, "recording": key, "state": state})


def _write(results: ManyReplays) -> None:
    failures = [
        {"recording": one.recording, "error": one.error, "tries": one.tries} for one in results.failures
    ]
    with _space_is_there(results.folder):
        for name, document in (("failures.json", failures), ("summary.json", results.as_json())):
            text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            (results.folder / name).write_text(text, "utf-8")
