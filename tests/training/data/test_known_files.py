"""Files are opened once, and what was changed since is noticed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.data.fastmri_files import write_images

from scanside.datasets.fastmri import FastMriFile
from scanside.errors import ConfigError, FileFormatError
from scanside_training.data import DataConfig, ReconstructionData, SampleKey
from scanside_training.data.fastmri import FastMri


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(4):
        images = np.random.default_rng(n).uniform(0.1, 1, (2, 32, 32)).astype(np.float32)
        write_images(tmp_path / f"file{n}.h5", images, f"patient-{n}", n_coils=2)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files were opened."""
    found: Counter[str] = Counter()
    before = FastMriFile.__init__

    def count(self: FastMriFile, path: Path) -> None:
        found[path.name] += 1
        before(self, path)

    monkeypatch.setattr(FastMriFile, "__init__", count)
    return found


def data_of(folder: Path, **source: Any) -> ReconstructionData:
    settings = {"kind": "fastmri", "folder": folder, "what": "kspace"} | source
    simulation = {"k1": [32, 32], "k0": [32, 32], "readout_crop": None, "multiple": 8}
    simulation |= {"masks": {"acceleration": [2, 2], "acs": [12, 12]}}
    config = {"sources": [settings], "simulation": simulation, "batch_size": 1}
    return ReconstructionData(DataConfig.model_validate(config))


def test_all_parts_share_what_is_known(folder: Path, opened: Counter[str]) -> None:
    data = data_of(folder, split={"validation": 0.25, "test": 0.25})
    data.prepare_data()
    for part in ("train", "validation", "test"):
        data.samples(part)  # type: ignore[arg-type]
    assert opened == {f"file{n}.h5": 1 for n in range(4)}
    FastMri(folder=folder).open()  # what its images are is another question
    assert set(opened.values()) == {2}


def test_a_file_that_was_changed_before_is_looked_into_again(folder: Path) -> None:
    FastMri(folder=folder).open()
    write_images(folder / "file1.h5", np.ones((3, 32, 32), np.float32), "patient-9", n_coils=2)
    assert FastMri(folder=folder).open().subjects.count("patient-9") == 3


@pytest.mark.parametrize("change", ["rewritten", "touched", "removed"])
def test_a_file_that_is_changed_in_the_middle_of_a_run(folder: Path, change: str) -> None:
    samples = data_of(folder, split={"train": ["patient-1"]}).samples("train")
    samples[SampleKey(0, 0, 0)]
    path = folder / "file1.h5"
    if change == "rewritten":
        write_images(path, np.ones((4, 32, 32), np.float32), "patient-1", n_coils=2)
    elif change == "touched":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    else:
        path.unlink()
    text = (
        "was there when the run began, and cannot be read now" if change == "removed" else "was changed while"
    )
    with pytest.raises(FileFormatError, match=rf"file1\.h5 {text}"):
        samples[SampleKey(0, 1, 1)]


def test_an_empty_part(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no source \(fastmri\) has a slice for validation"):
        data_of(folder, split={"train": ["patient-1"]}).samples("validation")


def test_a_table_says_whose_files_are(folder: Path) -> None:
    table = folder / "whose.csv"
    rows = [f"file{n}.h5,{'ab'[n // 2]}" for n in range(4)]
    table.write_text("\n".join(["file,subject", *rows]))
    assert FastMri(folder=folder, subjects=table).open().subjects == ("a",) * 4 + ("b",) * 4
    table.write_text("\n".join(["file,subject", *rows, "file1.h5,b"]))
    with pytest.raises(
        ConfigError, match=r"line 6: .*file1\.h5 is of subject 'b' here, and of 'a' in a line before"
    ):
        FastMri(folder=folder, subjects=table).open()
    table.write_text("\n".join(["file,subject", *rows[:2]]))
    with pytest.raises(
        ConfigError, match=r"does not say whose .*file2\.h5 is \(2 files of 4 are not in it\)"
    ):
        FastMri(folder=folder, subjects=table).open()
