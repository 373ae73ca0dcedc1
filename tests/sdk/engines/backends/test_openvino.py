"""Backend OpenVino."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

from scanside.engines.backends.base import Backend, Precision, Source
from scanside.engines.backends.eager import Eager
from scanside.engines.backends.openvino import OpenVino
from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import find_bundle
from scanside.engines.check import relative_error
from scanside.engines.graph import GraphSource
from scanside.engines.probes import Network, make_probes, read_cases
from scanside.errors import EngineError
from scanside.testing import BackendTests
from scanside.testing.backends import small_inputs, small_source


class TestOpenVino(BackendTests):
    def backend(self) -> OpenVino:
        return OpenVino()


def test_a_graph_that_it_cannot_convert_is_refused(learned_bundles: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'scanside[openvino]'")
    complex_inside = BundleSource(Bundle.open(learned_bundles / "gradient"), (32, 32), 4)
    root = logging.getLogger()
    before = (root.level, list(root.filters), list(root.handlers))
    with pytest.raises(EngineError, match="openvino cannot convert the graph"):
        OpenVino().build(complex_inside, "fp32", tmp_path)
    assert (root.level, root.filters, root.handlers) == before, "what others log is not lost afterwards"


@pytest.fixture
def openvino() -> OpenVino:
    """The backend, where it computes in bf16."""
    one = OpenVino()
    if (reason := one.available()) is not None:
        pytest.skip(reason)
    if "bf16" not in one.precisions():
        pytest.skip("this CPU has no bf16")
    return one


def _error(
    one: Backend, source: Source, precision: Precision, inputs: Sequence[torch.Tensor], path: Path
) -> float:
    """Of an engine that is built for it, relative to eager fp32."""
    one.build(source, precision, path)
    result = one.load(path, source, precision)(*inputs)
    return relative_error(result, Eager().load(path, source, "fp32")(*inputs))


def test_bf16_leaves_data_consistency_alone(openvino: OpenVino, tmp_path: Path) -> None:
    """Of a network that corrects nothing only data consistency is left: in bf16 it would be wrong by 2.5e-4."""
    small = small_source()
    weights = {name: 0 * one if name.startswith("last") else one for name, one in small.tensors.items()}
    source = GraphSource(small.inputs, small.programs, weights)
    assert _error(openvino, source, "bf16", small_inputs(), tmp_path) < 1e-6


@pytest.mark.slow
def test_bf16_is_as_exact_as_pytorch_with_the_same_graph(openvino: OpenVino, tmp_path: Path) -> None:
    """Trained weights and a real image; with means and squares in bf16 the error is 1.6 times as large."""
    bundle = Bundle.open(find_bundle("brain-student"))
    source = BundleSource(bundle, (64, 64))
    network = Network("image", "none", source.inputs)
    inputs = make_probes(network, read_cases("image", bundle.vectors()))[0].inputs
    with_pytorch = _error(Eager(), source, "bf16", inputs, tmp_path)
    assert _error(openvino, source, "bf16", inputs, tmp_path) < 1.2 * with_pytorch


_CONVERT = """
import sys
import torch
from scanside.engines.backends.openvino import OpenVino, _imported
if sys.argv[1] == "quiet":
    assert OpenVino().available() is None
    openvino = _imported()
else:
    import openvino
openvino.convert_model(torch.nn.ReLU(), example_input=torch.zeros(3))
print("openvino_telemetry.backend" in sys.modules)
"""


_OF_BUILD_SERVERS = ("CI", "TF_BUILD", "JENKINS_URL")
"""Variables where telemetry is silent by itself."""


@pytest.mark.slow
@pytest.mark.skipif(
    not any(distributions(name="openvino-telemetry")),
    reason="needs openvino's telemetry: it is what is kept out",
)
def test_nobody_is_told_what_runs_here(tmp_path: Path) -> None:
    """OpenVINO's telemetry, which writes an identity into the home folder and sends, is not even imported."""

    def run(how: str) -> tuple[str, list[str]]:
        home = tmp_path / how
        home.mkdir()
        # The proxy is none: the run that shows what would happen tells nobody either.
        nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
        elsewhere = {key: value for key, value in os.environ.items() if key not in _OF_BUILD_SERVERS}
        ended = subprocess.run(
            [sys.executable, "-c", _CONVERT, how],
            env={**elsewhere, **nowhere, "HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout.split()[-1], sorted(path.name for path in home.iterdir())

    assert run("quiet") == ("False", [])
    loud, files = run("loud")
    assert loud == "True"
    assert "intel" in files, "what the guard keeps away"
