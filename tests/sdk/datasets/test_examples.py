"""Examples of all data sets: their readers take every file, and find nothing wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanside.datasets import DATASETS, IMAGE_DATASETS
from scanside.datasets.checking import check_folder
from scanside.datasets.examples import example_names, write_example
from scanside.errors import ConfigError


def test_every_data_set_has_one() -> None:
    assert set(example_names()) == {*DATASETS.names(), *IMAGE_DATASETS.names()}


@pytest.mark.parametrize("name", example_names())
def test_files_are_of_their_data_set(tmp_path: Path, name: str) -> None:
    paths = write_example(name, tmp_path / "new")
    found = check_folder(tmp_path / "new")
    assert found.broken == ()
    assert set(found.datasets) == {name}
    assert found.n_images(name) > 0
    with_images = {tmp_path / "new" / one.path for one in found.files if one.n_images}
    assert with_images == set(paths)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no example of 'fastmir'; there are bart, "):
        write_example("fastmir", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is no empty folder"):
        write_example("fastmri", tmp_path)
