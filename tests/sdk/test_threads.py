"""Threads that wait sleep soon, and small products have one, unless somebody has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np  # noqa: F401 — its BLAS is what this is about
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from scanside.threads import one_blas_thread, sleep_soon

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
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=dict(os.environ))


def threads_of_numpy() -> list[int]:
    """SciPy's wheels bring a BLAS of their own, which counts as little as torch's."""
    return [
        found["num_threads"]
        for found in threadpool_info()
        if Path(found["filepath"]).parent.name == "numpy.libs"
    ]


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with threadpool_limits(2):
        yield


@pytest.mark.usefixtures("two_threads")
def test_numpy_has_one_thread_within_and_all_afterwards() -> None:
    with one_blas_thread():
        assert threads_of_numpy() == [1]
    assert threads_of_numpy() == [2]


@pytest.mark.usefixtures("two_threads")
def test_threads_that_were_chosen_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with one_blas_thread():
        assert threads_of_numpy() == [2]
