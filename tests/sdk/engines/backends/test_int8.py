"""Engines in int8, by NNCF for OpenVINO."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scanside.engines.backends.eager import Eager
from scanside.engines.backends.int8 import inner_convolutions
from scanside.engines.backends.openvino import OpenVino
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles, find_bundle
from scanside.engines.check import relative_error
from scanside.engines.graph import GraphSource
from scanside.engines.probes import read_cases
from scanside.errors import EngineError
from scanside.testing.backends import small_inputs, small_source


@pytest.fixture(scope="module")
def openvino() -> OpenVino:
    """The backend, where it computes in int8."""
    one = OpenVino()
    if (reason := one.available() or one.lacks(small_source(), "int8")) is not None:
        pytest.skip(reason)
    if "int8" not in one.precisions():
        pytest.skip("this CPU has no int8")
    return one


def _error(one: OpenVino, source: GraphSource, inputs: tuple[torch.Tensor, ...], path: Path) -> float:
    one.build(source, "int8", path)
    return relative_error(
        one.load(path, source, "int8")(*inputs), Eager().load(path, source, "fp32")(*inputs)
    )


def test_first_and_last_convolutions_of_a_part_are_told_from_those_within() -> None:
    assert inner_convolutions(small_source().program("bf16")) == {0: False, 1: True, 2: False}


@pytest.mark.slow
def test_of_every_network_between_two_steps_of_data_consistency() -> None:
    """Five U-Nets one after another: of each the first and the last convolution are left alone."""
    inner = inner_convolutions(Bundle.open(find_bundle("multicoil-unrolled")).graph("bf16"))
    outer = [rank for rank, is_inner in inner.items() if not is_inner]
    assert len(outer) == 10
    assert outer[0] == 0
    assert outer[-1] == max(inner)
    assert all(last + 1 == first for last, first in zip(outer[1:-1:2], outer[2::2], strict=True))


@pytest.mark.parametrize("name", sorted(available_bundles()))
def test_bundles_bring_cases_that_are_none_of_those_they_are_judged_on(name: str) -> None:
    bundle = Bundle.open(available_bundles()[name])
    cases, judged = (
        read_cases(bundle.manifest.task, vectors, bundle.manifest.lowering)
        for vectors in (bundle.calibration(), bundle.vectors())
    )
    assert len(cases) == 3
    for case in cases.values():
        assert float(case["truth"].std()) > 0.05
        same = [one for one in judged.values() if one["truth"].shape == case["truth"].shape]
        assert not any(torch.allclose(one["truth"], case["truth"], atol=0.01) for one in same)


def test_convolutions_within_are_in_int8_and_nothing_else(openvino: OpenVino, tmp_path: Path) -> None:
    error = _error(openvino, small_source(), small_inputs(), tmp_path)
    assert 1e-6 < error < 2e-2, "something is computed in int8"
    model = (tmp_path / "model.xml").read_text("utf-8")
    assert model.count('type="FakeQuantize"') == 1, "what goes into one of three convolutions"


def test_data_consistency_is_in_fp32(openvino: OpenVino, tmp_path: Path) -> None:
    small = small_source()
    weights = {name: 0 * one if name.startswith("last") else one for name, one in small.tensors.items()}
    source = GraphSource(small.inputs, small.programs, weights, small.samples)
    assert _error(openvino, source, small_inputs(), tmp_path) < 1e-6


def test_ranges_are_taken_behind_the_first_norm(openvino: OpenVino, tmp_path: Path) -> None:
    """An image of another scale than those of the calibration is corrected as well: nothing is cut off.

    A first convolution in int8 would see one a tenth as bright as ten steps, and one ten times as bright cut off.
    """
    small = small_source()
    openvino.build(small, "int8", tmp_path)
    engine, eager = openvino.load(tmp_path, small, "int8"), Eager().load(tmp_path, small, "fp32")
    image, p = small_inputs()
    for scale in (0.01, 100.0):
        # Acquired whole, the data leave the network's correction as it is.
        whole = torch.stack((torch.eye(p.shape[-1]), torch.zeros_like(p[0, 0])))[None]
        correction = eager(scale * image, whole) - scale * image
        error = engine(scale * image, whole) - eager(scale * image, whole)
        assert float(error.norm() / correction.norm()) < 2e-2


def test_what_is_missing_is_said(openvino: OpenVino, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_source()
    bare = GraphSource(small.inputs, small.programs, small.tensors)
    assert "no cases to take ranges from" in str(openvino.lacks(bare, "int8"))
    assert openvino.lacks(bare, "bf16") is None
    monkeypatch.setattr("scanside.engines.backends.int8.find_spec", lambda _: None)
    assert "pip install 'scanside[int8]'" in str(openvino.lacks(small, "int8"))


def test_without_a_bf16_graph_it_is_not_known_where_parts_begin(openvino: OpenVino, tmp_path: Path) -> None:
    small = small_source()
    source = GraphSource(small.inputs, {"fp32": small.program("fp32")}, small.tensors, small.samples)
    with pytest.raises(EngineError, match="the bf16 graph says where network parts begin and end"):
        openvino.build(source, "int8", tmp_path)


_QUANTISE = """
import sys
from pathlib import Path
from scanside.engines.backends.openvino import OpenVino
from scanside.testing.backends import small_source
OpenVino().build(small_source(), "int8", Path(sys.argv[1]))
print("openvino_telemetry.backend" in sys.modules)
"""


@pytest.mark.slow
def test_nobody_is_told_what_is_quantised(openvino: OpenVino, tmp_path: Path) -> None:
    """Neither NNCF's telemetry nor its progress bars are there, and the home folder stays empty."""
    home, engine = tmp_path / "home", tmp_path / "engine"
    home.mkdir()
    engine.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", _QUANTISE, str(engine)],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == ["False"]
    assert list(home.iterdir()) == []
    assert logging.getLoggerClass() is logging.Logger
