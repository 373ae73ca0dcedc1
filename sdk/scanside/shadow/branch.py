"""A chain of stages inside a stage: from k-space to finished images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from scanside.context import Context
from scanside.errors import PipelineError
from scanside.items import Image, Item, KSpace
from scanside.outline import Outline
from scanside.pipeline import Pipeline, PipelineRun
from scanside.scan import Scan, ScanEnd
from scanside.stage import Expected

__all__ = ["Branch", "StageEntry"]

StageEntry: TypeAlias = str | dict[str, dict[str, Any] | None]
"""A stage as in a pipeline file: its name, or a mapping of its name to its settings."""


class Branch:
    """Stages from k-space to images, run for one scan at a time.

    Args:
        name: of the setting that lists them, for errors.
        stages: in order.

    Raises:
        PipelineError: a stage is not known, or they do not fit, or they do not end in images.
        StageConfigError: a setting of a stage is wrong.
    """

    def __init__(self, name: str, stages: Sequence[StageEntry]) -> None:
        document = {"name": name, "input": ["kspace"], "stages": list(stages)}
        self._pipeline = Pipeline.from_config(document, where=f"'{name}'")
        if Image not in self._pipeline.output:
            raise PipelineError(
                f"the stages in '{name}' end without images: the last of them is to be 'finish'"
            )
        self._run: PipelineRun | None = None

    def prepare(self, context: Context) -> None:
        """Get every stage ready, once per worker."""
        self._pipeline.prepare(context)

    def expect(self, expected: Expected) -> None:
        """Get every stage ready for a scan, where nobody waits."""
        for stage in self._pipeline.stages:
            expected = stage.expect(expected)

    def foresee(self, outline: Outline) -> Outline:
        """What speaks against the branch."""
        return self._pipeline.foresee(outline)

    def outdated(self) -> list[str]:
        """What has changed since `prepare`."""
        return [why for stage in self._pipeline.stages for why in stage.outdated()]

    def open(self, scan: Scan) -> None:
        """A scan begins; images are to name the pipeline that the branch is a part of."""
        self._pipeline.name = scan.pipeline
        self._run = None
        run = self._pipeline.open(scan)
        run.__enter__()
        self._run = run

    def images(self, item: KSpace) -> Iterator[Image]:
        """The images of a k-space."""
        return _images(self._opened.push(item))

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """The images that were held back."""
        return _images(self._opened.finish(end))

    def close(self) -> None:
        """Forget the scan; also one that was never opened."""
        run, self._run = self._run, None
        if run is not None:
            run.__exit__(None, None, None)

    @property
    def _opened(self) -> PipelineRun:
        assert self._run is not None, "open() comes first"
        return self._run


def _images(items: Iterable[Item]) -> Iterator[Image]:
    return (item for item in items if isinstance(item, Image))
