"""Backend OpenVino."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from scanside.engines.backends.openvino import OpenVino
from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.errors import EngineError
from scanside.testing import BackendTests


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
