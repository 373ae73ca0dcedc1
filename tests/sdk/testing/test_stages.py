"""The conformance tests find what they are for: each faulty stage below fails the test named beside it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ConfigDict

from scanside.context import Context
from scanside.errors import StageError
from scanside.items import Image, KSpace, Readouts
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.testing import StageTests

TESTS = [name for name in dir(StageTests) if name.startswith("test_")]


class Good(Stage[Image, Image]):
    """Does everything right, with a setting."""

    class Config(StageConfig):
        """Settings.

        Attributes:
            factor: what to multiply by.
        """

        factor: float = 2.0

    config: Config

    def process(self, item: Image) -> Iterator[Image]:
        yield item.replace(data=self.config.factor * item.data)


class TakesAnything(Good):
    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        super().__init__()


class Undescribed(Good):
    class Config(StageConfig):
        mystery: float = 2.0
        factor: float = 1.0


class Lossy(Good):
    class Config(Good.Config):
        """Settings.

        Attributes:
            weights: which JSON cannot hold.
        """

        model_config = ConfigDict(ser_json_inf_nan="null")
        weights: float = float("inf")


class Silent(Good):
    def process(self, item: Image) -> Iterable[Image]:
        return ()


class NotFinite(Good):
    def process(self, item: Image) -> Iterator[Image]:
        yield item.replace(data=item.data * torch.nan)


class InPlace(Good):
    def process(self, item: Image) -> Iterator[Image]:
        item.data *= 2
        yield item


class Random(Good):
    made = 0

    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        type(self).made += 1
        self.generator = torch.Generator().manual_seed(self.made)

    def process(self, item: Image) -> Iterator[Image]:
        yield item.replace(data=item.data * torch.rand(1, generator=self.generator))


class Hangs(Good):
    def process(self, item: Image) -> Iterator[Image]:
        threading.Event().wait(2)
        yield item


class Unmarked(Good):
    def process(self, item: Image) -> Iterator[Image]:
        yield Image(item.data, item.header)


class NeedsOpen(Good):
    def open(self, scan: Scan) -> None:
        self.scan = scan

    def close(self) -> None:
        del self.scan


class Counts(Good):
    """Numbers its images, and goes on in the next scan."""

    n = 0

    def process(self, item: Image) -> Iterator[Image]:
        self.n += 1
        header = item.header.copy()
        header["image_index"] = self.n
        yield item.replace(header=header)


class ForgetsAtTheEnd(Counts):
    """Cleans up in finish() only, which an error skips."""

    def finish(self, end: ScanEnd) -> Iterable[Image]:
        self.n = 0
        return ()


class RemembersEarlier(Good):
    """Uses the scaling of the first image that it ever saw."""

    scale: float | None = None

    def process(self, item: Image) -> Iterator[Image]:
        if self.scale is None:
            self.scale = float(item.data.abs().max())
        yield item.replace(data=item.data / self.scale)


class SharesState(Good):
    """Keeps the scan's state in the class."""

    largest: list[float] = []  # noqa: RUF012 — the fault

    def open(self, scan: Scan) -> None:
        self.largest.clear()

    def process(self, item: Image) -> Iterator[Image]:
        self.largest.append(float(item.data.abs().max()))
        yield item.replace(data=item.data / max(self.largest))


class Last(Stage[Readouts, Readouts]):
    """Gives the largest block at the end."""

    def open(self, scan: Scan) -> None:
        self.kept: list[Readouts] = []

    def process(self, item: Readouts) -> Iterable[Readouts]:
        self.kept.append(item.copy())
        return ()

    def finish(self, end: ScanEnd) -> Iterable[Readouts]:
        return self.kept

    def close(self) -> None:
        self.kept = []


class KeepsViews(Last):
    def process(self, item: Readouts) -> Iterable[Readouts]:
        self.kept.append(item)
        return ()


class KeepsHeaders(Last):
    def process(self, item: Readouts) -> Iterable[Readouts]:
        self.kept.append(Readouts(item.headers, item.samples.copy()))
        return ()


class NeedsItems(Last):
    def finish(self, end: ScanEnd) -> Iterable[Readouts]:
        yield self.kept[-1]


class BlockMean(Last):
    """Takes what is true of a block for what is true of the scan."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        yield item.with_samples(item.samples - item.samples.mean(axis=0))


class WrongHeaders(Last):
    def process(self, item: Readouts) -> Iterator[Readouts]:
        yield Readouts(item.headers, item.samples[:, :2])


class Collects(Stage[Readouts, Image]):
    """One image of all samples, without a word about those that did not come."""

    def open(self, scan: Scan) -> None:
        self.total = 0.0

    def process(self, item: Readouts) -> Iterable[Image]:
        self.total += float(np.abs(item.samples.astype(np.complex128)).sum())
        return ()

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        from scanside.testing import small_image

        if self.total:
            image = small_image()
            yield image.replace(data=image.data * self.total)


class RaisesWhenIncomplete(Good):
    def finish(self, end: ScanEnd) -> Iterable[Image]:
        if not end.complete:
            raise RuntimeError(end.reason)
        return ()


class WrongMaps(Stage[KSpace, KSpace]):
    def process(self, item: KSpace) -> Iterator[KSpace]:
        yield item.replace(coil_maps=item.data[:1])


class EditsReference(Stage[KSpace, KSpace]):
    def process(self, item: KSpace) -> Iterator[KSpace]:
        assert item.reference is not None
        item.reference.data[...] = 0
        yield item


def outcome(make: Callable[[], Stage[Any, Any]], test: str) -> str | None:
    """What a conformance test says of a stage; None where it is content."""

    class Case(StageTests):
        time_limit_s = 0.5 if make is Hangs else 60.0

        def stage(self) -> Stage[Any, Any]:
            return make()

    try:
        getattr(Case(), test)()
    except (AssertionError, StageError, AttributeError, IndexError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:
        if type(error).__name__ == "SkipTest":
            return None
        raise
    return None


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("stage", [Good, Last])
def test_good_stages_pass(stage: type[Stage[Any, Any]], test: str) -> None:
    assert outcome(stage, test) is None


@pytest.mark.parametrize(
    ("stage", "test", "said"),
    [
        (TakesAnything, "test_refuses_unknown_settings", "unknown setting was accepted"),
        (Undescribed, "test_settings_are_described", r"\['mystery', 'factor'\]"),
        (Lossy, "test_settings_survive_a_file", "weights"),
        (Silent, "test_gives_valid_items", "no results"),
        (NotFinite, "test_gives_valid_items", "NaN"),
        (WrongHeaders, "test_gives_valid_items", "with_samples"),
        (WrongMaps, "test_gives_valid_items", "coil maps"),
        (InPlace, "test_leaves_its_input_alone", "item 0 was modified: .*Image.data"),
        (EditsReference, "test_leaves_its_input_alone", "KSpace.reference"),
        (Random, "test_deterministic", "differs by"),
        (Hangs, "test_deterministic", "time_limit_s = 0.5"),
        (KeepsViews, "test_keeps_no_views", "Readouts.headers"),
        (KeepsHeaders, "test_keeps_no_views", "Readouts.headers"),
        (BlockMean, "test_block_sizes_do_not_matter", "single readouts"),
        (NeedsItems, "test_empty_scan", "IndexError"),
        (RaisesWhenIncomplete, "test_incomplete_scan", "the peer vanished"),
        (Collects, "test_incomplete_scan", "does not say so"),
        (Unmarked, "test_hands_on_that_data_are_incomplete", "does not say so"),
        (NeedsOpen, "test_close_at_any_time", "AttributeError"),
        (Counts, "test_same_scan_twice", "image_index"),
        (RemembersEarlier, "test_independent_of_earlier_scans", "Image.data"),
        (ForgetsAtTheEnd, "test_recovers_from_an_error", "broke off after 1 items"),
        (SharesState, "test_instances_share_nothing", "Image.data"),
    ],
)
def test_faults_are_found(stage: type[Stage[Any, Any]], test: str, said: str) -> None:
    found = outcome(stage, test)
    assert found is not None, f"{stage.__name__} passed {test}"
    assert re.search(said, found), found


def test_every_test_can_fail() -> None:
    (marked,) = (mark for mark in test_faults_are_found.pytestmark if mark.name == "parametrize")
    tested = {test for _, test, _ in marked.args[1]}
    # A stage without declared items fails in Pipeline already.
    assert set(TESTS) - tested == {"test_declares_items"}


def test_wrong_declaration_is_found() -> None:
    class Undeclared(Stage[int, Image]):  # type: ignore[type-var]
        def process(self, item: int) -> Iterator[Image]:
            yield from ()

    class Case(StageTests):
        def stage(self) -> Stage[Any, Any]:
            return Undeclared()

    with pytest.raises(TypeError, match="is no item"):
        Case().test_declares_items()


def test_stage_must_be_given() -> None:
    with pytest.raises(NotImplementedError, match="stage"):
        StageTests().test_declares_items()


def test_context_is_used() -> None:
    class OnlyThere(Good):
        def prepare(self, context: Context) -> None:
            assert context.device == "cpu"

    assert outcome(OnlyThere, "test_deterministic") is None
