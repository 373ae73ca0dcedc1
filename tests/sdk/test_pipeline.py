"""Loading pipelines, and running items through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scanside.context import Context
from scanside.errors import PipelineError, ShapeError, StageConfigError, StageError
from scanside.items import Image, Item, KSpace, Readouts, Waveform
from scanside.pipeline import (
    Pipeline,
    PipelineConfig,
    pipeline_names,
    pipeline_path,
    pipeline_schema,
)
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage
from scanside.stages.accumulate import Accumulate
from scanside.stages.finish import Finish
from scanside.stages.fourier import Fourier
from scanside.testing import small_image, small_kspace, small_readouts, small_scan, small_waveform

# Loading.


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", pipeline_names())
def test_shipped_pipelines_load_and_end_in_images(name: str) -> None:
    pipeline = Pipeline.load(name)
    assert pipeline.name == name
    assert pipeline.description
    assert Image in pipeline.output
    assert Waveform in pipeline.output  # passes by
    assert pipeline_path(name).name == f"{name}.yaml"


def test_there_are_shipped_pipelines() -> None:
    assert {"fft", "grappa", "grappa-filtered", "sense"} <= set(pipeline_names())


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: mine\nstages:\n- accumulate:\n- filter: {k0: none, sigma: 2}\n- filter\n- fourier\n- finish\n",
    )
    pipeline = Pipeline.load(path)
    assert pipeline.labels == ("accumulate", "filter", "filter#2", "fourier", "finish")
    assert pipeline.stages[1].config.sigma == 2
    assert pipeline.stages[2].config.sigma == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: [", r"pipeline .*mine\.yaml is not valid YAML: while parsing"),
        ("", "holds NoneType, expected a mapping with 'stages'"),
        ("- grappa\n- finish\n", "holds list, expected a mapping"),
        ("name: x\n", "mine.yaml.stages is missing"),
        ("stages: [finish]\n", "mine.yaml.name is missing"),
        ("name: x\nstages: []\n", "at least 1 item"),
        ("name: x\nstages: finish\n", "expected a list of stages"),
        ("name: x\nstages: {finish: {}}\n", "expected a list of stages"),
        (
            "name: x\nstages: [finish]\nstage: 1\n",
            "has no setting 'stage'; it has: name, description, input, stages",
        ),
        ("name: x\n1: y\nstages: [finish]\n", "Keys should be strings"),
        ("name: x\nstages: [finish, 3]\n", "stage 2 is 3; expected a name, or a name with its settings"),
        ("name: x\nstages: [{finish: 3}]\n", "stage 1 is {'finish': 3}; expected"),
        ("name: x\nstages: [{finish: {1: 2}}]\n", "stage 1 is {'finish': {1: 2}}; expected"),
        ("name: x\nstages: [{finish: {}, fourier: {}}]\n", "stage 1 is .*; expected"),
        ("name: x\nstages: [[finish, 3]]\n", "stage 1 is .*; expected"),
        (
            "name: x\ninput: [images]\nstages: [finish]\n",
            "'images' is no kind of item; known are: readouts, waveform",
        ),
        ("name: x\nstages: [acumulate]\n", "there is no stage 'acumulate': did you mean 'accumulate'"),
        (
            "name: x\nstages: [fourier]\n",
            "stage 'fourier' takes KSpace, but the input gives Readouts and Waveform",
        ),
        (
            "name: x\nstages: [accumulate, finish]\n",
            "stage 'finish' takes Image, but stage 'accumulate' before it gives Waveform and KSpace",
        ),
        (
            "name: x\nstages: [accumulate, fourier, filter]\n",
            "stage 'filter' takes KSpace, but stage 'fourier' before it gives Waveform and Image",
        ),
    ],
)
def test_pipelines_that_cannot_work(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        Pipeline.load(write(tmp_path, text))


def test_not_even_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(PipelineError, match="is not valid YAML"):
        Pipeline.load(path)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    marker = tmp_path / "made"
    with pytest.raises(PipelineError, match="is not valid YAML"):
        Pipeline.load(write(tmp_path, f"name: !!python/object/apply:pathlib.Path.touch [{marker}]\n"))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grapa", "there is no pipeline 'grapa': known are .*fft, .*end in .yaml"),
        ("no/such.yaml", r"there is no pipeline file no/such\.yaml"),
        ("../pipelines/fft", "there is no pipeline"),
    ],
)
def test_unknown_pipeline(name: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        Pipeline.load(name)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            "{finish: {scalling: none}}",
            "stage 'finish': Finish has no setting 'scalling'; it has: kind, scaling",
        ),
        (
            "{finish: {scaling: most}}",
            "stage 'finish': Finish.scaling = 'most': .*'none', 'factor', 'fill' or 'scan'",
        ),
    ],
)
def test_wrong_settings_in_a_file(tmp_path: Path, stage: str, said: str) -> None:
    with pytest.raises(StageConfigError, match=rf"mine\.yaml, {said}"):
        Pipeline.load(write(tmp_path, f"name: x\ninput: [image]\nstages: [{stage}]\n"))


def test_settings_can_be_changed() -> None:
    document = {"name": "x", "stages": ["accumulate", {"filter": {"sigma": 2.0}}, "filter", "fourier"]}
    changed = {
        "filter.sigma": "3.5",
        "filter#2.k0": "none",
        "accumulate.together": "[phase, set]",
        "fourier.combine": "maps",
    }
    pipeline = Pipeline.from_config(document, changed)
    accumulate, first, second, fourier = (stage.config for stage in pipeline.stages)
    assert (first.sigma, second.sigma) == (3.5, 1.0)
    assert (first.k0, second.k0) == ("gaussian", "none")
    assert accumulate.together == ("phase", "set")
    assert fourier.combine == "maps"
    assert document["stages"][1] == {"filter": {"sigma": 2.0}}  # what was given stays as it was


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "finish",
            1,
            "'finish' names no setting of this pipeline: write stage.setting .*: noise, accumulate",
        ),
        ("grappa.kernel_k1", 4, "'grappa.kernel_k1' names no setting of this pipeline"),
        ("finish.sereis", "4", "stage 'finish': Finish has no setting 'sereis'"),
        ("finish.series", "four", "Finish.series = 'four'"),
        ("finish.series", "[1,", "the value '\\[1,' of 'finish.series' is not valid YAML"),
    ],
)
def test_wrong_changes(key: str, value: object, said: str) -> None:
    with pytest.raises(StageConfigError, match=said):
        Pipeline.load("fft", {key: value})


def test_config_in_python_and_back() -> None:
    config = PipelineConfig(name="x", stages=["accumulate", {"fourier": {"combine": "rss"}}])
    assert config.stages == (("accumulate", {}), ("fourier", {"combine": "rss"}))
    assert PipelineConfig.model_validate(config.model_dump()) == config
    assert Pipeline.from_config(config).labels == ("accumulate", "fourier")


# JSON Schema.


def accepts(schema: dict[str, Any], value: object, definitions: dict[str, Any]) -> bool:
    """Whether a JSON Schema accepts a value, for the few keywords that decide about names."""
    if "$ref" in schema:
        return accepts(definitions[schema["$ref"].removeprefix("#/$defs/")], value, definitions)
    if "anyOf" in schema:
        return any(accepts(one, value, definitions) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"object": dict, "array": list, "string": str, "null": type(None), "number": int | float}
    if not isinstance(value, kinds.get(schema.get("type", ""), object)):
        return False
    if isinstance(value, dict):
        if "properties" not in schema:  # a mapping of any names to one kind
            others = schema.get("additionalProperties", True)
            return others is True or all(accepts(others, one, definitions) for one in value.values())
        properties = schema["properties"]
        return set(schema.get("required", ())) <= set(value) <= set(properties) and all(
            accepts(properties[name], one, definitions) for name, one in value.items()
        )
    if isinstance(value, list):
        return all(accepts(schema["items"], one, definitions) for one in value)
    return True


@pytest.mark.parametrize("name", pipeline_names())
def test_schema_accepts_shipped_pipelines(name: str) -> None:
    schema = pipeline_schema()
    document = yaml.safe_load(pipeline_path(name).read_text("utf-8"))
    assert accepts(schema, document, schema["$defs"])
    # The little validator does refuse what is wrong.
    for wrong in (
        {**document, "stage": []},
        {**document, "input": ["images"]},
        {**document, "stages": [*document["stages"], "finnish"]},
        {**document, "stages": [{"finish": {"scalling": "none"}}]},
        {**document, "stages": [{"filter": {"k0": "boxcar"}}]},
        {"name": "x"},
    ):
        assert not accepts(schema, wrong, schema["$defs"]), wrong


def test_schema_describes_everything() -> None:
    schema = pipeline_schema()
    assert "grappa" in schema["properties"]["stages"]["items"]["anyOf"][0]["enum"]
    described = {
        name: entry
        for entry in schema["properties"]["stages"]["items"]["anyOf"][1:]
        for name in entry["properties"]
    }
    assert {"accumulate", "sense"} <= set(described)
    assert described["sense"]["description"].startswith("Solves for the image")
    for definition in schema["$defs"].values():
        assert all(setting["description"] for setting in definition.get("properties", {}).values())


# Building in Python.


class Probe(Stage[Any, Any]):
    """Writes down what happens to it; takes images and gives each again."""

    def __init__(self, log: list[str], name: str = "probe", fail: str = "") -> None:
        super().__init__()
        self._log, self._name, self._fail = log, name, fail

    @classmethod
    def takes(cls) -> tuple[type, ...]:
        return (Image,)

    gives = takes

    def _note(self, what: str) -> None:
        self._log.append(f"{self._name}.{what}")
        if self._fail == what:
            raise RuntimeError(f"{what} failed")

    def prepare(self, context: Context) -> None:
        self._note("prepare")

    def open(self, scan: Scan) -> None:
        self._note("open")

    def process(self, item: Image) -> Iterator[Image]:
        self._note("process")
        yield item

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        self._note(f"finish {end.complete}")
        self._note("finish")
        yield small_image(repetition=7)

    def close(self) -> None:
        self._note("close")


def run_whole(pipeline: Pipeline, items: Iterable[Item]) -> list[Item]:
    with pipeline.open(small_scan()) as run:
        return [result for item in items for result in run.push(item)] + list(run.finish(ScanEnd()))


def test_life_cycle_in_order() -> None:
    log: list[str] = []
    pipeline = Pipeline([Probe(log, "a"), Probe(log, "b")], input=[Image])
    assert pipeline.labels == ("probe", "probe#2")
    pipeline.prepare(Context(device="cpu"))
    scan = small_scan()
    with pipeline.open(scan) as run:
        assert len(list(run.push(small_image()))) == 1
        assert len(list(run.finish(ScanEnd(complete=False, reason="gone")))) == 2
    assert scan.pipeline == "custom"
    assert log == [
        *("a.prepare", "b.prepare", "a.open", "b.open", "a.process", "b.process"),
        *("a.finish False", "a.finish", "b.process", "b.finish False", "b.finish", "a.close", "b.close"),
    ]


def test_stage_that_cannot_be_prepared() -> None:
    pipeline = Pipeline([Probe([], fail="prepare")], input=[Image])
    with pytest.raises(StageError, match="stage 'probe': RuntimeError: prepare failed"):
        pipeline.prepare(Context(device="cpu"))


def test_failing_open_closes_what_was_opened() -> None:
    log: list[str] = []
    stages = [Probe(log, "a", fail="close"), Probe(log, "b", fail="open"), Probe(log, "c")]
    pipeline = Pipeline(stages, input=[Image])
    with (
        pytest.raises(StageError, match="stage 'probe#2': RuntimeError: open failed"),
        pipeline.open(small_scan()),
    ):
        pytest.fail("must not get here")
    assert log == ["a.open", "b.open", "a.close", "b.close"]


@pytest.mark.parametrize("fail", ["process", "finish"])
def test_all_are_closed_after_an_error(fail: str) -> None:
    log: list[str] = []
    pipeline = Pipeline([Probe(log, "a", fail=fail), Probe(log, "b")], input=[Image])
    with pytest.raises(StageError, match=f"stage 'probe': RuntimeError: {fail} failed"):
        run_whole(pipeline, [small_image()])
    assert log[-2:] == ["a.close", "b.close"]


def test_failing_close_is_told_unless_something_worse_was() -> None:
    log: list[str] = []
    pipeline = Pipeline([Probe(log, "a", fail="close"), Probe(log, "b")], input=[Image])
    with pytest.raises(StageError, match="close failed"), pipeline.open(small_scan()):
        pass
    assert log[-2:] == ["a.close", "b.close"]
    with pytest.raises(ZeroDivisionError), pipeline.open(small_scan()):
        raise ZeroDivisionError


def test_two_scans_one_after_the_other() -> None:
    log: list[str] = []
    pipeline = Pipeline([Probe(log)], input=[Image])
    for _ in range(2):
        with pipeline.open(small_scan()) as run:
            list(run.push(small_image()))
    assert log == ["probe.open", "probe.process", "probe.close"] * 2


# Items on their way.


class Twice(Stage[Image, Image]):
    def process(self, item: Image) -> Iterator[Image]:
        yield item
        yield item.replace(data=-item.data)


def test_items_of_other_kinds_pass_by_in_order() -> None:
    items: list[Item] = [
        small_waveform(), small_image(), small_readouts()[0], small_kspace(), small_image(), small_waveform()
    ]  # fmt: skip
    pipeline = Pipeline([Twice(), Finish()], input=[Image, Waveform, KSpace, Readouts])
    with pipeline.open(small_scan()) as run:
        results = [[type(result) for result in run.push(item)] for item in items]
        assert results == [[Waveform], [Image, Image], [Readouts], [KSpace], [Image, Image], [Waveform]]
        assert next(run.push(items[0])) is items[0]


def test_results_come_as_soon_as_they_are_ready() -> None:
    """Nothing is collected: the first image leaves before the second is made."""
    order: list[str] = []

    class Notes(Stage[Image, Image]):
        def process(self, item: Image) -> Iterator[Image]:
            for i in range(2):
                order.append(f"made {i}")
                yield item

    with Pipeline([Notes()], input=[Image]).open(small_scan()) as run:
        order.extend("left" for _ in run.push(small_image()))
    assert order == ["made 0", "left", "made 1", "left"]


def test_a_whole_reconstruction() -> None:
    pipeline = Pipeline([Accumulate(), Fourier(), Finish()], name="mine")
    pipeline.prepare(Context(device="cpu"))
    (image,) = run_whole(pipeline, small_readouts())
    assert isinstance(image, Image)
    assert image.data.shape == (1, 1, 24, 24)
    assert image.meta["ScansidePipeline"] == ["mine"]


def faulty(give: Callable[[Image], Any], gives: Any = Image) -> Stage[Any, Any]:
    class Faulty(Stage[Image, gives]):  # type: ignore[valid-type]
        def process(self, item: Image) -> Any:
            return give(item)

    return Faulty()


def raises(item: Image) -> Iterable[Image]:
    raise KeyError("coil 7")


def raises_late(item: Image) -> Iterator[Image]:
    yield item
    raise ShapeError("too late")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (faulty(raises), "KeyError: 'coil 7'"),
        (faulty(raises_late), "too late"),
        (faulty(lambda item: None), "it gave NoneType, expected an iterable of items: yield them"),
        (faulty(lambda item: item), "it gave Image, expected an iterable of items"),
        (faulty(lambda item: [item, None]), "it gave NoneType, but it is declared to give Image"),
        (faulty(lambda item: [item.data]), "it gave Tensor, but it is declared to give Image"),
        (faulty(lambda item: "ab"), "it gave str, but"),
        (faulty(lambda item: [small_kspace()]), "it gave KSpace, but it is declared to give Image"),
        (faulty(lambda item: [item], None), "it gave Image, but it is declared to give nothing"),
        (
            faulty(lambda item: [item.replace(data=item.data[0])]),
            r"it gave an image of shape \(1, 24, 24\), expected \(channel, z, y, x\)",
        ),
        (faulty(lambda item: [item.replace(data=None)]), "AttributeError"),
        (
            faulty(lambda item: [small_kspace().replace(data=torch.zeros(4, 24, 24))], KSpace),
            r"it gave k-space of shape \(4, 24, 24\) with a mask of shape \(1, 24\)",
        ),
        (
            faulty(lambda item: [small_kspace().replace(other=("phase",))], KSpace),
            r"leading axes \('phase',\); expected data \(\*other, coil, k2, k1, k0\)",
        ),
        (
            faulty(lambda item: [small_kspace().replace(mask=torch.ones(1, 23, dtype=torch.bool))], KSpace),
            r"a mask of shape \(1, 23\)",
        ),
    ],
)
def test_nonsense_is_an_error_of_the_stage(stage: Stage[Any, Any], said: str) -> None:
    pipeline = Pipeline([stage], input=[Image], labels=["mine"])
    with (
        pipeline.open(small_scan()) as run,
        pytest.raises(StageError, match=f"stage 'mine': .*{said}") as caught,
    ):
        list(run.push(small_image()))
    assert caught.value.__cause__ is caught.value.cause


def test_an_error_says_which_stage_and_which_readout() -> None:
    class Fragile(Stage[Readouts, Readouts]):
        def process(self, item: Readouts) -> Iterator[Readouts]:
            if item.headers["scan_counter"][0] >= 13:
                raise ShapeError("no")
            yield item

    class Through(Stage[Readouts, Readouts]):
        def process(self, item: Readouts) -> Iterator[Readouts]:
            yield item

    pipeline = Pipeline([Through(), Fragile(), Through()])
    with pytest.raises(StageError) as caught:
        run_whole(pipeline, small_readouts())
    assert str(caught.value) == "stage 'fragile', in the block that ends with scan counter 17: no"
    assert (caught.value.stage, caught.value.scan_counter) == ("fragile", 17)


def test_an_interrupt_is_no_stage_error() -> None:
    def interrupted(item: Image) -> Iterable[Image]:
        raise KeyboardInterrupt

    with (
        Pipeline([faulty(interrupted)], input=[Image]).open(small_scan()) as run,
        pytest.raises(KeyboardInterrupt),
    ):
        list(run.push(small_image()))
