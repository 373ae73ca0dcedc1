"""What holds data of patients goes with its process, whatever ends that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from scanside.scratch import ScratchFolder, is_abandoned, remove_abandoned, replacing

pytestmark = pytest.mark.torch_free

HOLDS = """
import sys, time
from pathlib import Path
from scanside.scratch import ScratchFolder, replacing

scratch = ScratchFolder("scanside-test-")
(scratch.path / "image.npy").write_bytes(b"a patient")
with replacing(Path(sys.argv[1]) / "image.png") as draft:
    draft.write_bytes(b"a patient")
    print(scratch.path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's place for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def make_old(path: Path) -> None:
    os.utime(path, (time.time() - 60,) * 2, follow_symlinks=False)


def test_folder_is_private_and_goes(temporary: Path) -> None:
    with ScratchFolder("scanside-test-") as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "image.npy").touch()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(temporary: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        held = Path(process.stdout.readline().decode().strip())
        (draft,) = tmp_path.glob(".image.*.part")
        make_old(held)
        make_old(draft)
        ScratchFolder("scanside-test-").remove()
        remove_abandoned(tmp_path, ".*.part")
        assert (held / "image.npy").exists()  # it lives
        assert draft.exists()
        process.send_signal(signal.SIGKILL)
    ScratchFolder("scanside-test-").remove()
    remove_abandoned(tmp_path, ".*.part")
    assert list(temporary.iterdir()) == []
    assert not draft.exists()


def test_only_what_is_ours_goes(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "file").touch()
    (temporary / "scanside-test-link").symlink_to(precious)
    (temporary / "scanside-test-file").touch()
    (temporary / "scanside-test-open").mkdir(mode=0o755)
    (temporary / "scanside-test-new").mkdir(mode=0o700)  # perhaps its lock is just being made
    (temporary / "other").mkdir(mode=0o700)
    (temporary / "scanside-test-odd").mkdir(mode=0o700)
    (temporary / "scanside-test-odd" / ".lock").symlink_to(precious / "file")
    for path in temporary.iterdir():
        if path.name != "scanside-test-new":
            make_old(path)
    before = set(temporary.iterdir())
    ScratchFolder("scanside-test-").remove()
    assert set(temporary.iterdir()) == before
    assert (precious / "file").exists()
    make_old(temporary / "scanside-test-new")
    monkeypatch.setattr(os, "geteuid", lambda: -1)  # another user's
    ScratchFolder("scanside-test-").remove()
    assert set(temporary.iterdir()) == before
    monkeypatch.undo()


def test_draft_becomes_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.json") as draft:
        draft.write_text("whole")
        make_old(draft)
        assert not is_abandoned(draft)
    assert (tmp_path / "a.json").read_text() == "whole"
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "a.json") as draft:
            draft.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert (tmp_path / "a.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_abandoned_files(tmp_path: Path) -> None:
    for name in (".old.part", ".young.part", "whole.part"):
        (tmp_path / name).touch()
    (tmp_path / ".link.part").symlink_to(tmp_path / "whole.part")
    for name in (".old.part", "whole.part", ".link.part"):
        make_old(tmp_path / name)
    remove_abandoned(tmp_path, ".*.part")
    remove_abandoned(tmp_path / "nowhere", ".*.part")
    assert {path.name for path in tmp_path.iterdir()} == {".young.part", "whole.part", ".link.part"}
