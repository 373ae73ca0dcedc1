"""Backend TensorRtRtx."""

from __future__ import annotations

import pytest

from scanside.engines.backends.tensorrt_rtx import TensorRtRtx
from scanside.testing import BackendTests


@pytest.mark.cuda
@pytest.mark.tensorrt
class TestTensorRtRtx(BackendTests):
    def backend(self) -> TensorRtRtx:
        return TensorRtRtx()
