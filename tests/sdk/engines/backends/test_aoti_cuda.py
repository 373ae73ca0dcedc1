"""Backend AotiCuda."""

from __future__ import annotations

import pytest

from scanside.engines.backends.aoti_cuda import AotiCuda
from scanside.testing import BackendTests


@pytest.mark.cuda
class TestAotiCuda(BackendTests):
    def backend(self) -> AotiCuda:
        return AotiCuda()
