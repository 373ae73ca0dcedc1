"""Folders that cannot be written are told with their disk."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from scanside.errors import RunError
from scanside.storage import has_no_room, is_storage_error, naming_disk, storage_problem, user_cache

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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["of the system", "of a library"],
)
def test_folder_and_disk_are_named(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(RunError, match="No space left on device") as caught,
        naming_disk(tmp_path, "it stopped"),
    ):
        raise error
    assert str(caught.value).startswith(f"it stopped: {tmp_path}, on the disk at /")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a wrong setting"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/data.npz"),
    ],
    ids=["no storage", "another file"],
)
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, naming_disk(tmp_path, "it stopped"):
        raise error
    assert caught.value is error


def test_room(tmp_path: Path) -> None:
    assert not has_no_room(tmp_path, 1)
    assert has_no_room(tmp_path, 10**18)
    assert has_no_room(tmp_path / "nowhere", 1)


def test_cache_of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert user_cache().parent == Path(tempfile.gettempdir())
