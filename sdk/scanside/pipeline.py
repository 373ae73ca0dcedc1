"""Chains of stages: loading, checking that they fit, and running them.

A pipeline is a YAML file or is built in Python::

    name: grappa
    description: GRAPPA with prewhitening, one image per slice
    stages:
      - noise
      - oversampling
      - accumulate
      - grappa: {kernel_k1: 4}
      - combine
      - finish
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.json_schema import models_json_schema

from scanside.agreement import Comparison
from scanside.context import Context
from scanside.errors import (
    MissingExtra,
    PipelineError,
    ScansideError,
    ShapeError,
    StageConfigError,
    StageError,
    StreamError,
)
from scanside.items import Calibration, Image, Item, KSpace, Readouts, Samples, Waveform, item_types
from scanside.mrd.header import MrdHeader
from scanside.outline import Outline
from scanside.plain_yaml import read_value
from scanside.registry import load_stage, stage_names
from scanside.scan import Scan, ScanEnd
from scanside.stage import Expected, Stage, describe_settings, describe_validation
from scanside.stage_list import StageList
from scanside.texts import shown
from scanside.trace import Trace

logger = logging.getLogger(__name__)

__all__ = [
    "Observe",
    "Pipeline",
    "PipelineConfig",
    "PipelineRun",
    "pipeline_names",
    "pipeline_path",
    "pipeline_schema",
]


Observe: TypeAlias = Callable[[str, Item], None]
"""Looks at what the stages of a run give: a stage's label and an item. It must change nothing and keep copies
only, as later stages may work in place. Its time is booked on no stage, and what it raises ends the run."""


class PipelineConfig(BaseModel):
    """A pipeline as it stands in its file.

    Attributes:
        name: short name; it goes into every image's meta.
        description: one sentence for people.
        input: kinds of items that come in.
        stages: in order; each a name, or a mapping of one name to its settings.
        rank: where several pipelines can take a scan, those of a higher rank are named first: 0 for a Fourier
            transform alone, 20 for parallel imaging, 30 where what was measured is fitted, 40 for networks that were
            measured to be better than that, 50 and more for what is made for few scans and does best there.
        made_for: kinds of trajectory, as headers name them, that it is made for, where its stages take others too;
            empty for all that they take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=describe_settings)

    name: str
    description: str = ""
    input: tuple[str, ...] = ("readouts", "waveform")
    stages: StageList
    rank: int = 0
    made_for: tuple[str, ...] = ()

    @field_validator("input")
    @classmethod
    def _known_inputs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in item_types():
                raise ValueError(f"'{name}' is no kind of item; known are: {', '.join(item_types())}")
        return value


def pipeline_names() -> list[str]:
    """Names of the pipelines that come with Scanside."""
    folder = files("scanside") / "pipelines"
    return sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def pipeline_path(name_or_file: str | Path) -> Path:
    """Where a pipeline's file is: a shipped one by its name, any other by its path.

    Raises:
        PipelineError: there is no such pipeline.
    """
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise PipelineError(f"there is no pipeline file {path}")
    shipped = Path(str(files("scanside") / "pipelines")) / f"{name_or_file}.yaml"
    if str(name_or_file) in pipeline_names():
        return shipped
    raise PipelineError(
        f"there is no pipeline {shown(str(name_or_file))}: known are {', '.join(pipeline_names())}; "
        "a file of your own must end in .yaml"
    )


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file, with the settings of every registered stage; editors complete by it.

    Raises:
        PipelineError: a registered stage cannot be imported.
    """
    stages = {name: load_stage(name) for name in stage_names()}
    configs = {name: stage.Config for name, stage in stages.items()}
    optional = [
        name
        for name, config in configs.items()
        if not any(setting.is_required() for setting in config.model_fields.values())
    ]
    settings, definitions = models_json_schema(
        [(config, "validation") for config in dict.fromkeys(configs.values())]
    )
    with_settings = [
        {
            "type": "object",
            "description": inspect.getdoc(stage),
            "properties": {name: {"anyOf": [settings[configs[name], "validation"], {"type": "null"}]}},
            "required": [name],
            "additionalProperties": False,
        }
        for name, stage in stages.items()
    ]
    schema = PipelineConfig.model_json_schema()
    schema["properties"]["input"]["items"]["enum"] = list(item_types())
    schema["properties"]["stages"]["items"] = {"anyOf": [{"enum": optional}, *with_settings]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **definitions}


class Pipeline:
    """Stages that were checked to fit.

    Args:
        stages: in order.
        name: it goes into every image's meta.
        description: one sentence for people.
        input: types of the items that come in.
        rank: see `PipelineConfig`.
        made_for: see `PipelineConfig`.

    Raises:
        PipelineError: a stage takes nothing of what arrives at it.
    """

    def __init__(
        self,
        stages: Iterable[Stage[Any, Any]],
        *,
        name: str = "custom",
        description: str = "",
        input: Iterable[type] = (Readouts, Waveform),  # noqa: A002 — the word that pipeline files use
        labels: Iterable[str] | None = None,
        rank: int = 0,
        made_for: Iterable[str] = (),
    ) -> None:
        self.stages = tuple(stages)
        self.rank = rank
        self.made_for = tuple(made_for)
        self.name = name
        self.description = description
        self.input = tuple(input)
        self.labels = _unique(labels or (type(stage).__name__.lower() for stage in self.stages))
        self.output = _check_fit(self.stages, self.labels, self.input)

    @classmethod
    def load(cls, name_or_file: str | Path, settings: Mapping[str, Any] | None = None) -> Pipeline:
        """Load a shipped pipeline by name or one of your own by path.

        Args:
            name_or_file: for example ``grappa`` or ``my/pipeline.yaml``.
            settings: changed settings as ``"stage.setting": value``; a text is read as YAML, so that
                ``"4"`` is a number.

        Raises:
            MissingExtra: a package is not installed that reads it, or that a stage needs.
            PipelineError: no such file, bad YAML, unknown stages, stages that do not fit.
            StageConfigError: an unknown or wrong setting.
        """
        try:
            import yaml
        except ModuleNotFoundError as error:
            raise MissingExtra("pyyaml", "torch", f"pipeline '{name_or_file}'") from error

        path = pipeline_path(name_or_file)
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError) as error:  # also numbers and dates that Python has none for
            raise PipelineError(f"pipeline {path} is not valid YAML: {error}") from error
        except OSError as error:
            raise PipelineError(f"pipeline {path} cannot be read: {error}") from error
        # Errors also reach hosts on the network: they get the pipeline's name, not the folders of this machine.
        return cls.from_config(document, settings, where=f"pipeline {path.name}")

    @classmethod
    def from_config(
        cls,
        document: PipelineConfig | Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        *,
        where: str = "pipeline",
    ) -> Pipeline:
        """Build a pipeline from its configuration; as `load`, which see."""
        if isinstance(document, PipelineConfig):
            config = document
        elif isinstance(document, Mapping):
            try:
                config = PipelineConfig.model_validate(dict(document))
            except ValidationError as error:
                raise PipelineError(describe_validation(where, PipelineConfig, error)) from error
        else:
            raise PipelineError(f"{where} holds {type(document).__name__}, expected a mapping with 'stages'")
        labels = _unique(name for name, _ in config.stages)
        changed = _by_stage(labels, settings or {})
        stages = []
        for label, (name, own) in zip(labels, config.stages, strict=True):
            try:
                stages.append(load_stage(name)(**{**own, **changed.get(label, {})}))
            except StageConfigError as error:
                raise StageConfigError(f"{where}, stage '{label}': {error}") from error
        kinds = item_types()
        if Samples in stages[-1].gives():
            raise PipelineError(
                f"{where} ends with '{labels[-1]}', which gives Samples, and nobody outside takes these: add a stage "
                "that makes images of them, such as 'gridding' or 'noncartesian-sense'"
            )
        return cls(
            stages,
            name=config.name,
            description=config.description,
            input=[kinds[kind] for kind in config.input],
            labels=labels,
            rank=config.rank,
            made_for=config.made_for,
        )

    def prepare(self, context: Context) -> None:
        """Prepare every stage, once per worker.

        Raises:
            StageError: a stage cannot be prepared.
            StreamError: as `Context.check` says, nobody waits for it any more.
        """
        for label, stage in zip(self.labels, self.stages, strict=True):
            context.check()
            try:
                stage.prepare(context)
            except StreamError:
                raise  # whoever waits has gone, which is no fault of the stage
            except Exception as error:
                raise StageError(label, error) from error

    def expect(self, header: MrdHeader) -> None:
        """Have every stage get ready for a scan, where nobody waits; see `Stage.expect`."""
        for expected in Expected.of(header):
            for stage in self.stages:
                expected = stage.expect(expected)

    def foresee(self, outline: Outline) -> Outline:
        """What speaks against this pipeline for a scan, stage by stage, up to the first that refuses it."""
        names = {label.partition("#")[0] for label in self.labels}
        outline = replace(outline, corrected_by=outline.corrected_by | names)
        for label, stage in zip(self.labels, self.stages, strict=True):
            n_refusals, n_doubts = len(outline.refusals), len(outline.doubts)
            outline = stage.foresee(outline)
            outline = replace(
                outline,
                refusals=(*outline.refusals[:n_refusals], *_said_by(label, outline.refusals[n_refusals:])),
                doubts=(*outline.doubts[:n_doubts], *_said_by(label, outline.doubts[n_doubts:])),
            )
            if outline.refusals:
                return outline
        named = outline.encoding.trajectory
        if self.made_for and named not in self.made_for:
            kinds = " or ".join(self.made_for)
            return outline.doubted(f"it is made for {kinds}, and the header's trajectory is {named}")
        return outline

    def open(self, scan: Scan, trace: Trace | None = None, observe: Observe | None = None) -> PipelineRun:
        """Open every stage for a scan and give what runs it; use as a context manager.

        Args:
            scan: the scan.
            trace: where the times of the stages are noted.
            observe: called with a stage's label and each item that it gives, before the next stage takes it.
        """
        scan.pipeline = self.name
        return PipelineRun(self, scan, trace or Trace(), observe)


def _said_by(label: str, texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"stage '{label}': {text}" for text in texts)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """Labels for stages: their names, the second of a name as ``name#2``."""
    seen: dict[str, int] = {}
    labels = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(labels)


def _by_stage(labels: Sequence[str], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    by_stage: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        label, dot, setting = key.partition(".")
        if not dot or label not in labels:
            raise StageConfigError(
                f"{shown(key)} names no setting of this pipeline: write stage.setting with one of its stages: "
                f"{', '.join(labels)}"
            )
        try:
            value = read_value(value) if isinstance(value, str) else value
        except ValueError as error:
            raise StageConfigError(
                f"the value {shown(value)} of {shown(key)} is not valid YAML: {error}"
            ) from error
        by_stage.setdefault(label, {})[setting] = value
    return by_stage


def _check_fit(
    stages: Sequence[Stage[Any, Any]], labels: Sequence[str], arriving: Sequence[type]
) -> list[type]:
    """Follow the types of items through the stages; gives those that come out at the end."""
    flowing = list(arriving)
    origin = "the input"
    for label, stage in zip(labels, stages, strict=True):
        # Calibration lines come beside the k-space that they belong to.
        taken, given = (
            [kind for kind in kinds if kind is not Calibration] for kinds in (stage.takes(), stage.gives())
        )
        if not any(kind in flowing for kind in taken):
            raise PipelineError(
                f"stage '{label}' takes {_names(taken)}, but {origin} gives {_names(flowing)}: "
                "a stage that makes the one from the other is missing, or the order is wrong"
            )
        flowing = [kind for kind in flowing if kind not in taken]
        flowing += [kind for kind in given if kind not in flowing]
        origin = f"stage '{label}' before it"
    return flowing


def _names(kinds: Iterable[type]) -> str:
    return " and ".join(kind.__name__ for kind in kinds) or "nothing"


class PipelineRun:
    """One scan on its way through a pipeline.

    Use it as a context manager, push the items of the scan and finish::

        with pipeline.open(scan) as run:
            for item in source:
                for result in run.push(item):
                    ...
            for result in run.finish(ScanEnd()):
                ...

    Raises:
        StageError: from any of its methods, when a stage raised or gave something that is no item.
    """

    def __init__(self, pipeline: Pipeline, scan: Scan, trace: Trace, observe: Observe | None = None) -> None:
        self.pipeline = pipeline
        self.scan = scan
        self.trace = trace
        self._observe = observe
        self._scan_counter: int | None = None
        self._comparison = Comparison(scan.header)
        trace.begin(pipeline.labels)
        self._steps = [
            (label, stage, stage.takes(), stage.gives())
            for label, stage in zip(pipeline.labels, pipeline.stages, strict=True)
        ]

    def __enter__(self) -> PipelineRun:
        for n_opened, (label, stage, _, _) in enumerate(self._steps, 1):
            self.trace.enter(label)
            try:
                stage.open(self.scan)
            except Exception as error:
                self._close(n_opened)
                raise StageError(label, error) from error
            finally:
                self.trace.working = None
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        failure = self._close(len(self._steps))
        if failure is not None and kind is None:
            raise failure

    def _close(self, n: int) -> StageError | None:
        """Close the first n stages, whatever happens; gives the first failure."""
        failure: StageError | None = None
        for label, stage, _, _ in self._steps[:n]:
            try:
                stage.close()
            except Exception as error:  # the other stages must be closed all the same
                logger.exception("stage '%s' failed to close", label)
                failure = failure or StageError(label, error)
        return failure

    def push(self, item: Item) -> Iterator[Item]:
        """Send one item through; what comes out is given as soon as it is ready."""
        self.trace.arrived()
        if isinstance(item, Readouts) and len(item):
            self._scan_counter = int(item.headers["scan_counter"][-1])
            item = self._comparison.take(item)
            self._tell_contradictions()
        elif isinstance(item, KSpace):
            self._comparison.begin(item.encoding.index)
            self._tell_contradictions()
        yield from self._flow(0, item)

    def finish(self, end: ScanEnd) -> Iterator[Item]:
        """The scan has ended: give what the stages still hold back, first stage first."""
        self._tell_contradictions(ended=True)
        for i, (label, stage, _, gives) in enumerate(self._steps):
            for result in self._timed(label, gives, lambda stage=stage: stage.finish(end), ending=True):
                yield from self._flow(i + 1, result)

    def _tell_contradictions(self, *, ended: bool = False) -> None:
        """Before the stages see what contradicts the header, so that the images made of it say so."""
        for finding in self._comparison.news(ended=ended):
            self.scan.find(finding)

    def _flow(self, i: int, item: Item | Calibration) -> Iterator[Item]:
        """Send an item through the stages from the i-th on."""
        if isinstance(item, Readouts) and not len(item):
            return  # a selection that picked nothing
        if self._observe is not None and i > 0 and not isinstance(item, Calibration):
            self._observe(self.pipeline.labels[i - 1], item)
        for label, stage, takes, gives in self._steps[i:]:
            i += 1
            if isinstance(item, takes):
                for result in self._timed(label, gives, lambda: stage.process(item)):  # noqa: B023 — used at once
                    yield from self._flow(i, result)
                return
        if not isinstance(item, Calibration):
            yield item

    def _timed(
        self, label: str, gives: tuple[type, ...], call: Any, *, ending: bool = False
    ) -> Iterator[Item | Calibration]:
        """What a stage gives, checked; only its own time is booked on it.

        The end of a scan at which a stage gives nothing is no item: most stages do nothing then.
        """
        spent = n_given = 0
        begun = self.trace.enter(label)
        try:
            results = call()
            if not isinstance(results, Iterable):
                raise ScansideError(
                    f"it gave {type(results).__name__}, expected an iterable of items: yield them"
                )
            for result in results:
                spent += self.trace.leave(begun)
                _check_result(result, gives)
                n_given += 1
                yield result
                begun = self.trace.enter(label)
            spent += self.trace.leave(begun)
        except Exception as error:
            raise StageError(label, error, self._scan_counter) from error
        finally:
            self.trace.working = None
            self.trace.add(label, spent, item=n_given > 0 or not ending)


def _check_result(result: object, gives: tuple[type, ...]) -> None:
    """Refuse what is not an item of the promised kind, before a later stage or a transport trips over it."""
    if not isinstance(result, gives):
        raise ScansideError(
            f"it gave {type(result).__name__}, but it is declared to give {_names(gives)}: "
            "yield items of that kind"
        )
    if isinstance(result, Image) and result.data.ndim != 4:
        raise ShapeError(f"it gave an image of shape {tuple(result.data.shape)}, expected (channel, z, y, x)")
    if isinstance(result, KSpace):
        shape = tuple(result.data.shape)
        if len(shape) != 4 + len(result.other) or tuple(result.mask.shape) != (*shape[:-4], *shape[-3:-1]):
            raise ShapeError(
                f"it gave k-space of shape {shape} with a mask of shape {tuple(result.mask.shape)} and leading "
                f"axes {result.other}; expected data (*other, coil, k2, k1, k0) and mask (*other, k2, k1)"
            )
