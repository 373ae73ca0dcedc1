"""What `Pipeline.open(observe=...)` shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from scanside.items import Image, Item
from scanside.mrd.messages import ImageMessage
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage

HEADER = """<ismrmrdHeader><encoding>
<encodedSpace><matrixSize><x>4</x><y>4</y><z>1</z></matrixSize>
<fieldOfView_mm><x>4</x><y>4</y><z>1</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>4</x><y>4</y><z>1</z></matrixSize>
<fieldOfView_mm><x>4</x><y>4</y><z>1</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


class Twice(Stage[Image, Image]):
    """Gives each image twice, and holds one back until the end."""

    def process(self, item: Image) -> Iterator[Image]:
        self.last = item
        yield item
        yield item

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        yield self.last


class Double(Stage[Image, Image]):
    """Doubles the intensity."""

    def process(self, item: Image) -> Iterator[Image]:
        yield item.replace(data=2 * item.data)


def image() -> Image:
    data = torch.ones(1, 1, 4, 4)
    return Image(data, ImageMessage.from_array(data.numpy()).header)


def test_every_item_of_every_stage_is_seen_in_order() -> None:
    seen: list[tuple[str, float]] = []

    def observe(label: str, item: Item) -> None:
        assert isinstance(item, Image)
        seen.append((label, float(item.data.max())))

    pipeline = Pipeline([Twice(), Double()], input=[Image])
    with pipeline.open(Scan.from_xml(HEADER), observe=observe) as run:
        results = [*run.push(image()), *run.finish(ScanEnd())]
    assert len(results) == 3
    assert seen == [("twice", 1.0), ("double", 2.0)] * 3


def test_its_error_is_no_stage_error() -> None:
    def observe(label: str, item: Item) -> None:
        raise ZeroDivisionError

    pipeline = Pipeline([Double()], input=[Image])
    with pipeline.open(Scan.from_xml(HEADER), observe=observe) as run, pytest.raises(ZeroDivisionError):
        list(run.push(image()))
