"""Pipelines that are kept prepared, and lent to one session at a time."""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from scanside.context import Context
from scanside.engines.catalog import available_bundles, split_pin
from scanside.errors import (
    MissingExtra,
    PipelineError,
    StageConfigError,
)
from scanside.pipeline import Pipeline, pipeline_names, pipeline_path
from scanside.texts import shown

__all__ = [
    "DEFAULT_PIPELINE",
    "Load",
    "PipelinePool",
]

logger = logging.getLogger(__name__)

DEFAULT_PIPELINE = "grappa"
_IDLE_PIPELINES = 8
_LONGEST_NAME = 200


Load: TypeAlias = Callable[[str, Mapping[str, str]], Pipeline]
"""Makes a pipeline from its name and changed settings."""


class PipelinePool:
    """Keeps pipelines prepared from session to session; each is lent to one session at a time.

    Args:
        context: device and noise store, shared by all.
        default: pipeline of sessions that ask for none.
        folder: where pipelines of one's own are: ``NAME.yaml`` is asked for as ``NAME``.
        any_file: allow the path of any pipeline file. Only where whoever configures sessions may read every
            file: a chain's configuration, not a host on the network.
        load: how a pipeline is made; None reads pipeline files.
    """

    def __init__(
        self,
        context: Context | None = None,
        *,
        default: str | Path = DEFAULT_PIPELINE,
        folder: Path | None = None,
        any_file: bool = False,
        load: Load | None = None,
    ) -> None:
        self.context = context or Context()
        self._default = default
        self._folder = folder
        self._any_file = any_file
        self._load = load
        self._idle: OrderedDict[Pipeline, tuple[object, ...]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def lend(
        self,
        name: str | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Pipeline]:
        """A prepared pipeline, for as long as the ``with`` block runs.

        Args:
            name: which; None for the default.
            settings: changed settings.
            check: for a session, raises where its peer has gone. None before any session, where there is time to
                build engines.

        Raises:
            PipelineError: there is no such pipeline, or it cannot be loaded.
            StageConfigError: a setting is unknown or wrong.
            MissingExtra: a package that the pipeline needs is not installed.
            StageError: a stage cannot be prepared.
        """
        settings = settings or {}
        path = Path(name or "") if self._load else self._path(name)
        # By its whole path, a pipeline is the same whether it is asked for by its name or as the default.
        key = (path.resolve(), path.stat().st_mtime_ns if path.is_file() else 0, *sorted(settings.items()))
        pipeline = self._take(key)
        if pipeline is not None and (
            changed := [why for stage in pipeline.stages for why in stage.outdated()]
        ):
            logger.warning("pipeline '%s' is loaded anew: %s", pipeline.name, "; ".join(changed))
            pipeline = None
        ready, pipeline = pipeline is not None, pipeline or self._make(path, settings)
        if not self._any_file:
            _refuse_reserved(pipeline, settings)
        if not ready:
            pipeline.prepare(self.context if check is None else self.context.while_a_scan_waits(check))
        yield pipeline
        # Not after an exception: nobody knows in what state its stages are then.
        self._keep(pipeline, key)

    def warm_up(self, *names: str) -> dict[str, Pipeline]:
        """Prepare the default pipeline and others, so that no session waits for them. Raises as `lend`.

        Returns:
            The prepared pipelines by their names.
        """
        prepared: dict[str, Pipeline] = {}
        for name in (None, *names):
            with self.lend(name) as pipeline:
                prepared[pipeline.name] = pipeline
        return prepared

    def check(self, *names: str) -> None:
        """See that the default pipeline and others exist; loads nothing.

        Raises:
            PipelineError: there is no such pipeline.
        """
        for name in (None, *names):
            self._path(name)

    def for_chain(self) -> PipelinePool:
        """The same pipelines, for sessions whose configuration may name any file: that of a Gadgetron chain."""
        trusting = copy.copy(self)
        trusting._any_file = True  # noqa: SLF001 — one of its own kind
        return trusting

    def _path(self, name: str | None) -> Path:
        if name is None:
            return pipeline_path(self._default)
        if name in pipeline_names():
            return pipeline_path(name)
        if len(name.encode(errors="replace")) > _LONGEST_NAME:
            raise PipelineError(f"there is no pipeline {shown(name)}: its name is too long for one")
        # A name must not lead out of the folder.
        if (
            self._folder is not None
            and Path(name).name == name
            and (own := self._folder / f"{name}.yaml").is_file()
        ):
            return own
        if self._any_file:
            return pipeline_path(name)
        known = pipeline_names()
        if self._folder is not None:
            known += sorted(path.stem for path in self._folder.glob("*.yaml"))
        raise PipelineError(f"there is no pipeline {shown(name)}: known are {', '.join(known)}")

    def _make(self, path: Path, settings: Mapping[str, str]) -> Pipeline:
        if self._load is not None:
            return self._load(str(path), settings)
        for module, package in (("yaml", "pyyaml"), ("torch", "torch")):
            if find_spec(module) is None:
                raise MissingExtra(package, "torch", f"pipeline '{path.stem}'")
        return Pipeline.load(path, settings)

    def _take(self, key: tuple[object, ...]) -> Pipeline | None:
        with self._lock:
            for pipeline, own in self._idle.items():
                if own == key:
                    del self._idle[pipeline]
                    return pipeline
        return None

    def _keep(self, pipeline: Pipeline, key: tuple[object, ...]) -> None:
        with self._lock:
            self._idle[pipeline] = key
            while len(self._idle) > _IDLE_PIPELINES:
                self._idle.popitem(last=False)


def _refuse_reserved(pipeline: Pipeline, settings: Mapping[str, str]) -> None:
    """Keep hosts on the network from naming files and archives, and bundles that are not installed."""
    for label, stage in zip(pipeline.labels, pipeline.stages, strict=True):
        own = f"{label}."
        asked = {setting[len(own) :].split(".")[0] for setting in settings if setting.startswith(own)}
        for name in sorted(asked & type(stage.config).reserved()):
            raise StageConfigError(
                f"'{label}.{name}' cannot be set from the network: set it in a pipeline of the server's folder"
            )
        for name in sorted(asked & type(stage.config).BUNDLES):
            _refuse_folders(f"{label}.{name}", getattr(stage.config, name))


def _refuse_folders(setting: str, value: str | Iterable[str]) -> None:
    """Keep hosts from having any folder of this machine opened as a bundle."""
    installed = available_bundles()
    for name in (value,) if isinstance(value, str) else value:
        if split_pin(name)[0] not in installed:
            raise StageConfigError(
                f"{shown(name)} cannot be set as '{setting}' from the network, which takes names of installed "
                f"bundles only: {', '.join(installed) or 'there are none'}"
            )
