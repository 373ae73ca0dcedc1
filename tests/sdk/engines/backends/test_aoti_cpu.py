"""Backend AotiCpu."""

from __future__ import annotations

import pytest

from scanside.engines.backends.aoti_cpu import AotiCpu
from scanside.testing import BackendTests


@pytest.mark.slow
class TestAotiCpu(BackendTests):
    def backend(self) -> AotiCpu:
        return AotiCpu()
