"""Backend OpenVino."""

from __future__ import annotations

import logging
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
