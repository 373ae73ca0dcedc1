"""Reading one slice after the other keeps nothing: neither memory nor open files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.training.data.fastmri_files import write_images

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")

_READ = """
import json, os, sys
from pathlib import Path
from scanside_training.data.fastmri import FastMri

def state():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd"))

slices = FastMri(folder=Path(sys.argv[1]), what="kspace").open()
told = []
for number in range(len(slices)):
    slices[number]
    if number + 1 in (int(n) for n in sys.argv[2:]):
        told.append(state())
print(json.dumps(told))
"""


def after(folder: Path, n_files: int, *at: int) -> list[tuple[float, int]]:
    """Memory in MB and number of open files of a process that has read so many files."""
    images = np.random.default_rng(0).uniform(0.1, 1, (1, 96, 96)).astype(np.float32)
    folder.mkdir()
    write_images(folder / "file0.h5", images, "patient", n_coils=8)
    for number in range(1, n_files):
        shutil.copy(folder / "file0.h5", folder / f"file{number}.h5")
    words = [sys.executable, "-c", _READ, str(folder), *map(str, at)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found: list[tuple[float, int]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_files(tmp_path: Path) -> None:
    """Each file holds 1.2 MB of k-space: if a hundredth of it stayed, it would show."""
    (hundred, open_then), (thousand, open_now) = after(tmp_path / "files", 1000, 100, 1000)
    assert thousand - hundred < 8
    assert open_now == open_then
