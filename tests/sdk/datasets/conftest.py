"""What tests of readers share: a scan whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from scanside.datasets import DATASETS


@pytest.fixture
def coil_images() -> npt.NDArray[np.complex64]:
    """``(slice, coil, k1, k0)`` of an object that is longer than wide and lies off the middle."""
    return coils_of(3, 4, 36, 64)


def coils_of(n_slices: int, n_coils: int, n1: int, n0: int) -> npt.NDArray[np.complex64]:
    """Ellipses of growing size with a bright corner, seen by coils around them."""
    y, x = np.meshgrid(np.linspace(-1, 1, n1), np.linspace(-1, 1, n0), indexing="ij")
    made: list[Any] = []
    for number in range(n_slices):
        size = 0.5 + 0.1 * number
        body = ((y / size) ** 2 + ((x - 0.05) / (0.7 * size)) ** 2 < 1) * (1 + 0.3 * y)
        body = body + 2.0 * ((np.abs(y - 0.2) < 0.08) & (np.abs(x + 0.1) < 0.1))
        angles = 2 * np.pi * np.arange(n_coils) / n_coils
        maps = [np.exp(-((y - np.sin(a)) ** 2) - (x - np.cos(a)) ** 2 + 1j * (a + y)) for a in angles]
        made.append([one * body for one in maps])
    return np.asarray(made, np.complex64)


def rewrite(file: h5py.File, name: str, value: Any) -> None:
    """Put another array in one's place."""
    del file[name]
    file[name] = value


def recognised_as(path: Path) -> list[str]:
    """All data sets of which a file looks like one."""
    return [name for name in DATASETS.names() if DATASETS.load(name).recognises(path)]
