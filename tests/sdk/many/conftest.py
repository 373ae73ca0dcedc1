"""Small recordings, and a worker that any process can make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from scanside.many import Worker
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.testing import small_readouts, small_scan


@pytest.fixture(scope="session")
def evaluates() -> Callable[[], Worker]:
    """Makes a worker whose tasks are Python expressions. The modules of tests cannot be imported by other processes,
    but this can be pickled, as `eval` is built in.
    """
    return partial(eval, "lambda code: eval(code)")


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six recordings of different content, two of one name, and one that is none."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / "more").mkdir()
    for i, name in enumerate(("a.h5", "b.h5", "c.h5", "d.h5", "more/a.h5", "more/e.h5")):
        with Hdf5Writer(folder / name, small_scan().header.xml) as writer:
            for block in small_readouts():
                writer.write(
                    block.with_samples(block.samples[..., ::-1] if i % 2 else (i + 1) * block.samples)
                )
    (folder / "broken.h5").write_text("this is no scan")
    (folder / "notes.txt").write_text("neither is this")
    return folder
