"""What tests of engines share."""

from __future__ import annotations

import pytest


@pytest.fixture
def rtx_builder() -> None:
    """Skips where no plans can be built; `make test-full` runs these tests in an environment that can."""
    from scanside.engines.backends.trt_build import RTX, cannot_convert

    if reason := cannot_convert(RTX):
        pytest.skip(f"{reason}; make .venv-tensorrt/.installed makes an environment with it")
