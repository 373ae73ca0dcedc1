"""Tests for other people's stages, networks, engine backends and transports: subclass them, or call them.

A stage of yours passes them like this, under pytest::

    from scanside.testing import StageTests

    class TestNegate(StageTests):
        def stage(self):
            return Negate(offset=1.0)

What is in here is imported when it is first used, so that tests of transports need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanside.testing.adjoint import assert_adjoint
    from scanside.testing.backends import BackendTests
    from scanside.testing.small import (
        small_image,
        small_kspace,
        small_readouts,
        small_scan,
        small_waveform,
    )
    from scanside.testing.stages import StageTests
    from scanside.testing.transports import TransportTests

__all__ = [
    "BackendTests",
    "NetworkTests",
    "StageTests",
    "TransportTests",
    "assert_adjoint",
    "small_image",
    "small_kspace",
    "small_readouts",
    "small_scan",
    "small_waveform",
]

_MODULES = {
    "BackendTests": "scanside.testing.backends",
    # Certifying a network takes all of training and deployment, which are above this package.
    "NetworkTests": "scanside_deploy.testing",
    "StageTests": "scanside.testing.stages",
    "TransportTests": "scanside.testing.transports",
    "assert_adjoint": "scanside.testing.adjoint",
    **dict.fromkeys(
        ("small_image", "small_kspace", "small_readouts", "small_scan", "small_waveform"),
        "scanside.testing.small",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'scanside.testing' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
