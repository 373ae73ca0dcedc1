from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from scanside.datasets.bart_files import read_cfl, write_cfl
from scanside.errors import ConfigError, FormatError


def test_bart_reads_what_is_written_and_the_other_way(bart: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((5, 4, 1, 3)) + 1j * rng.standard_normal((5, 4, 1, 3))).astype(np.complex64)
    write_cfl(tmp_path / "a", values)
    subprocess.run([bart, "transpose", "0", "3", "a", "b"], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(read_cfl(tmp_path / "b"), values.transpose(3, 1, 2, 0))


def test_truncated(tmp_path: Path) -> None:
    write_cfl(tmp_path / "a", np.ones((4, 4, 1, 2)))
    data = tmp_path / "a.cfl"
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(FormatError, match=r"31 samples.*4 × 4 × 1 × 2 = 32"):
        read_cfl(tmp_path / "a")


def test_missing_and_no_header(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.hdr does not exist"):
        read_cfl(tmp_path / "a")
    write_cfl(tmp_path / "a", np.ones((4, 4)))
    (tmp_path / "a.hdr").write_text("4 4\n")
    with pytest.raises(FormatError, match="# Dimensions"):
        read_cfl(tmp_path / "a")
