"""Backend Eager."""

from __future__ import annotations

from scanside.engines.backends.eager import Eager
from scanside.testing import BackendTests


class TestEager(BackendTests):
    def backend(self) -> Eager:
        return Eager()
