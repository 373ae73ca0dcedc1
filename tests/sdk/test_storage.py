"""Folders that cannot be written are told with their disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from scanside.storage import is_storage_error, storage_problem

pytestmark = pytest.mark.torch_free


def test_names_folder_disk_and_room(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    said = storage_problem(OSError(errno.ENOSPC, "No space left on device"), missing)
    assert said.startswith(f"{missing}, on the disk at /")
    assert "MB free: No space left on device" in said


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="directory") as caught:
        (tmp_path / "file" / "folder").mkdir()
    assert storage_problem(caught.value, tmp_path / "file" / "folder").endswith("Not a directory")


def test_what_an_error_came_from_counts() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("the compiler failed")
    wrapped.__cause__ = full
    assert is_storage_error(wrapped)
    assert not is_storage_error(OSError(errno.ENOENT, "No such file or directory"))
