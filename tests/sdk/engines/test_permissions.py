"""Who else could change a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scanside.engines.permissions import who_else_can_write

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no POSIX owners"),
]


@pytest.mark.parametrize(("mode", "others"), [(0o600, False), (0o644, False), (0o664, True), (0o602, True)])
def test_mode(tmp_path: Path, mode: int, others: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    assert (who_else_can_write(path) is not None) == others


def test_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    if path.stat().st_uid == 0:
        if os.getuid() != 0:
            pytest.skip("files here belong to root")
        os.chown(path, 12345, -1)
        assert who_else_can_write(path) == "it belongs to user 12345"
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert who_else_can_write(path) == f"it belongs to user {path.stat().st_uid}"


def test_links_are_never_trusted(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert who_else_can_write(tmp_path / "link") == "it is a symbolic link"
