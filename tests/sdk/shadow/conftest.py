"""Scans through stages with branches, and a branch that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanside import Context, Scan, ScanEnd
from scanside.items import Image, KSpace
from scanside.pipeline import Pipeline
from scanside.stage import Stage
from scanside.stages.sense import Sense
from scanside.testing import small_kspace, small_scan


class Runs:
    """Ways to reconstruct the small scan."""

    fourier: tuple[Any, ...] = ("fourier", "finish")
    sense: tuple[Any, ...] = ("coil-maps", "sense", "finish")

    def __call__(
        self, stage: Stage[Any, Any], n: int = 2, *, prepare: bool = True
    ) -> tuple[list[Image], Scan]:
        """Images of a scan through a stage, and the scan."""
        scan = small_scan()
        if prepare:
            stage.prepare(Context(device="cpu"))
        stage.open(scan)
        images: list[Image] = []
        try:
            for i in range(n):
                images += stage.process(small_kspace(repetition=i))
            images += stage.finish(ScanEnd())
        finally:
            stage.close()
        return images, scan

    def alone(self, stages: tuple[Any, ...], n: int = 2) -> list[Image]:
        """What a branch gives as a pipeline of its own."""
        pipeline = Pipeline.from_config({"name": "small", "input": ["kspace"], "stages": list(stages)})
        pipeline.prepare(Context(device="cpu"))
        with pipeline.open(small_scan()) as run:
            pushed = (image for i in range(n) for image in run.push(small_kspace(repetition=i)))
            return [image for image in pushed if isinstance(image, Image)]


@pytest.fixture
def run() -> Runs:
    return Runs()


@pytest.fixture
def sense_raises(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """While the list holds an exception, CG-SENSE raises it."""
    raised: list[Exception] = []
    whole = Sense.process

    def process(self: Sense, item: KSpace) -> Iterator[Image]:
        if raised:
            raise raised[0]
        yield from whole(self, item)

    monkeypatch.setattr(Sense, "process", process)
    return raised


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shadow"
