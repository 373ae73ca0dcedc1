"""Evaluations by many workers: the same figures as by one process, and nothing is made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanside.errors import ConfigError, RunError
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.simulate import GeometryConfig, PhantomConfig, SamplingConfig, ScanConfig, simulate
from scanside.testing.pools import ThisProcess
from scanside_training.evaluation import (
    Evaluation,
    EvaluationConfig,
    compare,
    compare_many,
    load_evaluation,
)
from scanside_training.evaluation.floor import FloorConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fully sampled recordings of one and of two slices."""
    folder = tmp_path_factory.mktemp("files")
    for name, n_slices in (("one", 1), ("two", 2)):
        scan = simulate(
            ScanConfig(
                phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
                geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=n_slices),
                sampling=SamplingConfig(acceleration=(1, 1)),
            )
        )
        with Hdf5Writer(folder / f"{name}.h5", scan.header_xml) as writer:
            for item in scan.items():
                writer.write(item)
    return folder


@pytest.fixture
def config(files: Path, tmp_path: Path) -> EvaluationConfig:
    drawn = {"patterns": ["random"], "acceleration": [2, 2], "acs": [12, 12]}
    document = {
        "name": "test",
        "data": {
            "kind": "mrd",
            "root": str(files),
            "files": {"first": "two.h5", "second": "one.h5"},
            "masks": {"drawn": drawn, "again": drawn},
        },
        "candidates": [{"kind": "zero-filled"}, {"kind": "grappa"}, {"kind": "pipeline", "pipeline": "fft"}],
        "pictures": 2,
        "worst": 0,
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(document))
    return load_evaluation(tmp_path / "e.yaml")


def figures(result: Evaluation) -> Any:
    document = json.loads(result.as_json())
    return {name: document[name] for name in ("candidates", "images", "failures", "summaries")}


def test_the_same_as_by_one_process(config: EvaluationConfig, tmp_path: Path) -> None:
    pool = ThisProcess()
    seen: list[tuple[int, int, int]] = []
    many = compare_many(config, pool, tmp_path, on_progress=lambda *told: seen.append(told))
    one = compare(config)
    assert figures(many) == figures(one)
    assert [shown.case.name for shown in many.shown] == [shown.case.name for shown in one.shown]
    for ours, theirs in zip(many.shown, one.shown, strict=True):
        assert ours.images.keys() == theirs.images.keys()
        assert all(bool((ours.images[name] == theirs.images[name]).all()) for name in ours.images)
    assert one.failures  # GRAPPA takes no random lines
    assert seen[-1] == (12, 6, 18)

    # A second run reads no file to count its slices, and makes what is shown and what failed.
    again = ThisProcess()
    assert figures(compare_many(config, again, tmp_path)) == figures(one)
    assert len(pool.payloads) == 2 + 18
    assert len(again.payloads) == 6 + 2 * 2
    other = config.model_copy(update={"data": config.data.model_copy(update={"seed": 1}), "pictures": 0})
    changed = ThisProcess()
    compare_many(other, changed, tmp_path)
    assert len(changed.payloads) == 18


def test_the_worst_are_shown_and_single_candidates_made_again(
    config: EvaluationConfig, tmp_path: Path
) -> None:
    floor = FloorConfig(learned=("pipeline fft",), classical=("zero-filled", "GRAPPA"), worst=2)
    config = config.model_copy(update={"floor": floor, "pictures": 0})
    many = compare_many(config, ThisProcess(), tmp_path)
    one = compare(config)
    assert [shown.case.name for shown in many.worst] == [shown.case.name for shown in one.worst]
    assert [list(shown.images) for shown in many.worst] == [["pipeline fft", "zero-filled"]] * 2
    assert json.loads(many.as_json())["floor"] == json.loads(one.as_json())["floor"]
    assert not many.worst_of
    pool = ThisProcess()
    compare_many(config, pool, tmp_path, again=["zero-filled"])
    # All of one candidate, what failed, and the worst to be shown.
    assert len(pool.payloads) == 6 + 6 + 4


def test_the_worst_of_each_are_those_of_one_process(config: EvaluationConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"worst": 2, "pictures": 0})
    many, one = compare_many(config, ThisProcess(), tmp_path), compare(config)
    assert list(many.worst_of) == list(one.worst_of) == ["zero-filled", "pipeline fft"]
    for name, shown in many.worst_of.items():
        assert [each.case.name for each in shown] == [each.case.name for each in one.worst_of[name]]
        values = {each.case: each.values["psnr"] for each in one.scores if each.candidate == name}
        assert [each.case.name for each in shown] == sorted(values, key=values.__getitem__)[:2]
        assert [list(each.images) for each in shown] == [[name], [name]]


def test_volumes_need_one_process(config: EvaluationConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave --workers and --ray out"):
        compare_many(config.model_copy(update={"by": ("volume",)}), ThisProcess(), tmp_path)


def test_what_cannot_be_compared(config: EvaluationConfig, files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no candidates"):
        compare_many(config.model_copy(update={"candidates": ()}), ThisProcess(), tmp_path)
    (tmp_path / "no-scan.h5").write_text("nothing")
    names = {"first": files / "one.h5", "second": tmp_path / "no-scan.h5"}
    broken = config.model_copy(update={"data": config.data.model_copy(update={"files": names})})
    with pytest.raises(RunError, match=r"no-scan\.h5 cannot be read: .* neither an ISMRMRD HDF5 file"):
        compare_many(broken, ThisProcess(), tmp_path)
