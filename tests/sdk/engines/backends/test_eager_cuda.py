"""Backend EagerCuda."""

from __future__ import annotations

import pytest

from scanside.engines.backends.eager_cuda import EagerCuda
from scanside.testing import BackendTests


@pytest.mark.cuda
class TestEagerCuda(BackendTests):
    def backend(self) -> EagerCuda:
        return EagerCuda()
