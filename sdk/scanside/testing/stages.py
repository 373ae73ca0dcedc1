"""What every stage must do, as tests that a stage's own tests inherit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from unittest import SkipTest

import numpy as np

from scanside.context import Context
from scanside.errors import StageConfigError
from scanside.items import Calibration, Image, Item, KSpace, Readouts, Samples, Waveform, item_types
from scanside.mrd.dtypes import ACQUISITION_HEADER, IMAGE_HEADER
from scanside.pipeline import Pipeline, PipelineRun
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage
from scanside.testing.compare import altered, copy_of, difference, joined
from scanside.testing.small import (
    small_image,
    small_kspace,
    small_readouts,
    small_scan,
    small_waveform,
)

__all__ = ["StageTests"]

T = TypeVar("T")


class StageTests:
    """Tests that certify a stage; say how to make the stage and inherit them.

    ::

        from scanside.testing import StageTests, small_kspace

        class TestDenoise(StageTests):
            def stage(self):
                return Denoise(strength=0.1)

            def items(self):  # only where the default items do not suit the stage
                return [small_kspace(coil_maps=True)]

    They run the stage in a `Pipeline` of its own, so that whatever a pipeline refuses is found as well. The
    default scan and items are those of `scanside.testing.small`.

    Attributes:
        rtol: how far results of equal input may be apart, relative to the largest value; 0 asks for equality.
            To be raised for a device or library whose sums are not reproducible.
        rtol_blocks: the same between different block sizes, where sums are taken in another order.
        time_limit_s: longest time that one pass over the items may take.
    """

    rtol: float = 0.0
    rtol_blocks: float = 1e-6
    time_limit_s: float = 60.0

    def stage(self) -> Stage[Any, Any]:
        """A new stage, the same each time."""
        raise NotImplementedError(f"{type(self).__name__} must say in stage() how its stage is made")

    def context(self) -> Context:
        """The surroundings in which it is prepared."""
        return Context(device="cpu")

    def scan(self) -> Scan:
        """The scan that `items` belong to."""
        return small_scan()

    def items(self) -> Sequence[Item]:
        """Items of one whole scan, in order, new and the same each time; the stage must make something of them."""
        kinds = self.stage().takes()
        items: list[Item] = []
        if Readouts in kinds:
            items += small_readouts()
        if Waveform in kinds:
            items.append(small_waveform())
        if KSpace in kinds:
            items += [small_kspace(repetition=i) for i in range(2)]
        if Image in kinds:
            items += [small_image(repetition=i) for i in range(2)]
        return items

    # What it is.

    def test_declares_items(self) -> None:
        """It says which items it takes and gives."""
        stage = self.stage()
        known = (*item_types().values(), Samples, Calibration)
        assert stage.takes(), "a stage must take some kind of item"
        assert set(stage.takes()) | set(stage.gives()) <= set(known)

    def test_refuses_unknown_settings(self) -> None:
        """A misspelt setting is an error that names it."""
        said = None
        try:
            type(self.stage())(no_such_setting=1)
        except StageConfigError as error:
            said = str(error)
        assert said is not None, (
            "an unknown setting was accepted: derive Config from StageConfig, and hand keyword arguments on to "
            "Stage.__init__"
        )
        assert "no_such_setting" in said, f"the error does not name the setting: {said}"

    def test_settings_are_described(self) -> None:
        """The JSON Schema of its settings has a description of each."""
        properties = self.stage().Config.model_json_schema()["properties"]
        bare = [name for name, schema in properties.items() if not schema.get("description")]
        assert not bare, (
            f"settings without a description: {bare}: add them to 'Attributes' of Config's docstring"
        )

    def test_settings_survive_a_file(self) -> None:
        """Its settings can be written as JSON and read back."""
        config = self.stage().config
        again = type(config).model_validate(json.loads(config.model_dump_json()))
        assert again == config, f"settings {config!r} came back as {again!r}"

    # One scan.

    def test_gives_valid_items(self) -> None:
        """Results are of the declared kinds, well-formed and finite, and there are some."""
        results = self._reconstruct(self._prepared(), self.items())
        assert results or not self.stage().gives(), "the scan gave no results: override items() and scan()"
        for i, result in enumerate(results):
            problem = _problem(result)
            assert problem is None, f"result {i} ({type(result).__name__}): {problem}"

    def test_deterministic(self) -> None:
        """Two new stages give the same."""
        first, second = (self._reconstruct(self._prepared(), self.items()) for _ in range(2))
        self._assert_same(second, first, "two new stages with the same items")

    def test_leaves_its_input_alone(self) -> None:
        """Whoever else holds an item finds it as it was."""
        pipeline = self._prepared()
        items, before = self.items(), [copy_of(item) for item in self.items()]
        self._reconstruct(pipeline, items)
        for i, (item, whole) in enumerate(zip(items, before, strict=True)):
            changed = difference(item, whole)
            assert changed is None, f"item {i} was modified: {changed}; work on a copy"

    def test_keeps_no_views(self) -> None:
        """Readouts are views of a receive buffer that the next block overwrites: what is kept must be copied."""
        if Readouts not in self.stage().takes():
            raise SkipTest("the stage takes no readouts")

        def overwritten(run: PipelineRun) -> list[Item]:
            results: list[Item] = []
            for item in self.items():
                lent = copy_of(item)
                results += [copy_of(result) for result in run.push(lent)]
                if isinstance(lent, Readouts):
                    _overwrite(lent)
            return results + [copy_of(result) for result in run.finish(ScanEnd())]

        results = self._with_run(self._prepared(), overwritten)
        expected = self._reconstruct(self._prepared(), self.items())
        self._assert_same(results, expected, "overwriting each block of readouts after its process()")

    def test_block_sizes_do_not_matter(self) -> None:
        """Readouts may come one by one or hundreds at once."""
        if Readouts not in self.stage().takes():
            raise SkipTest("the stage takes no readouts")
        expected = joined(self._reconstruct(self._prepared(), self.items()))
        large = joined([copy_of(item) for item in self.items()])
        single: list[Item] = []
        for item in self.items():
            blocks = (
                [item.select(slice(i, i + 1)) for i in range(len(item))]
                if isinstance(item, Readouts)
                else [item]
            )
            single += blocks
        for items, how in ((single, "single readouts"), (large, "blocks as large as possible")):
            results = joined(self._reconstruct(self._prepared(), items))
            self._assert_same(results, expected, how, self.rtol_blocks)

    # How a scan ends.

    def test_empty_scan(self) -> None:
        """A scan without items is no error, however it ends."""
        pipeline = self._prepared()
        self._reconstruct(pipeline, [])
        self._reconstruct(pipeline, [], end=ScanEnd(complete=False, reason="nothing came"))

    def test_incomplete_scan(self) -> None:
        """A scan that ended early is finished without an error, and its images say that they are incomplete."""
        items = self.items()
        end = ScanEnd(complete=False, reason="the peer vanished")

        def finished(run: PipelineRun) -> list[Item]:
            for item in items[: len(items) // 2]:
                for _ in run.push(item):
                    pass
            return list(run.finish(end))

        results = self._with_run(self._prepared(), finished)
        if Readouts in self.stage().takes():  # held-back images of other stages may be complete in themselves
            _assert_marked(results, "made from half of the readouts")

    def test_hands_on_that_data_are_incomplete(self) -> None:
        """What is made from incomplete k-space or images is incomplete as well."""
        items = [
            item.replace(incomplete="half of it is missing")
            if isinstance(item, KSpace | Samples | Image)
            else item
            for item in self.items()
        ]
        if not any(isinstance(item, KSpace | Samples | Image) for item in items):
            raise SkipTest("the stage takes neither k-space nor images")
        _assert_marked(self._reconstruct(self._prepared(), items), "made from incomplete data")

    def test_close_at_any_time(self) -> None:
        """`close` may come when `open` failed, and twice."""
        stage = self.stage()
        stage.prepare(self.context())
        stage.close()
        stage.open(self.scan())
        stage.close()
        stage.close()

    # One scan after another.

    def test_same_scan_twice(self) -> None:
        """The second time gives the same as the first."""
        pipeline = self._prepared()
        first, second = (self._reconstruct(pipeline, self.items()) for _ in range(2))
        self._assert_same(second, first, "the same scan for a second time")

    def test_independent_of_earlier_scans(self) -> None:
        """Nothing of a scan is left in the next one."""
        pipeline = self._prepared()
        self._reconstruct(pipeline, [altered(item) for item in self.items()])
        results = self._reconstruct(pipeline, self.items())
        expected = self._reconstruct(self._prepared(), self.items())
        self._assert_same(results, expected, "a scan after another one")

    def test_recovers_from_an_error(self) -> None:
        """Wherever a scan breaks off, the next one is as with a new stage."""
        expected = self._reconstruct(self._prepared(), self.items())
        pipeline = self._prepared()
        earlier = [altered(item) for item in self.items()]
        for n in sorted({0, 1, len(earlier) // 2, len(earlier)}):
            self._with_run(pipeline, partial(_break_off, items=earlier[:n]))
            results = self._reconstruct(pipeline, self.items())
            self._assert_same(results, expected, f"a scan after one that broke off after {n} items")

    def test_instances_share_nothing(self) -> None:
        """Two stages in one process, each with a scan, do not disturb each other."""
        one, other = self._prepared(), self._prepared()

        def interleaved(run: PipelineRun) -> list[Item]:
            results: list[Item] = []
            with other.open(self.scan()) as second:
                for item in self.items():
                    for _ in second.push(altered(item)):
                        pass
                    results += [copy_of(result) for result in run.push(item)]
                for _ in second.finish(ScanEnd()):
                    pass
            return results + [copy_of(result) for result in run.finish(ScanEnd())]

        results = self._with_run(one, interleaved)
        expected = self._reconstruct(self._prepared(), self.items())
        self._assert_same(results, expected, "a scan while another stage works on another one")

    # How the tests are run.

    def _prepared(self) -> Pipeline:
        """A pipeline of one new stage."""
        stage = self.stage()
        pipeline = Pipeline([stage], name="conformance", input=stage.takes())
        pipeline.prepare(self.context())
        return pipeline

    def _reconstruct(
        self, pipeline: Pipeline, items: Sequence[Item], end: ScanEnd | None = None
    ) -> list[Item]:
        """Copies of all results, each taken when it is given: a buffer may be reused for the next."""

        def whole(run: PipelineRun) -> list[Item]:
            results = [copy_of(result) for item in items for result in run.push(item)]
            return results + [copy_of(result) for result in run.finish(end or ScanEnd())]

        return self._with_run(pipeline, whole)

    def _with_run(self, pipeline: Pipeline, work: Callable[[PipelineRun], T]) -> T:
        """Do something with an opened run, in a thread of its own: a stage that hangs must not hang the tests."""
        outcome: list[T] = []
        errors: list[BaseException] = []

        def in_thread() -> None:
            try:
                with pipeline.open(self.scan()) as run:
                    outcome.append(work(run))
            except BaseException as error:  # noqa: BLE001 — raised again below
                errors.append(error)

        thread = threading.Thread(target=in_thread, name="scanside-stage-test", daemon=True)
        thread.start()
        thread.join(self.time_limit_s)
        assert not thread.is_alive(), (
            f"the stage has not ended within time_limit_s = {self.time_limit_s:g} s: does it wait for anything?"
        )
        if errors:
            raise errors[0]
        return outcome[0]

    def _assert_same(
        self, results: Sequence[Item], expected: Sequence[Item], how: str, rtol: float | None = None
    ) -> None:
        found = difference(list(results), list(expected), self.rtol if rtol is None else rtol, "results")
        assert found is None, f"{how}: {found}"


def _break_off(run: PipelineRun, items: Sequence[Item]) -> None:
    """Push items, and leave the results of the last one half taken."""
    for item in items[:-1]:
        for _ in run.push(item):
            pass
    for item in items[-1:]:
        next(iter(run.push(item)), None)


def _overwrite(readouts: Readouts) -> None:
    """What a receive buffer holds after the next block has come: something else."""
    readouts.samples[...] = np.nan
    readouts.headers.view(np.uint8)[...] = 0xA5
    if readouts.trajectory is not None:
        readouts.trajectory[...] = np.nan


def _assert_marked(results: Sequence[Item], what: str) -> None:
    for i, result in enumerate(results):
        assert not isinstance(result, KSpace | Samples | Image) or result.incomplete, (
            f"result {i} ({type(result).__name__}) was {what} and does not say so: set `incomplete`, or withhold it"
        )


def _problem(item: Item) -> str | None:
    """What is wrong with an item, or None; `Pipeline` checks kinds and dimensions already."""
    if isinstance(item, Readouts):
        return _problem_of_readouts(item)
    if isinstance(item, KSpace):
        return _problem_of_kspace(item)
    if isinstance(item, Image):
        if item.header.dtype != IMAGE_HEADER or item.header.shape:
            return f"its header is {item.header.dtype} {item.header.shape}, expected a scalar of IMAGE_HEADER"
        if not item.data.numel():
            return f"it is empty: {tuple(item.data.shape)}"
        if not (item.header["field_of_view"] > 0).all():
            return f"its field of view is {item.header['field_of_view']} mm"
        return None if bool(item.data.isfinite().all()) else "it holds NaN or infinite values"
    return None


def _problem_of_readouts(item: Readouts) -> str | None:
    headers, (n, n_coils, n_samples) = item.headers, item.samples.shape
    if not n:
        return "it holds no readouts: give nothing instead"
    if headers.dtype != ACQUISITION_HEADER or item.samples.dtype != np.complex64:
        return f"its headers are {headers.dtype}, its samples {item.samples.dtype}"
    if (headers["active_channels"] != n_coils).any() or (headers["number_of_samples"] != n_samples).any():
        return "its headers tell other sizes than its samples have: use Readouts.with_samples()"
    if (headers["center_sample"] > n_samples).any():
        return f"its center_sample lies beyond its {n_samples} samples"
    return None if np.isfinite(item.samples).all() else "it holds NaN or infinite samples"


def _problem_of_kspace(item: KSpace) -> str | None:
    import torch

    shape = tuple(item.data.shape)
    if item.data.dtype != torch.complex64 or item.mask.dtype != torch.bool:
        return f"its data are {item.data.dtype} and its mask {item.mask.dtype}, expected complex64 and bool"
    if item.headers.dtype != ACQUISITION_HEADER or item.headers.shape != tuple(item.mask.shape):
        return f"its headers are {item.headers.dtype} {item.headers.shape}, expected one per line of its mask"
    for maps in (item.coil_maps, item.second_maps):
        if maps is not None and tuple(maps.shape) != shape[-4:]:
            return f"its coil maps have shape {tuple(maps.shape)}, its data {shape}"
    if item.second_maps is not None and item.coil_maps is None:
        return "it has a second set of coil maps and no first one"
    for axis, sampled in enumerate(item.ranges or ()):
        n = shape[-1 - axis]
        if not 0 <= sampled.first <= sampled.last < n:
            return f"range {sampled} does not lie within its {n} samples along k{axis}"
    if not bool(item.data.isfinite().all()):
        return "it holds NaN or infinite samples"
    return None if item.reference is None else _problem_of_kspace(item.reference)
