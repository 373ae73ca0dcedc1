"""Threads that wait sleep soon, unless somebody has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scanside.threads import sleep_soon

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize(
    ("there", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_what_is_chosen_stands(there: dict[str, str], expected: str | None) -> None:
    environment = dict(there)
    sleep_soon(environment)
    assert environment.get("GOMP_SPINCOUNT") == expected


def test_torch_is_not_loaded_before() -> None:
    """Libraries read it when they are loaded."""
    code = "import scanside.cli, scanside_gadgetron.node, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=dict(os.environ))
