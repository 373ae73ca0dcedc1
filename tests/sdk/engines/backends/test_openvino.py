"""Backend OpenVino."""

from __future__ import annotations

from scanside.engines.backends.openvino import OpenVino
from scanside.testing import BackendTests


class TestOpenVino(BackendTests):
    def backend(self) -> OpenVino:
        return OpenVino()
